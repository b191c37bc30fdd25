"""Fields of the schedule JSON whose behaviour is not built yet: checked like all others, then refused.

A schedule must never run as if a field were not there. Whoever builds one takes its entry out of here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from scheduler.core.durations import has_civil_units
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Overlap
from scheduler.wire import schedule_values as read

_BUILT_OVERLAPS: Final = frozenset({Overlap.SKIP, Overlap.ALLOW})


def check_built(document: Mapping[str, Any]) -> None:
    """Read the unbuilt fields too, so that a wrong value is named as such; then refuse the first right one."""
    asked = [field for field, asks in _NOT_BUILT.items() if field in document and asks(document[field], field)]
    if asked:
        raise InvalidArgument(f"{_NAMES.get(asked[0], asked[0])} is not supported yet", field=asked[0])


def _asks_instant(value: Any, field: str) -> bool:
    read.instant(value, field)
    return True


def _asks_duration(value: Any, field: str) -> bool:
    read.duration(value, field)
    return True


def _asks_jitter(value: Any, field: str) -> bool:
    return read.duration_or_zero(value, field) > timedelta(0)


def _asks_max_fires(value: Any, field: str) -> bool:
    read.integer(value, field, 1, 10**9)
    return True


def _asks_dst(value: Any, field: str) -> bool:
    given = read.fields_of(value, field, ("gap", "overlap"))
    gap = read.choice(given.get("gap", "next"), "dst.gap", ("next", "skip"))
    overlap = read.choice(given.get("overlap", "first"), "dst.overlap", ("first", "second", "both"))
    return (gap, overlap) != ("next", "first")


def _asks_exclude(value: Any, field: str) -> bool:
    if not isinstance(value, list | tuple):
        raise read.wrong(value, field, "a list of calendar names or cron expressions")
    for entry in value:
        if not read.text(entry, field, longest=256).strip():
            raise InvalidArgument("exclude holds an empty text", field=field)
    return len(value) > 0


def _asks_on_excluded(value: Any, field: str) -> bool:
    return read.choice(value, field, ("skip", "next_business_day", "previous_business_day")) != "skip"


_NOT_BUILT: Final[Mapping[str, Callable[[Any, str], bool]]] = {
    "after": _asks_duration,
    "rrule": lambda value, field: True,
    "every": lambda value, field: has_civil_units(value),
    "dst": _asks_dst,
    "starts_at": _asks_instant,
    "ends_at": _asks_instant,
    "max_fires": _asks_max_fires,
    "jitter": _asks_jitter,
    "exclude": _asks_exclude,
    "on_excluded": _asks_on_excluded,
    "overlap": lambda value, field: value not in _BUILT_OVERLAPS,
    "start_deadline": _asks_duration,
    "deadline": _asks_duration,
}
_NAMES: Final = {
    "every": "every in days or weeks (d, w)",
    "dst": "dst other than {gap: next, overlap: first}",
    "overlap": "overlap other than skip and allow",
}
