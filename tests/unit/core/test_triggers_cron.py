"""Cron expressions: what they mean, and what is refused and with which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Cron, Dst, Gap, Schedule
from scheduler.core.triggers import LAST, compile_trigger, shortest_gap
from scheduler.core.triggers.cron_text import SHORTCUTS, read_cron
from scheduler.core.triggers.union import Union
from tests.unit.core.cron_triggers import NEW_YEAR, compiled, first

MEANINGS = {
    "five fields": ("30 9 * * *", ["2027-01-01 09:30:00", "2027-01-02 09:30:00"]),
    "six fields begin with seconds": ("15 30 9 * * *", ["2027-01-01 09:30:15", "2027-01-02 09:30:15"]),
    "seven fields end with the year": ("0 30 9 1 1 * 2028,2030", ["2028-01-01 09:30:00", "2030-01-01 09:30:00"]),
    "every second": ("* * * * * *", ["2027-01-01 00:00:01", "2027-01-01 00:00:02"]),
    "weekday 0 is Sunday": ("0 0 * * 0", ["2027-01-03 00:00:00", "2027-01-10 00:00:00"]),
    "weekday 7 is Sunday": ("0 0 * * 7", ["2027-01-03 00:00:00", "2027-01-10 00:00:00"]),
    "weekday 7 in six fields": ("0 0 0 * * 7", ["2027-01-03 00:00:00", "2027-01-10 00:00:00"]),
    "weekdays by name": ("0 0 * * sat,SUN", ["2027-01-02 00:00:00", "2027-01-03 00:00:00"]),
    "weekdays to 7": ("0 0 * * 6-7", ["2027-01-02 00:00:00", "2027-01-03 00:00:00", "2027-01-09 00:00:00"]),
    "weekdays over the weekend": (
        "0 0 * * fri-mon",
        ["2027-01-02 00:00:00", "2027-01-03 00:00:00", "2027-01-04 00:00:00", "2027-01-08 00:00:00"],
    ),
    "an equal range is one value": ("0 0 * * 5-5", ["2027-01-08 00:00:00", "2027-01-15 00:00:00"]),
    "0-7 is every weekday": ("0 0 * * 0-7", ["2027-01-02 00:00:00", "2027-01-03 00:00:00"]),
    "hours over midnight": ("0 22-1 * * *", ["2027-01-01 01:00:00", "2027-01-01 22:00:00", "2027-01-01 23:00:00"]),
    "a wrapping range with a step": (
        "50-10/7 0 * * *",
        ["2027-01-01 00:04:00", "2027-01-01 00:50:00", "2027-01-01 00:57:00"],
    ),
    "months by name": ("0 0 1 FEB-apr/2 *", ["2027-02-01 00:00:00", "2027-04-01 00:00:00"]),
    "a step from a number": ("50/5 * * * *", ["2027-01-01 00:50:00", "2027-01-01 00:55:00", "2027-01-01 01:50:00"]),
    "a step at the top of the field": ("59/15 * * * *", ["2027-01-01 00:59:00", "2027-01-01 01:59:00"]),
    "the last day": ("0 0 L * *", ["2027-01-31 00:00:00", "2027-02-28 00:00:00"]),
    "a day and the last day": ("0 0 15,L 2 *", ["2027-02-15 00:00:00", "2027-02-28 00:00:00"]),
    "the third to last day": ("0 0 L-3 * *", ["2027-01-28 00:00:00", "2027-02-25 00:00:00", "2027-03-28 00:00:00"]),
    "30 days before the last": ("0 0 L-30 * *", ["2027-03-01 00:00:00", "2027-05-01 00:00:00"]),
    "the last working day": ("0 0 LW * *", ["2027-01-29 00:00:00", "2027-02-26 00:00:00", "2027-03-31 00:00:00"]),
    "the working day nearest to the second to last": ("0 0 L-1W * *", ["2027-01-29 00:00:00", "2027-02-26 00:00:00"]),
    "several special days": (
        "0 0 1W,15,L-1,LW * *",
        ["2027-01-15 00:00:00", "2027-01-29 00:00:00", "2027-01-30 00:00:00", "2027-02-01 00:00:00"],
    ),
    "the last Friday": ("0 0 * * L5", ["2027-01-29 00:00:00", "2027-02-26 00:00:00"]),
    "the last Friday as in Quartz": ("0 0 * * 5L", ["2027-01-29 00:00:00", "2027-02-26 00:00:00"]),
    "the last Sunday by name": ("0 0 * * sunL,7L", ["2027-01-31 00:00:00", "2027-02-28 00:00:00"]),
    "plain weekdays beside # and L": (
        "0 0 * 2 1,5#2,3L",
        ["2027-02-01 00:00:00", "2027-02-08 00:00:00", "2027-02-12 00:00:00", "2027-02-15 00:00:00"],
    ),
    "from Monday on, every second day": ("0 0 * * Mon/2", ["2027-01-04 00:00:00", "2027-01-06 00:00:00"]),
    "from Friday on ends with the week": ("0 0 * * 5/2", ["2027-01-08 00:00:00", "2027-01-15 00:00:00"]),
    "from Sunday, 7, on": ("0 0 * * 7/2", ["2027-01-03 00:00:00", "2027-01-10 00:00:00"]),
    "Sunday, 7, to Tuesday": ("0 0 * * 7-2", ["2027-01-03 00:00:00", "2027-01-04 00:00:00", "2027-01-05 00:00:00"]),
    "a plus asks for both days": ("0 12 13 * +FRI", ["2027-08-13 12:00:00", "2028-10-13 12:00:00"]),
    "a plus on the day, too": ("0 12 +13 * FRI", ["2027-08-13 12:00:00", "2028-10-13 12:00:00"]),
    "the last Friday if it is the last day": ("0 0 L * +5L", ["2027-04-30 00:00:00", "2027-12-31 00:00:00"]),
    "a plus beside a star": ("0 0 * * +5", ["2027-01-08 00:00:00", "2027-01-15 00:00:00"]),
    "a zone in front": ("CRON_TZ=Asia/Tokyo 0 9 * * *", ["2027-01-02 00:00:00", "2027-01-03 00:00:00"]),
    "a zone in front, in short": ("TZ=Asia/Tokyo\t@daily", ["2027-01-01 15:00:00", "2027-01-02 15:00:00"]),
    "a zone in front of a grid": ("TZ=Asia/Tokyo @every 12h", ["2027-01-01 12:00:00", "2027-01-02 00:00:00"]),
    "the second Friday": ("0 0 * * 5#2", ["2027-01-08 00:00:00", "2027-02-12 00:00:00"]),
    "the fifth Friday": ("0 0 * * fri#5", ["2027-01-29 00:00:00", "2027-04-30 00:00:00"]),
    "nearest working day": ("0 0 16W * *", ["2027-01-15 00:00:00", "2027-02-16 00:00:00"]),
    "nearest working day stays in its month": ("0 0 1W 5 *", ["2027-05-03 00:00:00", "2028-05-01 00:00:00"]),
    "day or weekday": ("0 0 13 * 5", ["2027-01-08 00:00:00", "2027-01-13 00:00:00", "2027-01-15 00:00:00"]),
    "day or second Friday": ("0 0 13 * 5#2", ["2027-01-08 00:00:00", "2027-01-13 00:00:00", "2027-02-12 00:00:00"]),
    "a starred day field means both": ("0 0 */10 * 1", ["2027-01-11 00:00:00", "2027-02-01 00:00:00"]),
    "a full step is any": ("0 0 */1 * 1", ["2027-01-04 00:00:00", "2027-01-11 00:00:00"]),
    "question mark is any": ("0 0 0 ? * 1", ["2027-01-04 00:00:00", "2027-01-11 00:00:00"]),
    "leap day": ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
    "leap day over 2100": ("0 0 0 29 2 * 2096-2099", ["2096-02-29 00:00:00"]),
    "spaces and tabs": ("  0\t0   1 1 *  ", ["2028-01-01 00:00:00"]),
    "@yearly": ("@yearly", ["2028-01-01 00:00:00"]),
    "@monthly": ("@Monthly", ["2027-02-01 00:00:00"]),
    "@weekly": ("@weekly", ["2027-01-03 00:00:00"]),
    "@daily": ("@daily", ["2027-01-02 00:00:00"]),
    "@hourly": ("@hourly", ["2027-01-01 01:00:00"]),
    "@every": ("@every 10m", ["2027-01-01 00:10:00", "2027-01-01 00:20:00"]),
    "@every in days": ("@every 1d", ["2027-01-02 00:00:00", "2027-01-03 00:00:00"]),
    "@every in weeks, from 1970-01-01, a Thursday": ("@every 1w", ["2027-01-07 00:00:00", "2027-01-14 00:00:00"]),
    "@every in milliseconds": ("@every 1s500ms", ["2027-01-01 00:00:01.500", "2027-01-01 00:00:03"]),
}


@pytest.mark.parametrize("case", MEANINGS)
def test_meaning(case: str) -> None:
    """Each form of an expression fires when cron users expect it to."""
    expression, expected = MEANINGS[case]
    assert first(compiled(expression), len(expected)) == expected


REFUSALS = {
    "no such day": ("0 0 30 2 *", "never fires"),
    "no such day, by range": ("0 0 31 2,4,6,9,11 *", "never fires"),
    "no such leap day": ("0 0 0 29 2 * 2027", "never fires"),
    "minute too large": ("61 * * * *", "'61' is no minute"),
    "hour too large": ("0 24 * * *", "'24' is no hour"),
    "day zero": ("0 0 0 * *", "'0' is no day"),
    "month zero": ("0 0 1 0 *", "'0' is no month"),
    "weekday too large": ("0 0 * * 8", "'8' is no weekday"),
    "second too large": ("60 0 0 * * *", "'60' is no second"),
    "year too early": ("0 0 0 1 1 * 1969", "'1969' is no year"),
    "step of zero": ("*/0 * * * *", "'*/0' is no minute"),
    "negative": ("-1 * * * *", "no minute"),
    "name in the wrong field": ("mon * * * *", "'mon' is no minute"),
    "unknown name": ("0 0 * * mondag", "no weekday"),
    "too few fields": ("* * * *", "has 4 fields"),
    "too many fields": ("* * * * * * * *", "has 8 fields"),
    "empty": ("", "has 0 fields"),
    "unknown shortcut": ("@fortnightly", "not a known shortcut"),
    "at reboot": ("@reboot", "not a known shortcut"),
    "every without a duration": ("@every", "needs a duration"),
    "every nothing": ("@every 0s", "needs a duration"),
    "every day and a half": ("@every 1d12h", "mixes days"),
    "every half day": ("@every 0.5d", "mixes days"),
    "every day of 24 hours": ("@every 6d24h", "mixes days"),
    "every eleven years": ("@every 4018d", "needs a duration"),
    "zone of nowhere": ("CRON_TZ=Europe/Berln 0 0 * * *", "did you mean 'Europe/Berlin'"),
    "zone of nothing": ("CRON_TZ= 0 0 * * *", "not a time zone"),
    "zone as a path": ("TZ=../../etc/passwd 0 0 * * *", "not a time zone"),
    "zone without an expression": ("CRON_TZ=Europe/Berlin", "has 0 fields"),
    "zone twice": ("CRON_TZ=UTC TZ=UTC 0 0 * * *", "no second"),
    "no such day, both asked for": ("0 0 30 2 +1", "never fires"),
    "a plus alone": ("0 0 1 * +", "no weekday"),
    "a plus in the hours": ("0 +1 * * *", "no hour"),
    "two pluses": ("0 0 ++1 * *", "no day"),
    "before every month": ("0 0 L-31 * *", "before every month"),
    "the last of nothing": ("0 0 * * L", "name the weekday"),
    "the last day of the hours": ("0 L * * *", "no hour"),
    "working day 32": ("0 0 32W * *", "'32w' is no day"),
    "range of working days": ("0 0 1W-5W * *", "no day"),
    "a starred range": ("*-5 * * * *", "no minute"),
    "an open range": ("5- * * * *", "no minute"),
    "an empty entry": ("1,,2 * * * *", "no minute"),
    "a step of nothing": ("*/ * * * *", "no minute"),
    "two steps": ("*/2/3 * * * *", "no minute"),
    "a question mark with more": ("0 0 ?,1 * *", "no day"),
    "digits of another script": ("\u0661 0 * * *", "plain characters"),
    "random": ("R R * * *", "random"),
    "sixth Friday": ("0 0 * * 5#6", "no weekday"),
    "starred nth": ("0 0 * * *#2", "name the weekday"),
    "question mark in minutes": ("? * * * *", "no minute"),
    "years that descend": ("0 0 0 1 1 * 2030-2026", "descend"),
    "hash out of range": ("H(0-99) * * * *", "range within 0-59"),
    "hash of the year": ("0 0 0 1 1 * H", "write the years"),
    "hash, misspelled": ("Hx * * * *", "not a hash"),
    "not ASCII": ("\uff10 0 * * *", "plain characters"),
    "no-break space": ("0\xa00 * * *", "plain characters"),
    "line break": ("0 0 * * *\n", "plain characters"),
    "very long": ("0," * 200 + "0 0 * * *", "at most 256"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case: str) -> None:
    """What cannot work is refused when it is saved, with the reason, and the field named."""
    expression, reason = REFUSALS[case]
    with pytest.raises(InvalidArgument) as refused:
        compiled(expression)
    assert reason in refused.value.message
    assert refused.value.field == "cron"
    assert "\n" not in refused.value.message


@given(expression=st.one_of(st.text(max_size=40), st.text("0123456789*/,-#?LWHRlwhr@ jfmsdo", max_size=40)))
@settings(max_examples=500, deadline=None)
def test_any_text_compiles_or_is_refused(expression: str) -> None:
    """No text makes anything but a trigger or an InvalidArgument, and no trigger takes long to answer."""
    try:
        trigger = compiled(expression)
    except InvalidArgument:
        return
    at = trigger.next_after(NEW_YEAR)
    assert at is None or at > NEW_YEAR


CRONITER_AGREES = (
    "0 0 15W * *",
    "0 0 W1 * *",
    "30 12 31W * *",
    "0 0 L * *",
    "0 0 * * L0",
    "0 0 * * L5,L1",
    "0 0 * * 1#1,3#3",
    "0 22-2 * * *",
    "0 0 25-5 * *",
    "0 0 1 nov-feb *",
    "0 0 * * fri-mon",
    "7-50/11 3 * * *",
    "0 0 1 1-12/5 *",
)


@pytest.mark.parametrize("expression", CRONITER_AGREES)
def test_agrees_with_croniter_where_cronsim_cannot_tell(expression: str) -> None:
    """W, L, # and wrapping ranges, which only croniter knows as well, fire as croniter says."""
    theirs = croniter(expression, NEW_YEAR, ret_type=datetime)
    trigger = compiled(expression)
    at: datetime | None = NEW_YEAR
    for expected in islice((theirs.get_next() for _ in range(60)), 60):
        assert at is not None
        at = trigger.next_after(at)
        assert at == expected


def test_shortcuts_are_what_they_stand_for() -> None:
    """A shortcut and its long form have the same fields; none of them is hashed."""
    for shortcut, expression in SHORTCUTS.items():
        one, other = read_cron(shortcut, "any"), read_cron(expression, "other")
        assert one.days is other.days
        assert (one.times.hours, one.times.minutes, one.fixed) == (other.times.hours, other.times.minutes, other.fixed)


def test_years_run_out() -> None:
    """An expression whose years are over has no next instant, but has a previous one."""
    trigger = compiled("0 0 0 1 1 * 2020")
    assert trigger.next_after(NEW_YEAR) is None
    assert trigger.previous_before(NEW_YEAR) == datetime(2020, 1, 1, tzinfo=UTC)


def test_nothing_before_1970_and_nothing_after_2199() -> None:
    """At the ends of time a trigger says None; it never raises."""
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        trigger = compiled("0 0 * * *", zone=zone)
        assert trigger.previous_before(datetime(1970, 1, 1, tzinfo=UTC)) is None
        assert trigger.next_after(LAST) is None
        assert trigger.next_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)) is None
        assert trigger.previous_before(datetime(1, 1, 2, tzinfo=UTC)) is None
        earliest = trigger.next_after(datetime(1, 1, 2, tzinfo=UTC))
        assert earliest is not None
        assert datetime(1970, 1, 1, tzinfo=UTC) <= earliest < datetime(1970, 1, 2, tzinfo=UTC)


def test_a_list_of_expressions_is_their_union() -> None:
    """Several expressions fire at the instants of any of them, and once where they meet."""
    trigger = compiled("0 9 * * *", "0 9,12 * * *", "@every 12h")
    assert isinstance(trigger, Union)
    expected = ["2027-01-01 09:00:00", "2027-01-01 12:00:00", "2027-01-02 00:00:00", "2027-01-02 09:00:00"]
    assert first(trigger, 4) == expected
    assert trigger.previous_before(datetime(2027, 1, 1, 10, tzinfo=UTC)) == datetime(2027, 1, 1, 9, tzinfo=UTC)
    assert trigger.yields(datetime(2027, 1, 1, 12, tzinfo=UTC))
    assert not trigger.yields(datetime(2027, 1, 1, 13, tzinfo=UTC))


def test_compiled_expressions_are_shared() -> None:
    """Schedules that say the same have one compiled trigger; those that hash their id have their own."""
    assert compiled("0 9 * * *", schedule_id="a") is compiled("0 9 * * *", schedule_id="b")
    assert compiled("H 9 * * *", schedule_id="a") is not compiled("H 9 * * *", schedule_id="b")
    assert compiled("0 9 1 MAR *", schedule_id="a") is compiled("0 9 1 MAR *", schedule_id="b")


def test_a_zone_in_front_is_the_zone_of_its_expression() -> None:
    """It overrides the schedule's timezone for that expression only, whatever the case of the prefix."""
    trigger = compiled("cron_tz=Asia/Tokyo 0 9 * * *", "0 9 * * *", zone="Europe/Berlin")
    assert first(trigger, 3) == ["2027-01-01 08:00:00", "2027-01-02 00:00:00", "2027-01-02 08:00:00"]


def test_every_day_is_a_day_of_the_calendar() -> None:
    """`@every 1d` keeps its wall time when clocks change, in the zone of the expression, and follows `dst`."""
    trigger = compiled("TZ=Europe/Berlin @every 1d", zone="UTC")
    assert first(trigger, 3, datetime(2027, 3, 26, 12, tzinfo=UTC)) == [
        "2027-03-27 00:00:00",
        "2027-03-28 00:00:00",
        "2027-03-28 23:00:00",
    ]
    both = compiled("@every 1d", "0 9 * * *", zone="Europe/Berlin")
    assert shortest_gap(both) == timedelta(hours=7)  # from 01:00 to 09:00 on the day that lacks an hour


def test_never_fires_because_of_clocks() -> None:
    """An expression whose every time clocks skip is refused under gap skip, and fires at the transitions under next."""
    schedule = Schedule(
        id="s",
        queue="q",
        type="t",
        trigger=Cron(("0 30 2 28 3 ? 2027",)),
        timezone="Europe/Berlin",
        dst=Dst(gap=Gap.SKIP),
    )
    with pytest.raises(InvalidArgument, match="clocks in Europe/Berlin skip all its times"):
        compile_trigger(schedule)
    assert first(compile_trigger(replace(schedule, dst=Dst())), 2) == ["2027-03-28 01:00:00"]
