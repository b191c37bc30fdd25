"""One field of a cron expression: what is written there, as numbers and, in the two day fields, special days.

Read here and not by a library, because no library reads all of the dialect (README, "Cron"): croniter knows no `LW`,
`L-3`, `5L`, `+` and no list that mixes weekdays with `#`, and cronsim no `W`, `H`, years and wrapping ranges. Both are
oracles in the tests instead, each for the part it knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple, NoReturn

from scheduler.core.triggers.cron_calendar import LAST_NTH
from scheduler.core.triggers.hashed import expand_h

_MONTH_NAMES: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAY_NAMES: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class Field(NamedTuple):
    """A field's place in the expression. `top`: where `*` and `5/15` end; it differs from `highest` for Sunday, 7."""

    name: str
    lowest: int
    highest: int
    top: int
    hash_top: int
    names: dict[str, int]


SECOND: Final = Field("second", 0, 59, 59, 59, {})
MINUTE: Final = Field("minute", 0, 59, 59, 59, {})
HOUR: Final = Field("hour", 0, 23, 23, 23, {})
DAY: Final = Field("day", 1, 31, 31, 28, {})  # H keeps to 1-28, which every month has
MONTH: Final = Field("month", 1, 12, 12, 12, {name: number for number, name in enumerate(_MONTH_NAMES, 1)})
WEEKDAY: Final = Field("weekday", 0, 7, 6, 6, {name: number for number, name in enumerate(_WEEKDAY_NAMES)})
YEAR: Final = Field("year", 1970, 2099, 2099, 2099, {})

_PLAIN: Final = re.compile(r"(\*|[0-9]{1,4}|[a-z]{3})(?:-([0-9]{1,4}|[a-z]{3}))?(?:/([0-9]{1,4}))?", re.ASCII)
_LAST_DAY: Final = re.compile(r"l(?:-([0-9]{1,2}))?(w)?", re.ASCII)
_NEAREST: Final = re.compile(r"([0-9]{1,2})w|w([0-9]{1,2})", re.ASCII)
_LAST_WEEKDAY: Final = re.compile(r"([0-9]|[a-z]{3})l|l([0-9]|[a-z]{3})", re.ASCII)
_NTH: Final = re.compile(r"([0-9]|[a-z]{3})#([1-5])", re.ASCII)
_RANDOM: Final = re.compile(r"r(?:[(/].*)?", re.ASCII)


class Refused(ValueError):
    """Why an expression cannot be used; the text follows the expression in a sentence."""


@dataclass(slots=True)
class Values:
    """What a field names. Days before the end of the month: `last` (L is 0, L-3 is 3), `last_working` (LW is 0)."""

    numbers: set[int] = field(default_factory=set)
    last: set[int] = field(default_factory=set)
    nearest: set[int] = field(default_factory=set)
    last_working: set[int] = field(default_factory=set)
    nth: set[tuple[int, int]] = field(default_factory=set)


def read_field(text: str, kind: Field, schedule_id: str) -> Values:
    """Everything a field in lower case names. Raises Refused."""
    values = Values()
    if text == "?" and kind in (DAY, WEEKDAY):
        text = "*"
    for word in text.split(","):
        if word.startswith("h"):
            values.numbers |= _hashed(word, kind, schedule_id)
        elif not (_special_day(word, values) if kind is DAY else kind is WEEKDAY and _special_weekday(word, values)):
            values.numbers |= _plain(word, kind)
    return values


def _hashed(word: str, kind: Field, schedule_id: str) -> set[int]:
    if kind is YEAR:
        raise Refused("hashes the year: write the years")
    try:
        return _plain(expand_h(word, kind.name, kind.lowest, kind.hash_top, schedule_id), kind)
    except ValueError as problem:
        raise Refused(f"is not a cron expression: {problem}") from None


def _special_day(word: str, values: Values) -> bool:
    """`L`, `L-3`, `LW`, `L-3W`, `15W` and `W15`."""
    if word == "wl":
        word = "lw"
    if match := _LAST_DAY.fullmatch(word):
        before = int(match[1] or 0)
        if before > 30:
            raise Refused(f"is not a cron expression: {word!r} is before every month begins")
        (values.last_working if match[2] else values.last).add(before)
        return True
    if match := _NEAREST.fullmatch(word):
        values.nearest.add(_number(match[1] or match[2], word, DAY))
        return True
    return False


def _special_weekday(word: str, values: Values) -> bool:
    """`5#2`, `5L` and `L5`."""
    if word == "l":
        raise Refused("has 'l' for a weekday: name the weekday, as in 5L for the last Friday of the month")
    if match := _LAST_WEEKDAY.fullmatch(word):
        values.nth.add((_number(match[1] or match[2], word, WEEKDAY) % 7, LAST_NTH))
        return True
    if match := _NTH.fullmatch(word):
        values.nth.add((_number(match[1], word, WEEKDAY) % 7, int(match[2])))
        return True
    if word.startswith("*#"):
        raise Refused("puts # after *: name the weekday")
    return False


def _plain(word: str, kind: Field) -> set[int]:
    """`*`, `5`, `mon`, `1-5`, `22-2` and each of them with a step."""
    match = _PLAIN.fullmatch(word)
    if match is None or match[3] == "0" * len(match[3] or "x") or (match[1] == "*" and match[2]):
        _refuse(word, kind)
    step = int(match[3] or 1)
    if match[1] == "*":
        return set(range(kind.lowest, kind.top + 1, step))
    low = _number(match[1], word, kind)
    open_end = max(low, kind.top) if match[3] else low  # `5/15` goes on from 5, a single 5 does not
    high = open_end if match[2] is None else _number(match[2], word, kind)
    if low > high:
        return _wrapped(low, high, step, kind)
    return {_sunday_0(number, kind) for number in range(low, high + 1, step)}


def _wrapped(low: int, high: int, step: int, kind: Field) -> set[int]:
    """`22-2` in the hours, `fri-mon` in the weekdays: on over the end of the cycle."""
    if kind is YEAR:
        raise Refused("has years that descend")
    size = kind.top - kind.lowest + 1
    span = (high - low) % size
    return {(low - kind.lowest + n) % size + kind.lowest for n in range(0, span + 1, step)}


def _sunday_0(number: int, kind: Field) -> int:
    return number % 7 if kind is WEEKDAY else number


def _number(value: str, word: str, kind: Field) -> int:
    number = int(value) if value.isdigit() else kind.names.get(value, -1)
    if not kind.lowest <= number <= kind.highest:
        _refuse(word, kind)
    return number


def _refuse(word: str, kind: Field) -> NoReturn:
    if _RANDOM.fullmatch(word):
        raise Refused(f"is random in {word!r}: use H, which hashes the schedule id")
    raise Refused(f"is not a cron expression: {word!r} is no {kind.name} ({kind.lowest}-{kind.highest})")
