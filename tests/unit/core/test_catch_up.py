"""Catch-up: every late nominal time gets one verdict, whichever mode, window, cap and pause; spans of any length."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from scheduler.core.catch_up import (
    Decision,
    Span,
    catch_up,
    counted,
    disowned,
    drained,
    is_dealt_with,
    is_late,
    late_after,
    missed_in_chain,
    newest_late,
    owed_in,
    with_decided,
    with_late,
    with_late_span,
    with_span,
    without_disowned,
)
from scheduler.core.firing import fire_time
from scheduler.core.model.schedule import After, At, CatchUp, Cron, Definition, Every, Schedule, Trigger
from scheduler.core.model.status import Deciding, StatusRow
from scheduler.core.triggers import CompiledTrigger, compile_trigger

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = Every(timedelta(minutes=1))


def at(minutes: float) -> datetime:
    return NOON + timedelta(milliseconds=round(minutes * 60_000))


def schedule(trigger: Trigger = MINUTE, **fields: Any) -> Schedule:
    policy = {name: fields.pop(name) for name in ("mode", "after", "window", "max") if name in fields}
    return Schedule(id="s", queue="q", type="t", trigger=trigger, catch_up=CatchUp(**policy), **fields)


def in_force(subject: Schedule, *, since: float = -1) -> Definition:
    return Definition(schedule=subject, generation=7, effective_at=at(since))


def decided(subject: Schedule, first: float, last: float, now: float, recorded: tuple[float, ...] = ()) -> Any:
    """What becomes of the minutes `first` to `last`: those that fire, and (first, last, count, verdict, reason)."""
    span = Deciding(at(first), at(last), at(now))
    decision = catch_up(subject, compile_trigger(subject), span, [at(each) for each in recorded])
    return _in_minutes(decision)


def _in_minutes(decision: Decision) -> Any:
    def minute(moment: datetime) -> float:
        return (moment - NOON) / timedelta(minutes=1)

    ranges = [(minute(r.first), minute(r.last), r.count, r.verdict, r.reason) for r in decision.ranges]
    return [minute(each) for each in decision.fires], ranges


MISSED = "missed"
CASES: dict[str, tuple[dict[str, Any], tuple[float, ...], Any]] = {
    "latest": ({"mode": "latest"}, (), ([5], [(1, 4, 4, MISSED, "catch_up")])),
    "earliest": ({"mode": "earliest"}, (), ([1], [(2, 5, 4, MISSED, "catch_up")])),
    "all": ({"mode": "all"}, (), ([1, 2, 3, 4, 5], [])),
    "none": ({"mode": "none"}, (), ([], [(1, 5, 5, MISSED, "catch_up")])),
    "all, capped": ({"mode": "all", "max": 2}, (), ([1, 2], [(3, 5, 3, MISSED, "cap")])),
    "all, window": (
        {"mode": "all", "window": timedelta(minutes=3)}, (), ([3, 4, 5], [(1, 2, 2, MISSED, "window")])
    ),
    "all, window and cap": (
        {"mode": "all", "window": timedelta(minutes=3), "max": 1}, (),
        ([3], [(1, 2, 2, MISSED, "window"), (4, 5, 2, MISSED, "cap")]),
    ),
    "latest, window": (
        {"mode": "latest", "window": timedelta(minutes=3)}, (),
        ([5], [(1, 2, 2, MISSED, "window"), (3, 4, 2, MISSED, "catch_up")]),
    ),
    "latest, all out of the window": (
        {"mode": "latest", "window": timedelta(0)}, (), ([], [(1, 5, 5, MISSED, "window")])
    ),
    "earliest, window": (
        {"mode": "earliest", "window": timedelta(minutes=3)}, (),
        ([3], [(1, 2, 2, MISSED, "window"), (4, 5, 2, MISSED, "catch_up")]),
    ),
    "latest, the newest has a record": ({"mode": "latest"}, (5,), ([], [(1, 4, 4, MISSED, "catch_up")])),
    "earliest, the oldest has a record": ({"mode": "earliest"}, (1,), ([2], [(3, 5, 3, MISSED, "catch_up")])),
    "all, some have records": ({"mode": "all", "max": 2}, (1, 3), ([2, 4], [(5, 5, 1, MISSED, "cap")])),
    "all have records": ({"mode": "none"}, (1, 2, 3, 4, 5), ([], [])),
    "paused to the end": ({"paused": True}, (), ([], [(1, 5, 5, "paused", "paused")])),
    "paused for a while": (
        {"mode": "latest", "paused": True, "paused_until": at(3)}, (),
        ([5], [(1, 2, 2, "paused", "paused"), (3, 4, 2, MISSED, "catch_up")]),
    ),
    "paused beyond the span": (
        {"mode": "all", "paused": True, "paused_until": at(5.5)}, (), ([], [(1, 5, 5, "paused", "paused")])
    ),
    "paused and out of the window": (
        {"mode": "all", "paused": True, "paused_until": at(2), "window": timedelta(minutes=2)}, (),
        ([4, 5], [(1, 1, 1, "paused", "paused"), (2, 3, 2, MISSED, "window")]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_verdicts(case: str) -> None:
    """Of the minutes 1 to 5, decided half a minute after the last: who fires, and the ranges of the others."""
    fields, recorded, expected = CASES[case]
    assert decided(schedule(**fields), 1, 5, 5.5, recorded) == expected


def test_the_latest_leaves_it_to_a_successor_that_is_due() -> None:
    """Where the next one is due already, and on time, that one is the make-up."""
    assert decided(schedule(mode="latest"), 1, 5, 6) == ([], [(1, 5, 5, MISSED, "catch_up")])
    assert decided(schedule(mode="latest", start_delay=timedelta(seconds=1)), 1, 5, 6)[0] == [5]
    once = schedule(At((at(1), at(5))), mode="latest")
    assert decided(once, 1, 5, 90) == ([5], [(1, 1, 1, MISSED, "catch_up")])


def test_the_window_is_measured_from_the_fire_time() -> None:
    """What fires an hour after its nominal time is as late as that makes it."""
    delayed = schedule(mode="all", start_delay=timedelta(minutes=60), window=timedelta(minutes=3))
    assert decided(delayed, 1, 5, 65.5)[0] == [3, 4, 5]


@pytest.mark.parametrize("mode", ["all", "latest", "earliest", "none"])
def test_nothing_fires_that_may_have_fired_and_be_forgotten(mode: str) -> None:
    """Records outlive catch-up, whatever its policy says: what is older is missed, and the reason names the setting."""
    subject = schedule(mode=mode, window=timedelta(hours=9), known_for=timedelta(minutes=3))
    fires, told = decided(subject, 1, 5, 5.5)
    assert told[0] == (1, 2, 2, MISSED, "retention")
    assert fires == {"all": [3, 4, 5], "latest": [5], "earliest": [3], "none": []}[mode]


def test_late_at_the_latest_when_a_record_may_be_gone() -> None:
    """Even where the policy would wait for longer: from then on the leader decides, who does not fire it."""
    subject = schedule(after=timedelta(hours=9), known_for=timedelta(minutes=3))
    assert is_late(subject, NOON, at(3.01))
    assert not is_late(subject, NOON, at(3))
    chain = structs.replace(subject, trigger=After(timedelta(minutes=5)))
    assert missed_in_chain(chain, NOON, at(3.01)) == "retention"
    assert missed_in_chain(chain, NOON, at(3)) is None


@pytest.mark.parametrize(("after", "late_s"), [(10, 10.001), (0, 1.001), (3600, 3600.001)])
def test_late(after: float, late_s: float) -> None:
    """Late is later than `after`, and a second is nobody's fault."""
    subject = schedule(after=timedelta(seconds=after))
    assert is_late(subject, NOON, NOON + timedelta(seconds=late_s))
    assert not is_late(subject, NOON, NOON + timedelta(seconds=late_s - 0.001))


def test_a_chain_is_never_late() -> None:
    """The next one counts from its end: there is always one to run, however late."""
    assert not is_late(schedule(After(timedelta(minutes=1))), NOON, NOON + timedelta(days=9))


@given(
    st.sampled_from([MINUTE, Every(timedelta(seconds=7)), Cron(("*/3 * * * *",)), At((at(1), at(2.5), at(60)))]),
    st.sampled_from([0, 5, 1800]),
    st.integers(0, 7200),
)
def test_the_newest_late_one(trigger: Trigger, delay_s: int, now_s: int) -> None:
    """It is the last of those that are late, one by one."""
    subject = schedule(trigger, start_delay=timedelta(seconds=delay_s))
    compiled, now = compile_trigger(subject), NOON + timedelta(seconds=now_s)
    first = compiled.next_after(NOON)
    assert first is not None
    late = list(
        takewhile(lambda each: is_late(subject, fire_time(subject, compiled, each), now), _from(compiled, NOON))
    )
    assert newest_late(subject, compiled, first, now) == (late[-1] if late else None)


def _from(trigger: CompiledTrigger, after: datetime) -> Any:
    nominal = trigger.next_after(after)
    while nominal is not None:
        yield nominal
        nominal = trigger.next_after(nominal)


@given(
    st.sampled_from(["latest", "earliest", "all", "none"]),
    st.integers(1, 40),
    st.integers(0, 50),
    st.integers(1, 12),
    st.one_of(st.none(), st.integers(0, 50)),
    st.sets(st.integers(1, 40)),
)
def test_one_verdict_each(
    mode: str, last: int, window: int, limit: int, paused_until: int | None, recorded: set[int]
) -> None:
    """Whatever the policy: each late nominal time has a record, fires, or is counted in exactly one range."""
    pause = {} if paused_until is None else {"paused": True, "paused_until": at(paused_until)}
    subject = schedule(mode=mode, window=timedelta(minutes=window), max=limit, **pause)
    known = tuple(float(each) for each in sorted(recorded) if each <= last)
    fires, ranges = decided(subject, 1, last, last + 0.5, known)
    told = [minute for first, end, *_ in ranges for minute in range(int(first), int(end) + 1)]
    assert sorted({*fires, *told, *known}) == list(range(1, last + 1))
    assert len(told) == len(set(told))
    assert not set(fires) & {*told, *known}
    assert sum(count for *_, count, _, _ in ranges) == len(set(told) - set(known))
    assert fires == sorted(fires)
    assert len(fires) <= {"latest": 1, "earliest": 1, "all": limit, "none": 0}[mode]


def test_a_month_of_seconds_is_counted_in_steps() -> None:
    """Millions are counted exactly: an interval at once, a cron step by step with pauses; what fires stays bounded."""
    month = 30 * 86_400
    span = Deciding(NOON, NOON + timedelta(seconds=month - 1), NOON + timedelta(seconds=month + 60))
    every = schedule(Every(timedelta(seconds=1)), mode="all")
    decision = catch_up(every, compile_trigger(every), span)
    assert len(decision.fires) == 100
    assert [(each.reason, each.count) for each in decision.ranges] == [
        ("window", month - 86_400 + 60), ("cap", 86_400 - 60 - 100),
    ]  # fmt: skip
    cron = compile_trigger(schedule(Cron(("* * * * * *",))))
    cron = schedule(Cron(("* * * * * *",)))
    counting = counted(compile_trigger(cron), NOON, NOON + timedelta(seconds=86_399))
    assert 10 <= sum(1 for _ in counting) <= 100
    assert drained(counted(compile_trigger(cron), NOON, NOON + timedelta(seconds=86_399))) == 86_400
    day = Deciding(NOON, NOON + timedelta(days=1), NOON + timedelta(days=1, seconds=20))
    decision = catch_up(cron, compile_trigger(cron), day)
    assert [(each.reason, each.count) for each in decision.ranges] == [("window", 20), ("catch_up", 86_381)]


# --- the row


def test_a_note_is_kept_once() -> None:
    """The oldest late one is noted; what lies in a catch-up that is fixed or carried out is not noted again."""
    row = with_late(StatusRow(), [at(3), at(2), at(4)])
    assert row.late_from == at(2)
    assert with_late(row, [at(3)]) == row
    assert with_late(row, [at(1)]).late_from == at(1)
    fixed = StatusRow(deciding=Deciding(at(2), at(5), at(6)))
    assert with_late(fixed, [at(2), at(5)]) == fixed
    assert with_late(fixed, [at(1), at(6)]).late_from == at(1)
    done = StatusRow(decided_from=at(2), decided=at(5))
    assert all(is_dealt_with(done, at(minute)) for minute in (2, 3.5, 5))
    assert not is_dealt_with(done, at(1))
    assert not is_dealt_with(done, at(6))


def test_a_span_is_fixed_once() -> None:
    """From the note to the newest late one; nothing while one is under way, none is late yet, or none is left."""
    subject = schedule()
    trigger = compile_trigger(subject)
    row = with_span(StatusRow(late_from=at(2)), in_force(subject), trigger, at(5.5))
    assert row == StatusRow(deciding=Deciding(at(2), at(5), at(5.5), 7))
    assert with_span(row, in_force(subject), trigger, at(9.5)) == row
    early = StatusRow(late_from=at(5))
    assert with_span(early, in_force(subject), trigger, at(5.1)) == early
    once = schedule(At((at(1),)))
    assert with_span(StatusRow(late_from=at(5)), in_force(once), compile_trigger(once), at(9)) == StatusRow()


def test_a_note_of_what_was_not_late_yet_is_kept() -> None:
    """Noted between the leader's look at the clock and his write, or by somebody whose clock is ahead: it is decided
    next, though the note that stood already was older; and he who read the row before it finds it changed."""
    subject = schedule()
    trigger = compile_trigger(subject)
    before = with_late(StatusRow(), [at(2)])
    noted = with_late(before, [at(6)])
    assert noted != before
    fixed = with_span(noted, in_force(subject), trigger, at(5.5))
    assert fixed == StatusRow(late_from=at(6), late_until=at(6), deciding=Deciding(at(2), at(5), at(5.5), 7))
    closed = with_decided(fixed, Deciding(at(2), at(5), at(5.5), 7), subject, trigger)
    assert with_span(closed, in_force(subject), trigger, at(5.6)) == closed
    rest = with_span(closed, in_force(subject), trigger, at(9.5))
    assert (rest.deciding, rest.late_from, rest.late_until) == (Deciding(at(6), at(9), at(9.5), 7), None, None)
    older = StatusRow(late_from=at(1), late_until=at(7), decided_from=at(4), decided=at(6))
    assert with_span(older, in_force(subject), trigger, at(5.5)).late_from == at(7)
    edited = in_force(subject, since=4.5)
    assert without_disowned(noted, edited, trigger, at(5.1)).late_from == at(5)


def test_what_was_decided_is_not_decided_again() -> None:
    """An older one that comes after all is decided up to there, and what is late behind it after that."""
    subject = schedule()
    trigger = compile_trigger(subject)
    row = with_span(StatusRow(late_from=at(1), decided_from=at(4), decided=at(6)), in_force(subject), trigger, at(9.5))
    assert row.deciding == Deciding(at(1), at(3), at(9.5), 7)
    assert row.late_from == at(7)
    assert row.deciding is not None
    closed = with_decided(row, row.deciding, subject, trigger)
    assert (closed.decided_from, closed.decided, closed.deciding) == (at(1), at(6), None)


@pytest.mark.parametrize(
    ("trigger", "first", "joined"),
    [(MINUTE, 5, True), (MINUTE, 6, True), (MINUTE, 7, False), (At((at(1), at(5), at(6), at(7))), 7, True)],
)
def test_spans_that_meet_are_joined(trigger: Trigger, first: float, joined: bool) -> None:
    """One interval stands for all that was decided around it; a later one takes its place, but for one-shots."""
    subject, span = schedule(trigger), Deciding(at(first), at(8), at(9))
    before = StatusRow(decided_from=at(1), decided=at(5))
    row = with_decided(structs.replace(before, deciding=span), span, subject, compile_trigger(subject))
    assert (row.decided_from, row.decided, row.deciding) == (at(1) if joined else at(first), at(8), None)
    assert with_decided(before, span, subject, compile_trigger(subject)) == before


def test_an_edit_supersedes_what_it_finds_late() -> None:
    """Fixed for another definition, or noted before this one took effect: told as a range, then forgotten."""
    edited, trigger = in_force(schedule(), since=4.5), compile_trigger(schedule())
    row = StatusRow(late_from=at(2))
    assert disowned(row, edited, at(9)) == (Span(at(2), at(4.5)),)
    assert without_disowned(row, edited, trigger, at(9)) == StatusRow(late_from=at(5))
    assert with_span(row, edited, trigger, at(9)) == row
    assert without_disowned(row, edited, trigger, at(5.1)) == StatusRow()  # the next one is yet to be late
    never = in_force(schedule(At((at(1),))), since=4.5)  # not even one that fires nothing any more forgets it untold
    assert with_span(row, never, compile_trigger(never.schedule), at(9)) == row
    fixed = StatusRow(deciding=Deciding(at(1), at(3), at(4), 6))
    assert disowned(fixed, edited, at(9)) == (Span(at(1), at(3)),)
    assert without_disowned(fixed, edited, trigger, at(9)) == StatusRow()
    same = StatusRow(late_from=at(5), deciding=Deciding(at(1), at(3), at(4), 7))
    assert disowned(same, edited, at(9)) == ()
    assert without_disowned(same, edited, trigger, at(9)) == same


def test_one_shots_are_owed_whoever_asks() -> None:
    """An `at` that was past when it was put is late, not retroactive; a schedule that is gone owes nothing."""
    once = schedule(At((at(1), at(2))))
    definition, trigger = in_force(once, since=9), compile_trigger(once)
    row = StatusRow(late_from=at(1), deciding=Deciding(at(2), at(2), at(4), 3))
    assert disowned(row, definition, at(10)) == ()
    assert with_span(StatusRow(late_from=at(1)), definition, trigger, at(10)).deciding == Deciding(
        at(1), at(2), at(10), 7
    )
    assert catch_up(once, trigger, Deciding(at(0.5), at(0.6), at(2))) == Decision()
    assert disowned(row, None, at(10)) == (Span(at(2), at(2)), Span(at(1), at(10)))
    other = StatusRow(late_from=at(0.5))
    assert disowned(other, definition, at(10)) == (Span(at(0.5), at(9)),)
    assert without_disowned(other, definition, trigger, at(10)) == StatusRow(late_from=at(1))
    assert without_disowned(row, None, None, at(10)) == StatusRow()


def test_what_was_never_armed_is_noted_behind_what_is_dealt_with() -> None:
    """A planner that repeats what its predecessor handed over notes only what came after."""
    subject = in_force(schedule())
    trigger = compile_trigger(subject.schedule)
    span = late_after(subject.schedule, trigger, at(1), at(9.5))
    assert span == Span(at(1), at(9))
    assert span is not None
    assert with_late_span(StatusRow(), trigger, span).late_from == at(1)
    assert with_late_span(StatusRow(decided_from=at(1), decided=at(5)), trigger, span).late_from == at(6)
    under_way = StatusRow(decided_from=at(1), decided=at(5), deciding=Deciding(at(6), at(9), at(9.2)))
    assert with_late_span(under_way, trigger, span) == under_way
    assert late_after(subject.schedule, trigger, at(9.4), at(9.5)) is None
    once = schedule(At((at(1),)))
    assert late_after(once, compile_trigger(once), at(1), at(9)) is None


def test_what_a_definition_owed() -> None:
    """From when it took effect, pauses left out, and a bounded list."""
    trigger, span = compile_trigger(schedule()), Span(at(1), at(5))
    assert drained(owed_in(in_force(schedule(), since=2), trigger, span)) == (at(3), at(4), at(5))
    assert drained(owed_in(in_force(schedule(paused=True)), trigger, span)) == ()
    assert drained(owed_in(in_force(schedule(paused=True, paused_until=at(4))), trigger, span)) == (at(4), at(5))
    long = Span(at(0), at(100_000))
    assert len(drained(owed_in(in_force(schedule()), trigger, long))) == 10_000


@pytest.mark.parametrize(
    ("mode", "late_s", "expected"),
    [
        ("none", 9, None),
        ("none", 11, "catch_up"),
        ("latest", 11, None),
        ("earliest", 11, None),
        ("all", 3600, None),
        ("all", 3601, "window"),
        ("none", 3601, "window"),
    ],
)
def test_a_late_chain(mode: str, late_s: float, expected: str | None) -> None:
    """There is one at a time: it fires late, but for mode none and beyond the window. Other triggers: never asked."""
    policy = CatchUp(mode=mode, window=timedelta(hours=1))
    chain = Schedule(id="a", queue="q", type="t", trigger=After(timedelta(minutes=5)), catch_up=policy)
    now = NOON + timedelta(seconds=late_s)
    assert missed_in_chain(chain, NOON, now) == expected
    assert not is_late(chain, NOON, now)
    assert missed_in_chain(structs.replace(chain, trigger=MINUTE), NOON, now) is None


def test_what_is_fixed_is_not_fixed_anew() -> None:
    """What is noted beside a catch-up that is under way waits for its own turn."""
    row = StatusRow(deciding=Deciding(at(1), at(3), at(4), 7), late_from=at(4), late_until=at(5))
    assert with_span(row, in_force(schedule()), compile_trigger(schedule()), at(90)) == row
