"""Reading a cron expression: 5 fields, 6 with seconds first, 7 with year last.

croniter 7 is the reader of record for the fields. Around it stands what it reads differently from cron or not at all:
shortcuts, `H` (hashed.py), `5-5` (croniter: the whole cycle; cron and here: 5), wrapping ranges with a step (croniter
is off by one), and a clear refusal for what it cannot do. What the fields then mean is cron_calendar.py and cron.py.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from croniter import croniter

from scheduler.core.errors import InvalidArgument
from scheduler.core.triggers.cron_calendar import LAST_NTH, DayRule, Days, Times, days_of
from scheduler.core.triggers.hashed import expand_h

EXPRESSION_MAX: Final = 256
SHORTCUTS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAY_NAMES: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS: Final = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_WEEKDAYS: Final = {name: number for number, name in enumerate(_WEEKDAY_NAMES)}


class _Field(NamedTuple):
    name: str
    lowest: int
    highest: int
    hash_highest: int
    names: dict[str, int]


_SECOND = _Field("second", 0, 59, 59, {})
_MINUTE = _Field("minute", 0, 59, 59, {})
_HOUR = _Field("hour", 0, 23, 23, {})
_DAY = _Field("day", 1, 31, 28, {})  # H keeps to 1-28, which every month has
_MONTH = _Field("month", 1, 12, 12, _MONTHS)
_WEEKDAY = _Field("weekday", 0, 7, 6, _WEEKDAYS)
_YEAR = _Field("year", 1970, 2099, 2099, {})
_FIELDS: Final = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _YEAR)

_RANGE: Final = re.compile(r"([0-9a-z]{1,4})-([0-9a-z]{1,4})(?:/([0-9]{1,4}))?", re.ASCII)
_RANDOM: Final = re.compile(r"r(?:\(.*|/.*)?", re.ASCII)
_LAST_WEEKDAY: Final = re.compile(r"([0-7]|sun|mon|tue|wed|thu|fri|sat)l", re.ASCII)
_PRINTABLE: Final = re.compile(r"[\t\x20-\x7e]*", re.ASCII)


class CronFields(NamedTuple):
    """A cron expression, read. `fixed`: neither minute nor hour begins with `*`, so daylight saving is smoothed."""

    times: Times
    days: Days
    fixed: bool


def uses_hash(expression: str) -> bool:
    """Whether the schedule id has a say in what the expression means."""
    return not expression.startswith("@") and any(part[:1] in "hH" for part in expression.split())


def read_cron(expression: str, schedule_id: str, *, field: str = "cron") -> CronFields:
    """The fields of an expression. Raises InvalidArgument that says which field is wrong and why.

    `@every` is not a cron expression but an interval; `compile_trigger` takes it out before it comes here.
    """
    try:
        return _read(_split(expression), schedule_id)
    except _Refused as refusal:
        raise InvalidArgument(f"{expression!r:.120} {refusal}", field=field) from None


class _Refused(ValueError):
    """Why an expression cannot be used; the text follows the expression in a sentence."""


def _split(expression: str) -> list[str]:
    if len(expression) > EXPRESSION_MAX or not _PRINTABLE.fullmatch(expression):
        raise _Refused(f"is not a cron expression: use at most {EXPRESSION_MAX} plain characters")
    text = expression.strip().lower()
    if text.startswith(("cron_tz=", "tz=")):
        raise _Refused("names a zone: put it into the field timezone instead")
    if text.startswith("@"):
        if text not in SHORTCUTS:
            known = " ".join((*SHORTCUTS, "@every 10m"))
            raise _Refused(f"is not a known shortcut: use one of {known}")
        text = SHORTCUTS[text]
    parts = text.split()
    if not 5 <= len(parts) <= 7:
        raise _Refused(f"has {len(parts)} fields: cron has 5, 6 with seconds first, 7 with the year last")
    return parts if len(parts) > 5 else ["0", *parts]


def _read(parts: list[str], schedule_id: str) -> CronFields:
    plain = [_plain(text, field, schedule_id) for text, field in zip(parts, _FIELDS, strict=False)]
    read = _croniter(plain)
    kinds = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _SECOND)
    found = (_numbers(values, kind) for values, kind in zip(read.expanded, kinds, strict=False))
    minutes, hours, days, months, weekdays, seconds = found
    rule = DayRule(
        days=None if _is_any(parts[3]) else (frozenset() if read.nearest_weekday else frozenset(days)),
        last="l" in read.expanded[2],
        nearest=frozenset(read.nearest_weekday),
        weekdays=None if _is_any(parts[5]) else frozenset(weekdays) - frozenset(read.nth_weekday_of_month),
        nth=_nth(read.nth_weekday_of_month),
        both=_begins_with_star(parts[3]) or _begins_with_star(parts[5]),
        months=frozenset(months),
        years=_years(read),
    )
    chosen = days_of(rule)
    if chosen.at_or_after(0) is None:
        raise _Refused("never fires: there is no such day")
    return CronFields(
        Times(hours, minutes, seconds), chosen, fixed=not (parts[1].startswith("*") or parts[2].startswith("*"))
    )


def _is_any(text: str) -> bool:
    return text in {"*", "?"}


def _begins_with_star(text: str) -> bool:
    """Vixie's rule: one of the two day fields begins with `*`: both must fit; otherwise one is enough."""
    return text.startswith(("*", "?"))


def _numbers(values: list[Any], field: _Field) -> tuple[int, ...]:
    """The numbers croniter found, sorted; all of them for `*`, to which it also shortens `*/1` and `0-59`."""
    if "*" in values:
        return tuple(range(field.lowest, field.highest + 1))
    return tuple(sorted(value for value in values if isinstance(value, int)))


def _nth(found: dict[Any, set[Any]]) -> frozenset[tuple[int, int]]:
    return frozenset((day, LAST_NTH if n == "l" else n) for day, numbers in found.items() for n in numbers)


def _years(read: croniter) -> frozenset[int] | None:
    if len(read.expanded) < 7 or "*" in read.expanded[6]:
        return None
    return frozenset(_numbers(read.expanded[6], _YEAR))


def _croniter(plain: list[str]) -> croniter:
    try:
        return croniter(" ".join(plain), start_time=0.0, second_at_beginning=True)
    except Exception as problem:  # whatever the library trips over is the expression's fault
        raise _Refused(f"is not a cron expression: {_blame(plain, problem)}") from None


def _blame(plain: list[str], problem: Exception) -> str:
    """Name the field that croniter refuses on its own; else its own words."""
    for index, text in enumerate(plain):
        alone = ["*"] * len(plain)
        alone[index] = text
        try:
            croniter(" ".join(alone), start_time=0.0, second_at_beginning=True)
        except Exception:
            field = _FIELDS[index]
            return f"{text!r} is no {field.name} ({field.lowest}-{field.highest})"
    return str(problem).splitlines()[0] if str(problem) else type(problem).__name__


def _plain(text: str, field: _Field, schedule_id: str) -> str:
    """One field in words that croniter reads as cron does."""
    if text.startswith("h"):
        if field is _YEAR:
            raise _Refused("hashes the year: write the years")
        try:
            return expand_h(text, field.name, field.lowest, field.hash_highest, schedule_id)
        except ValueError as problem:
            raise _Refused(f"is not a cron expression: {problem}") from None
    tokens = text.split(",")
    _refuse_unsupported(tokens, field)
    return ",".join(_plain_token(token, field) for token in tokens)


def _refuse_unsupported(tokens: list[str], field: _Field) -> None:
    for token in tokens:
        if _RANDOM.fullmatch(token):
            raise _Refused(f"is random in {token!r}: use H, which hashes the schedule id")
        if field is _DAY and (token in {"lw", "wl"} or token.startswith("l-")):
            raise _Refused(f"uses {token.upper()!r}, which is not supported yet")
        if field is _WEEKDAY and _LAST_WEEKDAY.fullmatch(token):
            raise _Refused(f"uses {token.upper()!r}, which is not supported yet: write L5 for the last Friday")
    special = sum("#" in token or (token[:1] == "l" and token[1:].isdigit()) for token in tokens)
    if field is _WEEKDAY and special not in {0, len(tokens)}:
        raise _Refused("mixes plain weekdays with # or L in one field, which is not supported yet: use two expressions")
    if field is _WEEKDAY and any(token.startswith("*#") for token in tokens):
        raise _Refused("puts # after *: name the weekday")


def _plain_token(token: str, field: _Field) -> str:
    match = _RANGE.fullmatch(token)
    if match is None:
        return token
    low, high = (field.names.get(match[n], int(match[n]) if match[n].isdigit() else None) for n in (1, 2))
    if (
        low is None
        or high is None
        or not (field.lowest <= low <= field.highest and field.lowest <= high <= field.highest)
    ):
        return token
    if low == high:
        return str(low)
    step = int(match[3] or 1)
    if low < high or step == 0:
        return token
    return _wrapped(low, high, step, field)


def _wrapped(low: int, high: int, step: int, field: _Field) -> str:
    """`22-2` in the hours, `fri-mon` in the weekdays: on over the end of the cycle."""
    if field is _YEAR:
        raise _Refused("has years that descend")
    size = 7 if field is _WEEKDAY else field.highest - field.lowest + 1
    span = (high - low) % size
    return ",".join(str((low - field.lowest + n) % size + field.lowest) for n in range(0, span + 1, step))
