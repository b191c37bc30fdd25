"""The text of a recurrence rule (RFC 5545, 3.3.10) as values, held to every MUST of that section.

`FREQ=MONTHLY;BYDAY=-1FR` and so on, with or without `RRULE:` in front. What the RFC forbids is refused, with the part
and the fix: a rule that two programs read differently is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final

from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.core.triggers.base import FIRST, LAST, floor_second

COUNT_MAX: Final = 10_000
INTERVAL_MAX: Final = 1_000_000
WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_DAY_S: Final = 86_400
_BYDAY: Final = re.compile(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,7}", re.ASCII)
_UNTIL: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:T([0-9]{2})([0-9]{2})([0-9]{2})(Z?))?", re.ASCII)


class Freq(IntEnum):
    """From the finest to the coarsest, so that they compare."""

    SECONDLY = 0
    MINUTELY = 1
    HOURLY = 2
    DAILY = 3
    WEEKLY = 4
    MONTHLY = 5
    YEARLY = 6


class Rule(Struct, frozen=True):
    """One rule; None is a part that was not given. Weekdays count from Monday 0, in pairs (n or 0, weekday).

    `until_wall` is an UNTIL in local time, seconds since 1970 on those clocks; `until` one in UTC. Both inclusive.
    """

    freq: Freq
    interval: int = 1
    count: int | None = None
    until_wall: int | None = None
    until: datetime | None = None
    wkst: int = 0
    months: frozenset[int] | None = None
    weeks: frozenset[int] | None = None
    yeardays: frozenset[int] | None = None
    monthdays: frozenset[int] | None = None
    weekdays: frozenset[tuple[int, int]] | None = None
    hours: tuple[int, ...] | None = None
    minutes: tuple[int, ...] | None = None
    seconds: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None


def read_rrule(text: str) -> Rule:
    """The rule in this text. Raises InvalidArgument, field `rrule`, and nothing else."""
    rule = Rule(**_parts(text))
    for is_broken, why in _FORBIDDEN:
        if is_broken(rule):
            raise _wrong(text, why)
    return rule


def _parts(text: str) -> dict[str, Any]:
    line = text.strip().upper()
    if len(line.splitlines()) > 1:
        raise _wrong(text, "must be one line, one rule: give several as a list, and dates to leave out in exclude")
    found: dict[str, Any] = {}
    names: set[str] = set()
    for part in line.removeprefix("RRULE:").split(";"):
        name, equals, value = part.partition("=")
        if not equals or name not in _READ:
            known = ", ".join(_READ)
            raise _wrong(text, f"has {part[:30]!r}: write NAME=VALUE parts with ';' between them, of {known}")
        if name in names:
            raise _wrong(text, f"has {name} twice")
        names.add(name)
        try:
            found |= _READ[name](value)
        except ValueError as problem:
            raise _wrong(text, f"has {part[:40]!r}: {problem}") from None
    if "freq" not in found:
        raise _wrong(text, "has no FREQ, as in FREQ=DAILY")
    return found


def _wrong(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"rrule {text[:60]!r} {why}", field="rrule")


# --- parts
def _freq(value: str) -> dict[str, Any]:
    if value not in Freq.__members__:
        raise ValueError(f"one of {', '.join(Freq.__members__)} is meant")
    return {"freq": Freq[value]}


def _count_of(field: str, most: int) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        if not value.isascii() or not value.isdigit() or len(value) > 9 or not 1 <= int(value) <= most:
            raise ValueError(f"a whole number from 1 to {most} is meant")
        return {field: int(value)}

    return read


def _until(value: str) -> dict[str, Any]:
    """A date alone counts as a whole: its last second is the end."""
    match = _UNTIL.fullmatch(value)
    if match is None:
        raise ValueError("20271231T235959Z (UTC), 20271231T235959 (local) or 20271231 is meant")
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    hour, minute, second = (int(match[4]), int(match[5]), int(match[6])) if match[4] else (23, 59, 59)
    at = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    if not FIRST <= at <= LAST - timedelta(days=1):
        raise ValueError("a time between the years 1970 and 2199 is meant")
    return {"until": at} if match[7] else {"until_wall": floor_second(at)}


def _numbers(field: str, lowest: int, highest: int, *, negative: bool = False) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        return {field: frozenset(_number(each, lowest, highest, negative=negative) for each in value.split(","))}

    return read


def _times(field: str, highest: int) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        numbers = {_number(each, 0, highest) for each in value.split(",")}
        return {field: tuple(sorted({min(each, 59) for each in numbers}))}  # a leap second is the one before it

    return read


def _number(text: str, lowest: int, highest: int, *, negative: bool = False) -> int:
    found = int(text) if _NUMBER.fullmatch(text) else highest + 1
    if not (lowest <= found <= highest or (negative and lowest <= -found <= highest)):
        raise ValueError(f"numbers from {lowest} to {highest}{' or their negatives' if negative else ''} are meant")
    return found


def _positions(value: str) -> dict[str, Any]:
    return {"positions": tuple(sorted({_number(each, 1, 366, negative=True) for each in value.split(",")}))}


def _byday(value: str) -> dict[str, Any]:
    found = set()
    for each in value.split(","):
        match = _BYDAY.fullmatch(each)
        if match is None:
            raise ValueError("weekdays as MO, 1MO or -1MO are meant")
        found.add((_number(match[1], 1, 53, negative=True) if match[1] else 0, WEEKDAYS.index(match[2])))
    return {"weekdays": frozenset(found)}


def _wkst(value: str) -> dict[str, Any]:
    if value not in WEEKDAYS:
        raise ValueError(f"one of {', '.join(WEEKDAYS)} is meant")
    return {"wkst": WEEKDAYS.index(value)}


_READ: Final[Mapping[str, Callable[[str], dict[str, Any]]]] = {
    "FREQ": _freq,
    "INTERVAL": _count_of("interval", INTERVAL_MAX),
    "COUNT": _count_of("count", COUNT_MAX),
    "UNTIL": _until,
    "WKST": _wkst,
    "BYMONTH": _numbers("months", 1, 12),
    "BYWEEKNO": _numbers("weeks", 1, 53, negative=True),
    "BYYEARDAY": _numbers("yeardays", 1, 366, negative=True),
    "BYMONTHDAY": _numbers("monthdays", 1, 31, negative=True),
    "BYDAY": _byday,
    "BYHOUR": _times("hours", 23),
    "BYMINUTE": _times("minutes", 59),
    "BYSECOND": _times("seconds", 60),
    "BYSETPOS": _positions,
}


# --- what the RFC forbids
def _has_numbered(rule: Rule) -> bool:
    return rule.weekdays is not None and any(number for number, _ in rule.weekdays)


def _has_by_part(rule: Rule) -> bool:
    days = (rule.months, rule.weeks, rule.yeardays, rule.monthdays, rule.weekdays)
    return any(part is not None for part in (*days, rule.hours, rule.minutes, rule.seconds))


_FORBIDDEN: Final[tuple[tuple[Callable[[Rule], bool], str], ...]] = (
    (
        lambda rule: rule.count is not None and (rule.until is not None or rule.until_wall is not None),
        "has COUNT and UNTIL: give one of them",
    ),
    (
        lambda rule: rule.weeks is not None and rule.freq is not Freq.YEARLY,
        "has BYWEEKNO, which needs FREQ=YEARLY",
    ),
    (
        lambda rule: rule.yeardays is not None and Freq.DAILY <= rule.freq <= Freq.MONTHLY,
        "has BYYEARDAY, which does not go with FREQ=DAILY, WEEKLY or MONTHLY: use YEARLY",
    ),
    (
        lambda rule: rule.monthdays is not None and rule.freq is Freq.WEEKLY,
        "has BYMONTHDAY, which does not go with FREQ=WEEKLY: use DAILY with BYDAY",
    ),
    (
        lambda rule: _has_numbered(rule) and (rule.freq < Freq.MONTHLY or rule.weeks is not None),
        "has a numbered BYDAY, which needs FREQ=MONTHLY, or YEARLY without BYWEEKNO",
    ),
    (
        lambda rule: rule.positions is not None and not _has_by_part(rule),
        "has BYSETPOS alone, which chooses from what another BY part names",
    ),
)
