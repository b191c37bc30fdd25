"""A window of nominal time around any trigger: half-open, and nothing else changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.arming import plan_arming, state_of, turns_at
from scheduler.core.dispatching import InForce
from scheduler.core.model.schedule import At, Cron, Definition, Every, Manual, Schedule, Trigger
from scheduler.core.model.status import ScheduleState
from scheduler.core.planning import plan_edit
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger, compile_trigger, shortest_gap

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
MS = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)


def at(seconds: float) -> datetime:
    return NOON + timedelta(milliseconds=round(seconds * 1000))


def schedule(trigger: Trigger, **fields: Any) -> Schedule:
    return Schedule(id="s", queue="q", type="t", trigger=trigger, **fields)


def compiled(trigger: Trigger, **fields: Any) -> CompiledTrigger:
    return compile_trigger(schedule(trigger, **fields))


def in_force(trigger: Trigger, effective_s: float = 0, **fields: Any) -> InForce:
    subject = schedule(trigger, **fields)
    definition = Definition(schedule=subject, generation=1, effective_at=at(effective_s))
    return InForce(definition, compile_trigger(subject))


def walked(trigger: CompiledTrigger, after: datetime) -> list[datetime]:
    found, cursor = [], trigger.next_after(after)
    while cursor is not None and len(found) < 100:
        found.append(cursor)
        cursor = trigger.next_after(cursor)
    return found


def test_a_window_is_half_open() -> None:
    """An instant at starts_at is in, one at ends_at is not, from whichever side one comes."""
    trigger = compiled(Every(SECOND), starts_at=at(2), ends_at=at(5))
    assert walked(trigger, FIRST) == walked(trigger, at(0)) == [at(2), at(3), at(4)]
    assert walked(trigger, at(3)) == [at(4)]
    assert trigger.next_after(at(4)) is trigger.next_after(LAST) is None
    assert trigger.previous_before(LAST) == trigger.previous_before(at(5)) == at(4)
    assert trigger.previous_before(at(2)) is trigger.previous_before(FIRST) is None
    assert [trigger.yields(at(number)) for number in range(1, 6)] == [False, True, True, True, False]
    assert shortest_gap(trigger) == SECOND


def test_one_bound_alone() -> None:
    """A window may have no start, or no end."""
    assert compiled(Every(SECOND), starts_at=at(2.5)).next_after(FIRST) == at(3)
    assert compiled(Every(SECOND), starts_at=at(2.5)).previous_before(LAST) is not None
    assert compiled(Every(SECOND), ends_at=at(2.5)).previous_before(LAST) == at(2)
    assert compiled(Every(SECOND), ends_at=at(2.5)).next_after(FIRST) == FIRST + SECOND
    assert compiled(Every(SECOND), ends_at=FIRST).next_after(FIRST) is None
    assert compiled(Every(MS), starts_at=LAST).previous_before(LAST + SECOND) == LAST


@given(
    interval_ms=st.integers(1, 9000),
    start=st.none() | st.integers(-20, 20),
    length=st.none() | st.integers(1, 40),
    moment_ms=st.integers(-60_000, 60_000),
)
def test_a_window_only_leaves_out(interval_ms: int, start: int | None, length: int | None, moment_ms: int) -> None:
    """What comes out are exactly the instants of the trigger within, both ways and one by one."""
    starts_at = None if start is None else at(start)
    ends_at = None if length is None else at((start or 0) + length)
    plain = compiled(Every(interval_ms * MS, NOON))
    trigger = compiled(Every(interval_ms * MS, NOON), starts_at=starts_at, ends_at=ends_at)
    moment = NOON + moment_ms * MS

    def is_in(nominal: datetime) -> bool:
        return (starts_at is None or starts_at <= nominal) and (ends_at is None or nominal < ends_at)

    following, last = trigger.next_after(moment), trigger.previous_before(moment)
    expected = plain.next_after(max(moment, (starts_at or FIRST) - MS))
    assert following == (expected if expected is not None and is_in(expected) else None)
    expected = plain.previous_before(min(moment, ends_at or LAST))
    assert last == (expected if expected is not None and is_in(expected) else None)
    assert trigger.yields(moment) == (plain.yields(moment) and is_in(moment))
    assert all(trigger.yields(each) for each in (following, last) if each is not None)


@pytest.mark.parametrize("rule", [Every(SECOND), Cron(("* * * * * *",))])
def test_a_schedule_is_exhausted_when_its_window_is_over(rule: Trigger) -> None:
    """Active up to its last occurrence, exhausted from then on; it turns by itself at that instant."""
    known = in_force(rule, ends_at=at(5))
    assert state_of(known, at(4) - MS) is ScheduleState.ACTIVE
    assert state_of(known, at(4)) is ScheduleState.EXHAUSTED
    assert turns_at(known, at(0), None) == at(4)
    assert turns_at(known, at(4), None) is None
    assert state_of(in_force(rule, starts_at=at(5)), at(0)) is ScheduleState.ACTIVE
    assert state_of(in_force(Manual(), ends_at=at(5)), at(9)) is ScheduleState.ACTIVE


def test_an_edit_of_the_window_takes_back_what_lies_outside() -> None:
    """What is armed behind the new end is disarmed, what is within stays; nothing before the new start is armed."""
    plan = plan_arming(
        in_force(Every(SECOND), effective_s=1, ends_at=at(4)), [at(number) for number in range(1, 9)], at(9)
    )
    assert [each.nominal_at for each in plan.arms] == [at(2), at(3)]
    assert plan.disarms == (at(4), at(5), at(6), at(7), at(8))
    assert plan.next_nominal is None
    plan = plan_arming(in_force(Every(SECOND), effective_s=1, starts_at=at(20)), [], at(9))
    assert (plan.arms, plan.next_nominal) == ((), at(20))


def test_a_late_one_shot_outside_of_the_window_stays_out() -> None:
    """A one-shot that was past when it was put fires late only if its window has it."""
    subject = in_force(At((at(-30), at(-20), at(-10), at(10), at(20))), starts_at=at(-20), ends_at=at(20))
    plan = plan_edit(subject.definition, subject.trigger, until=at(60))
    assert [each.nominal_at for each in plan.occurrences] == [at(-20), at(-10), at(10)]
    assert state_of(subject, at(10)) is ScheduleState.EXHAUSTED
