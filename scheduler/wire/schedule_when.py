"""The fields of a schedule that say when: exactly one trigger, and what narrows, shifts or moves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from scheduler.core.calendars import is_cron
from scheduler.core.durations import has_civil_units
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import (
    EPOCH,
    After,
    At,
    Cron,
    Dst,
    Every,
    EveryDays,
    Gap,
    Manual,
    OnExcluded,
    RRule,
    Trigger,
    Twice,
)
from scheduler.core.triggers.rrule_text import COUNT_MAX, read_rrule
from scheduler.wire import schedule_values as read
from scheduler.wire.ids import check_calendar_name

TRIGGER_FIELDS: Final = ("cron", "every", "after", "at", "rrule", "manual")
WHEN_FIELDS: Final = (
    *TRIGGER_FIELDS,
    *("anchor", "timezone", "dst", "starts_at", "ends_at", "max_fires", "jitter", "start_delay"),
    *("exclude", "on_excluded"),
)
EXPRESSIONS_MAX: Final = 64
RULES_MAX: Final = 16
INSTANTS_MAX: Final = 1000
EXCLUSIONS_MAX: Final = 64
FIRES_MAX: Final = 10**9
_DAY: Final = timedelta(days=1)


def read_when(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `core.model.Schedule` that say when, those left out at their defaults. Raises InvalidArgument."""
    found: dict[str, Any] = {"trigger": _trigger(document)}
    found |= {name: how(document[name], name) for name, how in _HOW.items() if name in document}
    _check_together(document, found)
    return found


def _trigger(document: Mapping[str, Any]) -> Trigger:
    given = [name for name in TRIGGER_FIELDS if name in document]
    if len(given) != 1:
        found = f"this has {' and '.join(given)}" if given else "this has none of them"
        choices = ", ".join(TRIGGER_FIELDS)
        raise InvalidArgument(f"say when with exactly one of {choices}; {found}", field=given[1] if given else "cron")
    kind = given[0]
    return _TRIGGERS[kind](document[kind], document)


def _cron(value: Any, document: Mapping[str, Any]) -> Cron:
    expressions = read.one_or_more(value, "cron", most=EXPRESSIONS_MAX)
    return Cron(tuple(read.text(expression, "cron", longest=1024, lines=True) for expression in expressions))


def _every(value: Any, document: Mapping[str, Any]) -> Every | EveryDays:
    interval = read.duration(value, "every")
    anchor = _anchor(document) or EPOCH
    if not has_civil_units(value):
        return Every(interval, anchor)
    if interval % _DAY or any(unit in value for unit in ("h", "m", "s")):
        raise InvalidArgument(
            f"every {read.shown(value)} mixes days of the calendar with hours: use whole days and weeks, or hours",
            field="every",
        )
    return EveryDays(interval // _DAY, anchor)


def _at(value: Any, document: Mapping[str, Any]) -> At:
    instants = [read.instant(entry, "at") for entry in read.one_or_more(value, "at", most=INSTANTS_MAX)]
    return At(tuple(sorted(set(instants))))


def _manual(value: Any, document: Mapping[str, Any]) -> Manual:
    if value is not True:
        raise read.wrong(value, "manual", "true, or left out")
    return Manual()


def _after(value: Any, document: Mapping[str, Any]) -> After:
    return After(read.duration(value, "after"))


def _rrule(value: Any, document: Mapping[str, Any]) -> RRule:
    rules, counted = [], 0
    for rule in read.one_or_more(value, "rrule", most=RULES_MAX):
        line = read.text(rule, "rrule", longest=1024, lines=True)
        if "DTSTART" in line.upper():
            raise InvalidArgument("rrule holds a DTSTART: put that instant into the field anchor", field="rrule")
        counted += read_rrule(line).count or 0
        rules.append(line)
    if counted > COUNT_MAX:
        raise InvalidArgument(f"rrule counts {counted} occurrences in all, more than {COUNT_MAX}", field="rrule")
    return RRule(tuple(rules), _anchor(document))


def _anchor(document: Mapping[str, Any]) -> datetime | None:
    return read.instant(document["anchor"], "anchor") if "anchor" in document else None


_TRIGGERS: Final[Mapping[str, Callable[[Any, Mapping[str, Any]], Trigger]]] = {
    "cron": _cron,
    "every": _every,
    "after": _after,
    "at": _at,
    "rrule": _rrule,
    "manual": _manual,
}


# --- beside the trigger
def _dst(value: Any, field: str) -> Dst:
    given = read.fields_of(value, field, ("gap", "overlap"))
    plain = Dst()
    return Dst(
        gap=Gap(read.choice(given.get("gap", plain.gap), "dst.gap", list(Gap))),
        overlap=Twice(read.choice(given.get("overlap", plain.overlap), "dst.overlap", list(Twice))),
    )


def _exclude(value: Any, field: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise read.wrong(value, field, "a list of calendar names or cron expressions")
    if len(value) > EXCLUSIONS_MAX:
        raise InvalidArgument(f"exclude must hold at most {EXCLUSIONS_MAX} entries, not {len(value)}", field=field)
    for entry in value:
        if not is_cron(read.text(entry, field, longest=256)):
            check_calendar_name(entry, field=field)
    return tuple(value)


_HOW: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "timezone": lambda value, field: read.text(value, field, longest=64),
    "dst": _dst,
    "starts_at": read.instant,
    "ends_at": read.instant,
    "max_fires": lambda value, field: read.integer(value, field, 1, FIRES_MAX),
    "jitter": read.duration_or_zero,
    "start_delay": read.duration_or_zero,
    "exclude": _exclude,
    "on_excluded": lambda value, field: OnExcluded(read.choice(value, field, list(OnExcluded))),
}


def _check_together(document: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    if "anchor" in document and "every" not in document and "rrule" not in document:
        raise InvalidArgument("anchor belongs to every or rrule", field="anchor")
    starts: datetime | None = found.get("starts_at")
    ends: datetime | None = found.get("ends_at")
    if "after" in document and found.get("on_excluded") is OnExcluded.PREVIOUS_BUSINESS_DAY:
        raise InvalidArgument(
            "on_excluded previous_business_day needs times that are known ahead, as after's are not: "
            "use skip or next_business_day",
            field="on_excluded",
        )
    if starts is not None and ends is not None and ends <= starts:
        raise InvalidArgument("ends_at must be after starts_at", field="ends_at")
