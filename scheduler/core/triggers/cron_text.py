"""Reading a cron expression: 5 fields, 6 with seconds first, 7 with year last; shortcuts; a zone in front.

What a single field may hold is cron_field.py; what the fields then mean is cron_calendar.py and cron.py.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from scheduler.core.errors import InvalidArgument
from scheduler.core.triggers.cron_calendar import DayRule, Days, Times, days_of
from scheduler.core.triggers.cron_field import (
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    SECOND,
    WEEKDAY,
    YEAR,
    Refused,
    Values,
    read_field,
)

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
_FIELDS: Final = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, YEAR)
_PRINTABLE: Final = re.compile(r"[\t\x20-\x7e]*", re.ASCII)
_HASH: Final = re.compile(r"(?:^|[\s,+])h", re.ASCII)
_STARRED: Final = re.compile(r"(?:^|,)\*/([0-9]{1,4})(?=,|$)", re.ASCII)
_ZONE: Final = re.compile(r"\s*(?:CRON_TZ|TZ)=(\S*)\s*(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)


class CronFields(NamedTuple):
    """A cron expression, read. `fixed`: neither minute nor hour begins with `*`, so the `dst` rule applies to it."""

    times: Times
    days: Days
    fixed: bool


def split_zone(expression: str) -> tuple[str | None, str]:
    """The zone of a `CRON_TZ=` or `TZ=` in front, None without one, and the rest."""
    match = _ZONE.fullmatch(expression)
    return (match[1], match[2]) if match else (None, expression)


def uses_hash(expression: str) -> bool:
    """Whether the schedule id has a say in what the expression means."""
    return _HASH.search(expression.lower()) is not None


def read_cron(expression: str, schedule_id: str, *, field: str = "cron") -> CronFields:
    """The fields of an expression without a zone. Raises InvalidArgument that says which field is wrong and why.

    `@every` is not a cron expression but an interval; `compile_trigger` takes it out before it comes here.
    """
    try:
        return _read(_split(expression), schedule_id)
    except Refused as refusal:
        raise InvalidArgument(f"{expression!r:.120} {refusal}", field=field) from None


def long_step(expression: str) -> str | None:
    """What is valid and probably not meant: the first step from `*` that is longer than its field, in a sentence."""
    _, rest = split_zone(expression)
    for text, kind in zip(_split(rest), _FIELDS, strict=True):
        for step in _STARRED.findall(text):
            if int(step) > kind.top - kind.lowest:
                told = f"*/{step} for the {kind.name} is {kind.lowest} alone, since each field starts anew"
                return f"{told}: for an interval of that length use every"
    return None


def _split(expression: str) -> list[str]:
    if len(expression) > EXPRESSION_MAX or not _PRINTABLE.fullmatch(expression):
        raise Refused(f"is not a cron expression: use at most {EXPRESSION_MAX} plain characters")
    text = expression.strip().lower()
    if text.startswith("@"):
        if text not in SHORTCUTS:
            known = " ".join((*SHORTCUTS, "@every 10m"))
            raise Refused(f"is not a known shortcut: use one of {known}")
        text = SHORTCUTS[text]
    parts = text.split()
    if not 5 <= len(parts) <= 7:
        raise Refused(f"has {len(parts)} fields: cron has 5, 6 with seconds first, 7 with the year last")
    parts = parts if len(parts) > 5 else ["0", *parts]
    return parts if len(parts) > 6 else [*parts, "*"]


def _read(parts: list[str], schedule_id: str) -> CronFields:
    day_text, weekday_text = parts[3], parts[5]
    parts[3], parts[5] = day_text.removeprefix("+"), weekday_text.removeprefix("+")
    found = [read_field(text, kind, schedule_id) for text, kind in zip(parts, _FIELDS, strict=True)]
    seconds, minutes, hours, days, months, weekdays, years = found
    rule = DayRule(
        days=None if _is_any(parts[3]) else frozenset(days.numbers),
        last=frozenset(days.last),
        nearest=frozenset(days.nearest),
        last_working=frozenset(days.last_working),
        weekdays=None if _is_any(parts[5]) else frozenset(weekdays.numbers),
        nth=frozenset(weekdays.nth),
        both=_asks_both(day_text) or _asks_both(weekday_text),
        months=frozenset(months.numbers),
        years=None if _is_any(parts[6]) else frozenset(years.numbers),
    )
    chosen = days_of(rule)
    if chosen.at_or_after(0) is None:
        raise Refused("never fires: there is no such day")
    times = Times(_ascending(hours), _ascending(minutes), _ascending(seconds))
    return CronFields(times, chosen, fixed=not (parts[1].startswith("*") or parts[2].startswith("*")))


def _is_any(text: str) -> bool:
    return text in {"*", "?"}


def _asks_both(text: str) -> bool:
    """Vixie's rule: one of the two day fields begins with `*`: both must fit, otherwise one is enough.

    `+` in front of one asks for the same of fields that do not (Open Cron Pattern Specification 1.4).
    """
    return text.startswith(("*", "?", "+"))


def _ascending(values: Values) -> tuple[int, ...]:
    return tuple(sorted(values.numbers))
