"""The calendar JSON: what a value of the calendars bucket says, parsed and checked; anything unknown is an error.

    {"description": "Bank holidays", "dates": ["2027-03-26"], "ranges": [{"from": "2026-12-24", "to": "2027-01-01"}],
     "yearly": ["12-25"], "weekdays": ["sat", "sun"], "cron": ["* 0-7 * * mon"], "timezone": "Europe/Berlin"}

Every field may be left out, though not all that exclude something. A date is a local day of the schedule's zone, or of
`timezone` where the calendar names one; ranges include both ends; `02-29` is excluded in leap years. A cron expression
excludes the minutes that it names (with a field for seconds: the seconds), and its `H` hashes the calendar's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from scheduler.core.calendars import WEEKDAYS, Calendar
from scheduler.core.errors import InvalidArgument
from scheduler.core.triggers.exclusions import parts_of
from scheduler.core.zones import zone_of
from scheduler.wire import schedule_values as read
from scheduler.wire.ids import check_calendar_name
from scheduler.wire.schedule_json import read_document

DOCUMENT_BYTES_MAX: Final = 262_144
DATES_MAX: Final = 10_000
RANGES_MAX: Final = 1000
CRON_MAX: Final = 64
EXCLUDING: Final = ("dates", "ranges", "yearly", "weekdays", "cron")
FIELDS: Final = frozenset({"description", "timezone", *EXCLUDING})
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_YEARLY: Final = re.compile(r"[0-9]{2}-[0-9]{2}", re.ASCII)
_LEAP_YEAR: Final = 2000
_YEARS: Final = (1970, 2199)


def parse_calendar(name: str, raw: bytes) -> Calendar:
    """The calendar in a stored value, whatever bytes those are. Raises InvalidArgument with `.field`; nothing else."""
    check_calendar_name(name)
    document, _ = read_document(raw, DOCUMENT_BYTES_MAX)
    return calendar_of_document(name, document)


def calendar_of_document(name: str, document: Any) -> Calendar:
    """The calendar in a decoded document. Raises InvalidArgument with `.field`."""
    given = _fields(document)
    calendar = Calendar(
        name=name,
        description=_text(given, "description"),
        dates=tuple(sorted({_date(each, "dates") for each in _list(given, "dates", DATES_MAX)})),
        ranges=tuple(sorted({_range(each) for each in _list(given, "ranges", RANGES_MAX)})),
        yearly=tuple(sorted({_yearly(each) for each in _list(given, "yearly", 366)})),
        weekdays=tuple(sorted({_weekday(each) for each in _list(given, "weekdays", 64)})),
        cron=tuple(read.text(each, "cron", longest=256) for each in _list(given, "cron", CRON_MAX)),
        timezone=None
        if "timezone" not in given
        else zone_of(read.text(given["timezone"], "timezone", longest=64)).name,
    )
    parts_of(calendar)
    return calendar


def _fields(document: Any) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise InvalidArgument(f"a calendar must be a JSON object, not {read.shown(document)}")
    try:
        given = read.fields_of(document, None, FIELDS)
    except InvalidArgument as problem:
        raise InvalidArgument(problem.message.replace("a schedule ", "a calendar ", 1), field=problem.field) from None
    if not any(given.get(name) for name in EXCLUDING):
        raise InvalidArgument(f"the calendar excludes nothing: give one of {', '.join(EXCLUDING)}", field="dates")
    return given


def _text(given: Mapping[str, Any], field: str) -> str | None:
    return read.text(given[field], field, longest=4096, lines=True) if field in given else None


def _list(given: Mapping[str, Any], field: str, most: int) -> list[Any]:
    value = given.get(field, [])
    if not isinstance(value, list):
        raise read.wrong(value, field, "a list")
    if len(value) > most:
        raise InvalidArgument(f"{field} must hold at most {most} entries, not {len(value)}", field=field)
    return value


def _date(value: Any, field: str) -> date:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            raise InvalidArgument(f"{field}: there is no day {value}", field=field) from None
        if _YEARS[0] <= day.year <= _YEARS[1]:
            return day
        raise InvalidArgument(f"{field}: {value} is not between the years {_YEARS[0]} and {_YEARS[1]}", field=field)
    raise InvalidArgument(f"{field} must hold days as 2026-12-25, not {read.shown(value)}", field=field)


def _range(value: Any) -> tuple[date, date]:
    given = read.fields_of(value, "ranges", ("from", "to"))
    if len(given) < 2:
        raise InvalidArgument("ranges must hold objects with from and to, both included", field="ranges")
    first, last = _date(given["from"], "ranges.from"), _date(given["to"], "ranges.to")
    if last < first:
        raise InvalidArgument(f"ranges: {last} is before {first}", field="ranges")
    return first, last


def _yearly(value: Any) -> tuple[int, int]:
    if not isinstance(value, str) or not _YEARLY.fullmatch(value):
        raise InvalidArgument(f"yearly must hold days as 12-25, not {read.shown(value)}", field="yearly")
    month, day = int(value[:2]), int(value[3:])
    try:
        date(_LEAP_YEAR, month, day)
    except ValueError:
        raise InvalidArgument(f"yearly: there is no day {value}", field="yearly") from None
    return month, day


def _weekday(value: Any) -> int:
    known = [*WEEKDAYS]
    return known.index(read.choice(value.lower()[:3] if _is_long(value) else value, "weekdays", known))


def _is_long(value: Any) -> bool:
    """`Saturday` and `SAT` are understood, too."""
    names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return isinstance(value, str) and value.lower() in {*names, *WEEKDAYS}
