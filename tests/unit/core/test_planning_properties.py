"""What planning promises of any schedule: every kind of trigger, window, exclusion, zone, delay and jitter.

`after` is no function of a window: its chain is held by its own tests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given, reject, settings
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.core.firing import fire_time
from scheduler.core.model.schedule import (
    EPOCH,
    At,
    Cron,
    Definition,
    Dst,
    Every,
    EveryDays,
    Gap,
    Manual,
    OnExcluded,
    RRule,
    Schedule,
    Trigger,
    Twice,
)
from scheduler.core.planning import Plan, PlanLimits, plan_window
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger, compile_trigger
from scheduler.core.triggers.rrule import compile_rrule
from scheduler.wire.ids import execution_id

MS = timedelta(milliseconds=1)
NO_LIMIT = PlanLimits(nominals_max=100_000)
FINE = (
    *("* * * * * *", "*/7 */3 * * * *", "* * * * *", "*/10 1-3 * * *"),
    *("FREQ=SECONDLY;INTERVAL=13", "FREQ=MINUTELY;INTERVAL=7;BYSECOND=0,30"),
)
COARSE = (
    *("0,30 * * * *", "15 2 * * *", "30 0,1,2,3 * * *", "0 0 L * *", "H H 13 * 5", "@daily"),
    *("FREQ=HOURLY;INTERVAL=5", "FREQ=DAILY;BYHOUR=0,2;BYMINUTE=30", "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU"),
    *("FREQ=MONTHLY;BYDAY=-1SU,1SU;BYHOUR=2", "FREQ=YEARLY;BYYEARDAY=-1,87,300", "FREQ=DAILY;COUNT=40"),
    *("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1,1", "FREQ=DAILY;UNTIL=20270401T003000"),
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo")
# around the changes of 2027 in Berlin, New York, Cairo and Lord Howe, the day that Apia lost, and the ends of time
CENTRES = (
    *(
        datetime(2027, 3, 28, 1, tzinfo=UTC),
        datetime(2027, 10, 31, 1, tzinfo=UTC),
        datetime(2027, 4, 3, 15, tzinfo=UTC),
    ),
    *(
        datetime(2027, 11, 7, 6, tzinfo=UTC),
        datetime(2027, 4, 29, 22, tzinfo=UTC),
        datetime(2011, 12, 30, 10, tzinfo=UTC),
    ),
    *(FIRST + timedelta(days=1), LAST - timedelta(days=400)),
)


def rule_of(text: str, anchor: datetime) -> Trigger:
    return RRule((text,), anchor) if text.startswith("FREQ") else Cron((text,))


def milliseconds(most_ms: int) -> st.SearchStrategy[timedelta]:
    return st.integers(0, most_ms).map(lambda count: count * MS)


@st.composite
def subjects(draw: st.DrawFn) -> tuple[Schedule, list[datetime]]:
    """A schedule, and three instants in order, close enough together that what lies between them can be walked."""
    centre = draw(st.sampled_from(CENTRES))
    is_fine = draw(st.booleans())
    reach = timedelta(minutes=20) if is_fine else timedelta(days=20)
    moments = st.integers(-(reach // MS), reach // MS).map(lambda count: centre + count * MS)
    anchor = draw(st.sampled_from([EPOCH, centre - timedelta(days=30)]) | moments)
    texts = st.sampled_from(FINE if is_fine else COARSE)
    intervals = st.integers(100, 60_000) if is_fine else st.integers(1_000_000, 100_000_000)
    triggers: list[st.SearchStrategy[Trigger]] = [
        texts.map(lambda text: rule_of(text, anchor)),
        st.tuples(texts.filter(lambda text: "FREQ" not in text), texts.filter(lambda text: "FREQ" not in text)).map(
            Cron
        ),
        intervals.map(lambda count: Every(count * MS, anchor)),
        st.integers(1, 9).map(lambda days: EveryDays(days, anchor)),
        st.sets(moments, min_size=1, max_size=6).map(lambda found: At(tuple(sorted(found)))),
        st.just(Manual()),
    ]
    starts_at, ends_at = sorted((draw(moments), draw(moments)))
    fields: dict[str, Any] = {
        "timezone": draw(st.sampled_from([*ZONES, "Pacific/Apia"])),
        "dst": Dst(draw(st.sampled_from(list(Gap))), draw(st.sampled_from(list(Twice)))),
        "starts_at": draw(st.sampled_from([None, starts_at])),
        "ends_at": draw(st.sampled_from([None, ends_at + MS])),
        "jitter": draw(st.sampled_from([timedelta(0), timedelta(seconds=1), timedelta(hours=3), timedelta(days=900)])),
        "start_delay": draw(milliseconds(5000)),
        "exclude": draw(st.sampled_from([(), (), ("* * * * 2",), ("* 2 * * *",)])),
    }
    schedule = Schedule(
        id=draw(st.sampled_from(["a", "b.c"])), queue="q", type="t", trigger=draw(st.one_of(triggers)), **fields
    )
    cuts = sorted(draw(st.lists(moments, min_size=3, max_size=3)))
    return schedule, cuts


def compiled(schedule: Schedule) -> CompiledTrigger:
    try:
        return compile_trigger(schedule)
    except InvalidArgument:  # a combination that never fires, a rule whose UNTIL is before its anchor for example
        reject()


def planned(schedule: Schedule, after: datetime, until: datetime) -> Plan:
    definition = Definition(schedule=schedule, generation=3, effective_at=FIRST)
    return plan_window(definition, compiled(schedule), after=after, until=until, limits=NO_LIMIT)


@settings(max_examples=150, deadline=None)
@given(subjects())
def test_windows_add_up(subject: tuple[Schedule, list[datetime]]) -> None:
    """plan(a, c) is plan(a, b) and then plan(b, c), fire times included."""
    schedule, (a, b, c) = subject
    whole, first, second = planned(schedule, a, c), planned(schedule, a, b), planned(schedule, b, c)
    assert whole.occurrences == first.occurrences + second.occurrences
    assert whole.next_nominal == second.next_nominal
    assert not whole.truncated


@settings(max_examples=150, deadline=None)
@given(subjects())
def test_occurrences_ascend_within_their_window(subject: tuple[Schedule, list[datetime]]) -> None:
    """Strictly, nominal times and fire times; nothing outside of (after, until], nor of [starts_at, ends_at)."""
    schedule, (after, _, until) = subject
    found = planned(schedule, after, until).occurrences
    for earlier, later in pairwise(found):
        assert earlier.nominal_at < later.nominal_at
        assert earlier.fire_at < later.fire_at
    for each in found:
        assert after < each.nominal_at <= until
        assert schedule.starts_at is None or schedule.starts_at <= each.nominal_at
        assert schedule.ends_at is None or each.nominal_at < schedule.ends_at
        assert FIRST <= each.nominal_at <= LAST
        assert not each.nominal_at.microsecond % 1000
        assert not each.fire_at.microsecond % 1000


@settings(max_examples=150, deadline=None)
@given(subjects())
def test_jitter_never_reaches_the_next_nominal_time(subject: tuple[Schedule, list[datetime]]) -> None:
    """A fire time lies in [nominal + delay, nominal + delay + jitter), and before the next nominal + delay."""
    schedule, (after, _, until) = subject
    trigger = compiled(schedule)
    for each in planned(schedule, after, until).occurrences:
        begins = each.nominal_at + schedule.start_delay
        following = trigger.next_after(each.nominal_at)
        assert begins <= each.fire_at < begins + max(schedule.jitter, MS)
        assert following is None or each.fire_at < following + schedule.start_delay


@settings(max_examples=40, deadline=None)  # half a second each: rules are compiled anew
@given(subjects(), st.integers(0, 10**10))
def test_whoever_plans_plans_the_same(subject: tuple[Schedule, list[datetime]], seed: int) -> None:
    """The same ids and the same fire times, whatever was asked before and with nothing kept in memory."""
    schedule, (a, b, c) = subject
    trigger = compiled(schedule)
    for at in (
        c,
        a,
        FIRST + seed * timedelta(seconds=0.7),
        b,
        LAST,
    ):  # what is kept between questions says nothing else
        trigger.previous_before(at)
        trigger.next_after(at)
    one = planned(schedule, a, c).occurrences
    compile_rrule.cache_clear()
    other = planned(schedule, a, c).occurrences
    assert [execution_id(each.schedule_id, each.nominal_at) for each in one] == [
        execution_id(each.schedule_id, each.nominal_at) for each in other
    ]
    assert one == other


@settings(max_examples=200, deadline=None)
@given(subjects())
def test_next_previous_and_yields_agree(subject: tuple[Schedule, list[datetime]]) -> None:
    """Neighbours are each other's neighbours, are yielded, and nothing between them is."""
    schedule, cuts = subject
    trigger = compiled(schedule)
    for at in cuts:
        later, earlier = trigger.next_after(at), trigger.previous_before(at)
        assert later is None or (at < later and trigger.yields(later) and trigger.notes_at(later) is not None)
        assert earlier is None or (earlier < at and trigger.yields(earlier))
        if trigger.yields(at):
            assert later is None or trigger.previous_before(later) == at
            assert earlier is None or trigger.next_after(earlier) == at
        else:
            assert later is None or trigger.previous_before(later) == earlier
            assert earlier is None or trigger.next_after(earlier) == later
        for each in (earlier, later):
            if each is not None:
                assert not trigger.yields(each + MS) or isinstance(schedule.trigger, At | Every)
                assert fire_time(schedule, trigger, each) >= each


@settings(max_examples=60, deadline=None)
@given(subjects(), st.sampled_from([OnExcluded.NEXT_BUSINESS_DAY, OnExcluded.PREVIOUS_BUSINESS_DAY]))
def test_moved_occurrences_add_up_too(subject: tuple[Schedule, list[datetime]], how: OnExcluded) -> None:
    """Moving changes fire times and no nominal times: windows still add up, and nominal times still ascend."""
    schedule, (a, b, c) = subject
    moving = {
        name: getattr(schedule, name) for name in ("id", "queue", "type", "trigger", "timezone", "dst", "ends_at")
    }
    moved = Schedule(**moving, exclude=("* * * * 0,6",), on_excluded=how)
    whole = planned(moved, a, c)
    assert whole.occurrences == planned(moved, a, b).occurrences + planned(moved, b, c).occurrences
    nominals = [each.nominal_at for each in whole.occurrences]
    assert nominals == sorted(set(nominals))
    plain = Schedule(**moving)
    assert nominals == [each.nominal_at for each in planned(plain, a, c).occurrences]
