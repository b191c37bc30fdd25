"""What an edit does to the timeline, as a table, and what it must do for any schedule, any arms, any instant."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.arming import Arming, next_wanted, plan_all, plan_arming, state_of, turns_at
from scheduler.core.dispatching import InForce
from scheduler.core.model.schedule import At, Cron, Definition, Every, Manual, Schedule
from scheduler.core.model.status import ScheduleState
from scheduler.core.triggers import EPOCH, compile_trigger
from scheduler.memory.clock import START

SECOND = timedelta(seconds=1)
Trigger = Cron | Every | At | Manual


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def in_force(trigger: Trigger, *, effective_s: float = 0.5, **fields: Any) -> InForce:
    schedule = Schedule(id="s", queue="Q", type="t", trigger=trigger, **fields)
    return InForce(Definition(schedule=schedule, generation=7, effective_at=at(effective_s)), compile_trigger(schedule))


def armed(plan: Arming) -> list[datetime]:
    return [each.nominal_at for each in plan.arms]


EVERY_SECOND = Every(SECOND)
NO_ARMS: tuple[datetime, ...] = ()


# --- edits


def test_an_edit_arms_what_comes_after_it_up_to_the_reach() -> None:
    """Half-open: not the instant of the edit itself, the reach included; with the generation of the definition."""
    plan = plan_arming(in_force(EVERY_SECOND, effective_s=1), NO_ARMS, at(4))
    assert armed(plan) == [at(2), at(3), at(4)]
    assert {each.generation for each in plan.arms} == {7}
    assert plan.next_nominal == at(5)
    assert plan.disarms == ()


def test_what_is_late_by_then_is_noted_and_not_armed() -> None:
    """Put an hour ago, and nobody led: from the first to the last late one a span, armed from the one behind it on."""
    plan = plan_arming(in_force(EVERY_SECOND, effective_s=-3600), NO_ARMS, at(4), now=at(0))
    assert plan.late is not None
    assert plan.late.first == at(-3599)
    assert at(-12) < plan.late.last < at(-9)
    assert armed(plan)[0] == plan.late.last + SECOND


def test_an_edit_disarms_what_it_does_not_yield() -> None:
    """Wherever it is armed, before the edit or beyond the reach; what still matches stays, beyond the reach anew."""
    there = [at(0), at(1), at(2), at(3), at(50), at(51), at(52.5)]
    plan = plan_arming(in_force(Every(2 * SECOND)), there, at(4))
    assert plan.disarms == (at(1), at(3), at(51), at(52.5))
    assert armed(plan) == [at(2), at(4), at(50)]


@pytest.mark.parametrize("definition", [None, in_force(Manual()), in_force(EVERY_SECOND, paused=True)])
def test_what_yields_nothing_disarms_everything(definition: InForce | None) -> None:
    """Deleted, invalid, manual, paused without end."""
    plan = plan_arming(definition, [at(3), at(1)], at(9))
    assert plan == Arming((), (at(1), at(3)), None)


def test_a_pause_with_an_end() -> None:
    """Up to its end nothing, from it on everything: its end itself is not paused."""
    definition = in_force(EVERY_SECOND, paused=True, paused_until=at(3))
    plan = plan_arming(definition, [at(1), at(3), at(4)], at(4))
    assert (armed(plan), plan.disarms, plan.next_nominal) == ([at(3), at(4)], (at(1),), at(5))
    plan = plan_arming(definition, NO_ARMS, at(1))
    assert (armed(plan), plan.next_nominal) == ([], at(3))


def test_a_late_one_shot_is_armed_unless_it_was_dealt_with() -> None:
    """Within the window before it was put, and not in the definition that was applied before."""
    definition = in_force(At((at(-90_000), at(-10), at(2))))
    assert armed(plan_arming(definition, NO_ARMS, at(5))) == [at(-10), at(2)]
    previous = in_force(At((at(-10),)), effective_s=-100).definition
    assert armed(plan_arming(definition, NO_ARMS, at(5), previous=previous)) == [at(2)]
    paused = in_force(At((at(-10), at(2))), paused=True)
    assert armed(plan_arming(paused, NO_ARMS, at(5))) == []


def test_the_first_start_owes_nothing_for_the_time_before() -> None:
    """Except one-shots within their window before it."""
    repeated = in_force(EVERY_SECOND, effective_s=-86_400 * 900)
    assert armed(plan_arming(repeated, NO_ARMS, at(2), not_before=at(0))) == [at(1), at(2)]
    once = in_force(At((at(-90_000), at(-10), at(1))), effective_s=-86_400 * 900)
    assert armed(plan_arming(once, NO_ARMS, at(2), not_before=at(0))) == [at(-10), at(1)]


def test_more_than_one_plan_holds() -> None:
    """Forty thousand nominal times come out complete, in order, each once."""
    definition = in_force(EVERY_SECOND, effective_s=0)
    plan = plan_arming(definition, NO_ARMS, at(40_000))
    assert armed(plan) == [at(number) for number in range(1, 40_001)]
    assert plan.next_nominal == at(40_001)


@given(
    interval_s=st.integers(1, 7),
    effective_s=st.integers(-20, 20),
    reach_s=st.integers(-5, 40),
    there=st.sets(st.integers(-20, 60)),
    pause=st.none() | st.integers(-20, 40),
)
def test_an_edit_makes_the_timeline_right(
    interval_s: int, effective_s: int, reach_s: int, there: set[int], pause: int | None
) -> None:
    """Whatever is armed: afterwards everything wanted in (effective, reach] is, with the new generation, and nothing
    that the definition does not yield; a second time changes nothing."""
    paused = {} if pause is None else {"paused": True, "paused_until": at(pause)}
    definition = in_force(Every(interval_s * SECOND), effective_s=effective_s, **paused)
    before = [at(number) for number in sorted(there)]
    plan = plan_arming(definition, before, at(reach_s))
    after = set(before) - set(plan.disarms) | set(armed(plan))
    wanted = {at(number) for number in range(effective_s + 1, reach_s + 1)}
    wanted |= {
        each for each in before if each > max(at(reach_s), at(effective_s))
    }  # there may be another fire time now
    wanted = {each for each in wanted if definition.trigger.yields(each) and (pause is None or each >= at(pause))}
    assert set(armed(plan)) == wanted
    assert wanted <= after
    assert all(definition.trigger.yields(each) for each in after)
    again = plan_arming(definition, sorted(after), at(reach_s))
    assert (again.arms, again.disarms) == (plan.arms, ())
    assert plan.next_nominal is not None
    assert plan.next_nominal > max(at(reach_s), at(effective_s))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.none() | st.integers(0, 60))
def test_slices_meet_without_gap_or_overlap(cuts: list[int], pause: int | None) -> None:
    """Windows planned one after the other, each from where the agenda says, hold what one window holds."""
    paused = {} if pause is None else {"paused": True, "paused_until": at(pause)}
    definition = in_force(Cron(("*/3 * * * * *", "*/5 * * * * *")), effective_s=0, **paused)
    found, following = [], next_wanted(definition, at(0))
    edges = [0, *sorted(cuts), 60]
    for after, until in itertools.pairwise(edges):
        if following is not None and following <= at(until):
            occurrences, following = plan_all(definition, at(after), at(until))
            found += occurrences
    assert found == plan_all(definition, at(0), at(60))[0]
    assert following is not None
    assert following > at(60)


# --- what it shows


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (None, ScheduleState.INVALID),
        (in_force(EVERY_SECOND), ScheduleState.ACTIVE),
        (in_force(Manual()), ScheduleState.ACTIVE),
        (in_force(EVERY_SECOND, paused=True), ScheduleState.PAUSED),
        (in_force(EVERY_SECOND, paused=True, paused_until=at(10)), ScheduleState.ACTIVE),
        (in_force(EVERY_SECOND, paused=True, paused_until=at(11)), ScheduleState.PAUSED),
        (in_force(At((at(10),))), ScheduleState.EXHAUSTED),
        (in_force(At((at(1), at(11)))), ScheduleState.ACTIVE),
        (in_force(At((at(1),)), paused=True), ScheduleState.PAUSED),
        (in_force(Cron(("10 0 8 21 11 * 2026",))), ScheduleState.EXHAUSTED),
        (in_force(Cron(("11 0 8 21 11 * 2026",))), ScheduleState.ACTIVE),
    ],
)
def test_the_state_at_an_instant(definition: InForce | None, expected: ScheduleState) -> None:
    """Of what was put at 8:00:00.5, at 8:00:10."""
    assert state_of(definition, at(10)) is expected


@pytest.mark.parametrize(
    ("definition", "following", "expected"),
    [
        (in_force(EVERY_SECOND), at(21), None),
        (in_force(Manual()), None, None),
        (in_force(EVERY_SECOND, paused=True), None, None),
        (in_force(EVERY_SECOND, paused=True, paused_until=at(15)), at(21), at(15)),
        (in_force(EVERY_SECOND, paused=True, paused_until=at(10)), at(21), None),
        (in_force(At((at(5), at(15)))), None, at(15)),
        (in_force(At((at(5), at(25)))), at(25), None),
        (in_force(At((at(5),))), None, None),
        (in_force(At((at(5), at(15))), paused=True, paused_until=at(12)), None, at(12)),
        (in_force(At((at(5), at(15))), paused=True, paused_until=at(7)), None, at(15)),
        (in_force(Cron(("15 0 8 21 11 * 2026",))), None, at(15)),
    ],
)
def test_when_the_state_turns_by_itself(
    definition: InForce, following: datetime | None, expected: datetime | None
) -> None:
    """After 8:00:10, all planned up to 8:00:20: the state is another one at that instant, and not before."""
    assert turns_at(definition, at(10), following) == expected
    if expected is not None:
        millisecond = timedelta(milliseconds=1)
        assert state_of(definition, expected) is not state_of(definition, expected - millisecond)
        assert state_of(definition, at(10)) is state_of(definition, expected - millisecond)


def test_what_planning_waits_for() -> None:
    """The next nominal time that is in force and in no pause."""
    assert next_wanted(in_force(EVERY_SECOND, effective_s=30), at(10)) == at(31)
    assert next_wanted(in_force(EVERY_SECOND, paused=True), at(10)) is None
    assert next_wanted(in_force(EVERY_SECOND, paused=True, paused_until=at(20)), at(10)) == at(20)
    assert next_wanted(in_force(EVERY_SECOND, paused=True, paused_until=at(20)), at(25)) == at(26)
    assert next_wanted(in_force(At((at(5),))), at(5)) is None
    assert next_wanted(in_force(EVERY_SECOND, effective_s=-(10**9)), EPOCH) == at(-(10**9)) + SECOND
