"""Reading one JSON value of a schedule: its type, its limits, and an error that names the field and the fix.

Every function takes the value and the name of its field ("backoff.initial" for an inner one) and raises
InvalidArgument. A JSON null is never read as "absent": leaving a field out is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from scheduler.core.errors import InvalidArgument
from scheduler.core.triggers import FIRST, LAST
from scheduler.wire.instants import format_duration, parse_duration, parse_instant

_ZERO = timedelta(0)
_MILLISECOND = timedelta(milliseconds=1)


class RepeatedName(dict[str, Any]):
    """A JSON object in which a name came twice: harmless inside a payload, an error in the schedule itself."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.repeated = next(name for name in names if names.count(name) > 1)


def shown(value: object) -> str:
    """The value for an error message, short whatever it is."""
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int) and abs(value) > 10**18:
        return "that number"
    return repr(value)[:60]


def wrong(value: object, field: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"{field} must be {rule}, not {shown(value)}", field=field)


def text(value: object, field: str, *, longest: int, lines: bool = False) -> str:
    """Printable text of at most `longest` characters; with `lines`, line breaks and tabs too."""
    if not isinstance(value, str):
        raise wrong(value, field, "text")
    if len(value) > longest:
        raise InvalidArgument(f"{field} has {len(value)} characters, more than {longest}", field=field)
    plain = value.replace("\n", "").replace("\r", "").replace("\t", "") if lines else value
    if not plain.isprintable():
        raise InvalidArgument(f"{field} holds characters that cannot be printed", field=field)
    return value


def flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise wrong(value, field, "true or false")
    return value


def integer(value: object, field: str, lowest: int, highest: int) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise wrong(value, field, f"a whole number from {lowest} to {highest}")
    return value


def number(value: object, field: str, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise wrong(value, field, f"a number from {lowest:g} to {highest:g}")
    return float(value)


def choice(value: object, field: str, words: Iterable[str]) -> str:
    known = list(words)
    if not isinstance(value, str) or value not in known:
        raise InvalidArgument(
            f"{field} must be one of {', '.join(known)}, not {shown(value)}{hint(value, known)}", field=field
        )
    return value


def duration(value: object, field: str, *, shortest: timedelta = _MILLISECOND) -> timedelta:
    """Text such as "10m", at least `shortest` (0 where nothing is a sensible value) and at most ten years."""
    if not isinstance(value, str):
        raise wrong(value, field, 'a duration in text, as in "10m"')
    try:
        span = parse_duration(value, field=field)
    except InvalidArgument as problem:
        raise InvalidArgument(f"{field}: {problem.message}", field=field) from None
    if span < shortest:
        raise InvalidArgument(f"{field} must be at least {format_duration(shortest)}, not {shown(value)}", field=field)
    return span


def duration_or_zero(value: object, field: str) -> timedelta:
    return duration(value, field, shortest=_ZERO)


def instant(value: object, field: str) -> datetime:
    """RFC 3339 with an offset, between 1970 and 2199 (the broker's clock ends in 2262)."""
    if not isinstance(value, str):
        raise wrong(value, field, "an instant in text, as in 2026-11-21T08:00:00Z")
    try:
        at = parse_instant(value, field=field)
    except InvalidArgument as problem:
        raise InvalidArgument(f"{field}: {problem.message}", field=field) from None
    if not FIRST <= at <= LAST:
        raise InvalidArgument(f"{field} must lie between the years 1970 and 2199, not {shown(value)}", field=field)
    return at


def one_or_more(value: object, field: str, *, most: int) -> list[Any]:
    """A value or a list of them, as a list of 1 to `most`."""
    values = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(values) <= most:
        raise InvalidArgument(f"{field} must hold 1 to {most} entries, not {len(values)}", field=field)
    return list(values)


def fields_of(value: object, field: str | None, known: Iterable[str]) -> Mapping[str, Any]:
    """A JSON object with no other fields than these, none of them twice. `field` None: the schedule itself."""
    what = field or "a schedule"
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{what} must be a JSON object, not {shown(value)}", field=field)
    if isinstance(value, RepeatedName):
        raise InvalidArgument(
            f"{what} has the field {shown(value.repeated)} twice", field=_inner(field, value.repeated)
        )
    names = known if isinstance(known, Mapping | frozenset) else frozenset(known)
    for name in value:
        if name not in names:
            raise InvalidArgument(f"{what} has no field {shown(name)}{hint(name, names)}", field=_inner(field, name))
    return value


def text_map(value: object, field: str, *, most: int) -> Mapping[str, Any]:
    """A JSON object whose names the caller checks, of at most `most` entries."""
    if not isinstance(value, Mapping):
        raise wrong(value, field, "an object of texts")
    if isinstance(value, RepeatedName):
        raise InvalidArgument(f"{field} has {shown(value.repeated)} twice", field=field)
    if len(value) > most:
        raise InvalidArgument(f"{field} has {len(value)} entries, more than {most}", field=field)
    return value


def hint(given: object, known: Iterable[str]) -> str:
    """`; did you mean 'timezone'?`, or nothing."""
    if not isinstance(given, str) or len(given) > 64:
        return ""
    close = difflib.get_close_matches(given.lower(), [str(name) for name in sorted(known)], n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _inner(field: str | None, name: object) -> str:
    short = str(name)[:64].encode("ascii", "backslashreplace").decode("ascii")
    return f"{field}.{short}" if field else short
