"""Random recurrence rules against dateutil, and hostile ones against the clock.

dateutil's generator is the oracle, and not the engine: it starts at DTSTART whatever one asks for, and it looks at
UNTIL only when something comes out, so a rule that never fires runs to the year 9999. Where the two differ on purpose:

| rule | dateutil | here, as the RFC says |
|---|---|---|
| WEEKLY with BYSETPOS | the first set begins at DTSTART | it is the week, less what lies before DTSTART |
| BYWEEKNO without BYDAY | all seven days | the weekday of DTSTART |
| BYWEEKNO=-52 | days of the year only (a TODO in its source) | those of its week 1 that lie in December, too |
| BYWEEKNO=52 or 53 | miscounts the last year's weeks (by the length of this one) | `test_the_last_weeks_of_a_year` |
| BYDAY=MO,2TU | nothing (both must fit) | all Mondays and the second Tuesday |
| a part that 3.3.10 forbids with this FREQ | filters | refused |
"""

# ruff: noqa: DTZ001 - walls are naive on purpose
from __future__ import annotations

import itertools
import time
from datetime import UTC, date, datetime, timedelta

import pytest
from dateutil.rrule import rrulestr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Dst
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger, shortest_gap
from scheduler.core.triggers.rrule import compile_rrule

WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
NEVER = "never fires"
SECONDS_MAX = 5.0  # a twentieth of that on an idle machine


def listed(lowest: int, highest: int, *, negative: bool = False) -> st.SearchStrategy[str]:
    numbers = st.integers(lowest, highest)
    signed = st.one_of(numbers, numbers.map(lambda number: -number)) if negative else numbers
    return st.lists(signed, min_size=1, max_size=3, unique=True).map(lambda found: ",".join(map(str, found)))


def weekdays(numbers: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    entry = st.tuples(numbers, st.sampled_from(WEEKDAYS)).map("".join)
    return st.lists(entry, min_size=1, max_size=3, unique=True).map(",".join)


PLAIN = weekdays(st.just(""))
TIMES = {"BYHOUR": listed(0, 23), "BYMINUTE": listed(0, 59), "BYSECOND": listed(0, 59)}
MONTHS, MONTHDAYS = listed(1, 12), listed(1, 31, negative=True)
YEARDAYS = listed(1, 366, negative=True)


def numbered(highest: int) -> st.SearchStrategy[str]:
    signs = st.tuples(st.sampled_from(["", "-"]), st.integers(1, highest).map(str)).map("".join)
    return PLAIN | weekdays(signs)


def parts(freq: str) -> dict[str, st.SearchStrategy[str]]:
    """The parts that the RFC allows with this FREQ."""
    intervals = st.sampled_from(["1", "2", "3", "5", "7", "13", "40"])
    found = {"INTERVAL": intervals, "WKST": st.sampled_from(WEEKDAYS), "BYMONTH": MONTHS, **TIMES}
    if freq != "WEEKLY":
        found |= {"BYSETPOS": listed(1, 8, negative=True), "BYMONTHDAY": MONTHDAYS}
    if freq == "YEARLY":
        return found | {"BYYEARDAY": YEARDAYS, "BYDAY": numbered(6)}
    if freq in ("HOURLY", "MINUTELY", "SECONDLY"):
        found["BYYEARDAY"] = YEARDAYS
    return found | {"BYDAY": numbered(5) if freq == "MONTHLY" else PLAIN}


def rule_of(freq: str) -> st.SearchStrategy[str]:
    """FREQ and up to five of its parts."""
    chosen = st.lists(st.sampled_from(sorted(parts(freq))), max_size=5, unique=True)
    filled = chosen.flatmap(lambda names: st.tuples(*(parts(freq)[name].map(f"{name}={{}}".format) for name in names)))
    return filled.map(lambda found: ";".join((f"FREQ={freq}", *found)))


RULES = st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"]).flatmap(rule_of)
WEEK_NUMBERS = st.lists(st.integers(1, 51) | st.integers(-51, -1), min_size=1, max_size=3, unique=True).map(
    lambda found: ",".join(map(str, found))
)
WEEKS = st.tuples(WEEK_NUMBERS, PLAIN, st.sampled_from(WEEKDAYS)).map(
    lambda found: f"FREQ=YEARLY;BYWEEKNO={found[0]};BYDAY={found[1]};WKST={found[2]}"
)
ANCHORS = st.datetimes(datetime(1995, 1, 1), datetime(2003, 12, 31)).map(lambda at: at.replace(microsecond=0))


def compiled(rule: str, anchor: datetime, timezone: str = "UTC") -> CompiledTrigger | None:
    """None: the rule never fires. Any other refusal is a failure of the test."""
    try:
        return compile_rrule(rule, anchor.replace(tzinfo=UTC), timezone, Dst())
    except InvalidArgument as problem:
        if NEVER in problem.message or ("BYSETPOS alone" in problem.message):
            return None
        raise


# how far dateutil can be walked in a moment, by what it walks in
REACH = {"SECONDLY": timedelta(hours=6), "MINUTELY": timedelta(days=5), "HOURLY": timedelta(days=200)}
YEARS = timedelta(days=3000)


def mixes(rule: str) -> bool:
    """Whether BYDAY has numbered weekdays and plain ones, see above."""
    _, _, rest = rule.partition("BYDAY=")
    return len({entry[0] in "-0123456789" for entry in rest.partition(";")[0].split(",") if entry}) > 1


def week_of(day: date, wkst: int) -> int:
    """RFC 5545, 3.3.10: week 1 is the first with four days or more in its year."""
    first_day = day - timedelta(days=(day.weekday() - wkst) % 7)
    fourth = date((first_day + timedelta(days=3)).year, 1, 4)
    week_1 = fourth - timedelta(days=(fourth.weekday() - wkst) % 7)
    return (first_day - week_1).days // 7 + 1


@pytest.mark.parametrize("number", [1, 52, 53])
@pytest.mark.parametrize("wkst", range(7))
def test_the_last_weeks_of_a_year(wkst: int, number: int) -> None:
    """Counted day by day over 13 years, each weekday by itself: their days in January, too."""
    for weekday in range(7):
        rule = f"FREQ=YEARLY;BYWEEKNO={number};BYDAY={WEEKDAYS[weekday]};WKST={WEEKDAYS[wkst]}"
        trigger, walked = compiled(rule, datetime(1998, 1, 1)), []
        assert trigger is not None
        cursor = trigger.next_after(FIRST)
        while cursor is not None and cursor.year < 2011:
            walked.append(cursor.date())
            cursor = trigger.next_after(cursor)
        days = (date(1998, 1, 1) + timedelta(days=each) for each in range(13 * 366))
        expected = [each for each in days if each.weekday() == weekday and week_of(each, wkst) == number]
        assert walked == [each for each in expected if each.year < 2011], rule


@settings(max_examples=300, deadline=None)
@given(rule=(RULES | WEEKS).filter(lambda rule: not mixes(rule)), anchor=ANCHORS)
@example(rule="FREQ=YEARLY;BYWEEKNO=-1,1;BYDAY=MO,SU;WKST=SU", anchor=datetime(1998, 12, 27))
@example(rule="FREQ=YEARLY;BYDAY=-53TH,53WE;INTERVAL=3", anchor=datetime(1995, 1, 1))
def test_rules_fire_as_dateutil_says(rule: str, anchor: datetime) -> None:
    """The first dozen occurrences, forwards and backwards; with INTERVAL, WKST, BYSETPOS and every BY part."""
    trigger = compiled(rule, anchor)
    until = anchor.replace(tzinfo=UTC) + REACH.get(rule[5:].partition(";")[0], YEARS)
    walked, cursor = [], None if trigger is None else trigger.next_after(FIRST)
    while trigger is not None and cursor is not None and len(walked) < 12 and cursor < until:
        walked.append(cursor)
        cursor = trigger.next_after(cursor)
    if trigger is None or not walked:
        return
    expected = itertools.islice(rrulestr(rule, dtstart=anchor), len(walked))
    assert [at.replace(tzinfo=None) for at in walked] == list(expected)
    backwards, cursor = [], trigger.previous_before(walked[-1] + timedelta(milliseconds=1))
    while cursor is not None:
        backwards.append(cursor)
        cursor = trigger.previous_before(cursor)
    assert backwards == walked[::-1]
    assert all(trigger.yields(at) and not trigger.yields(at + timedelta(milliseconds=1)) for at in walked)


def test_the_week_that_begins_in_december() -> None:
    """Counted from the end, too: 52 weeks before the end of 2002 is its week 1, which begins on 2001-12-31."""
    anchor = datetime(2000, 1, 1)
    by_end = compiled("FREQ=YEARLY;BYWEEKNO=-52;BYDAY=MO;WKST=MO", anchor)
    assert by_end is not None
    found, cursor = [], by_end.next_after(FIRST)
    while cursor is not None and cursor.year < 2005:
        found.append(f"{cursor:%Y-%m-%d}")
        cursor = by_end.next_after(cursor)
    assert found == ["2000-01-03", "2001-01-01", "2001-12-31", "2002-12-30", "2004-01-05"]


SPARSE = [
    "FREQ=SECONDLY;INTERVAL=86399;BYHOUR=3;BYMINUTE=3;BYSECOND=3",
    "FREQ=SECONDLY;INTERVAL=7;BYDAY=TH;BYHOUR=3;BYMINUTE=0;BYSECOND=0,1,2,3,5,6",
    "FREQ=SECONDLY;INTERVAL=999983;BYMONTH=2;BYMONTHDAY=29;BYHOUR=23;BYMINUTE=59",
    "FREQ=MINUTELY;INTERVAL=1439;BYHOUR=3;BYMINUTE=17;COUNT=10000",
    "FREQ=HOURLY;INTERVAL=7;BYDAY=TU;BYHOUR=18",
    "FREQ=MONTHLY;BYDAY=4FR,2TU,4SU;BYMONTHDAY=-11,16,4",
    "FREQ=WEEKLY;BYDAY=MO;BYHOUR=1,2;BYSETPOS=3",
    "FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR=1;BYSETPOS=366",
    "FREQ=YEARLY;INTERVAL=999999",
    "FREQ=YEARLY;BYSETPOS=-366,366;BYSECOND=" + ",".join(map(str, range(60))),
    "FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24))) + ";BYMINUTE=" + ",".join(map(str, range(60))),
]


@pytest.mark.parametrize("rule", SPARSE)
def test_rare_and_dense_rules_cost_little(rule: str) -> None:
    """Compiled, measured, asked at both ends and in the middle: each within the blink that a replica can afford."""
    started = time.perf_counter()
    try:
        trigger = compile_rrule(rule, FIRST, "America/New_York", Dst())
    except InvalidArgument as problem:
        assert NEVER in problem.message  # noqa: PT017 - most of them do fire
    else:
        shortest_gap(trigger)
        for at in (FIRST, datetime(2027, 1, 1, tzinfo=UTC), LAST):
            trigger.next_after(at)
            trigger.previous_before(at)
            trigger.yields(at)
    assert time.perf_counter() - started < SECONDS_MAX


NOISE = st.text(alphabet="FREQ=DAILYWKMONTHUSC;:,-+0123456789BYT \n\u0662\u2028é", max_size=60)
PARTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYMONTH", "BYWEEKNO", "BYYEARDAY", "BYMONTHDAY"]
        )
        | st.sampled_from(["BYDAY", "BYHOUR", "BYMINUTE", "BYSECOND", "BYSETPOS", "X-A", "BYEASTER", ""]),
        st.sampled_from(
            ["DAILY", "SECONDLY", "YEARLY", "MO", "53MO", "-1SU", "0", "1", "-1", "366", "9" * 30, "20270101"]
        )
        | st.sampled_from(["20270101T000000Z", "19700101T000000", "1,2,3", ",", "1-5", "00000000", "99999999T999999Z"]),
    ).map("=".join),
    max_size=6,
).map(";".join)


@settings(max_examples=500, deadline=None)
@given(
    text=NOISE | PARTS | PARTS.map("FREQ=SECONDLY;{}".format),
    anchor=st.sampled_from([None, FIRST, LAST, datetime(2026, 11, 21, 8, 0, 0, 500_000, UTC)]),
    timezone=st.sampled_from(["UTC", "Africa/Monrovia", "Pacific/Apia", "Australia/Lord_Howe", "America/Havana"]),
)
def test_whatever_the_text_it_is_a_rule_or_refused(text: str, anchor: datetime | None, timezone: str) -> None:
    """Only InvalidArgument, with a field and a short message; what is accepted answers everywhere."""
    started = time.perf_counter()
    try:
        trigger = compile_rrule(text, anchor, timezone, Dst())
    except InvalidArgument as problem:
        assert problem.field in ("rrule", "anchor")  # noqa: PT017 - most are refused, some are not
        assert len(problem.message) < 400  # noqa: PT017
    else:
        first = trigger.next_after(FIRST - timedelta(milliseconds=1))
        assert first is not None
        assert trigger.yields(first)
        assert trigger.previous_before(first) is None
        last = trigger.previous_before(LAST + timedelta(milliseconds=1))
        assert last is not None
        assert trigger.next_after(last) is None
        shortest_gap(trigger)
    assert time.perf_counter() - started < SECONDS_MAX


def test_the_past_of_a_rule_costs_nothing() -> None:
    """A rule from 1970 answers as fast for 2027 as one from 2026: nothing is walked from its anchor."""
    for freq in ("SECONDLY", "MINUTELY", "DAILY;BYHOUR=9", "WEEKLY;BYDAY=MO", "MONTHLY"):
        trigger = compile_rrule(f"FREQ={freq};INTERVAL=3" if ";" not in freq else f"FREQ={freq}", FIRST, "UTC", Dst())
        cursor = trigger.next_after(datetime(2027, 1, 1, tzinfo=UTC))
        started = time.perf_counter()
        for _ in range(200):
            assert cursor is not None
            cursor = trigger.next_after(cursor)
        assert time.perf_counter() - started < SECONDS_MAX / 5
