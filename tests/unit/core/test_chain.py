"""Chains (`after`): what each step and each edit makes of the one occurrence that is to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from scheduler.core.arming import state_of, turns_at
from scheduler.core.chain import (
    Stall,
    adjusted,
    applied,
    begin,
    followed,
    given_up,
    is_chained,
    next_of,
    plan_chain,
    repair_chain,
    seems_stalled,
    started,
    to_come,
    with_chain,
)
from scheduler.core.dispatching import InForce
from scheduler.core.lifecycle import TERMINAL
from scheduler.core.model.execution import Execution, Kind, State
from scheduler.core.model.schedule import After, Definition, Every, Schedule
from scheduler.core.model.status import Chain, ScheduleState, StatusRow
from scheduler.core.reconciling import Ages
from scheduler.core.triggers import compile_trigger
from tests.unit.core.executions import claimed

T = datetime(2026, 11, 21, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minutes: float) -> datetime:
    return T + minutes * MINUTE


def definition(effective: float = 0, *, delay: float = 5, generation: int = 1, **fields: Any) -> InForce:
    schedule = Schedule(id="a", queue="q", type="t", **{"trigger": After(delay * MINUTE), **fields})
    found = Definition(schedule=schedule, generation=generation, effective_at=at(effective))
    return InForce(found, compile_trigger(schedule))


def ended(nominal: float, end: float, state: State = State.SUCCEEDED, kind: Kind = Kind.AUTO) -> Execution:
    return claimed(state=state, nominal_at=at(nominal), finished_at=at(end), kind=kind)


def run(
    chain: Chain | None, nominal: float, end: float, under: InForce | None, state: State = State.SUCCEEDED
) -> Chain:
    """The chain after one whole occurrence."""
    begun = started(chain, at(nominal), at(nominal))
    assert begun is not None
    after = followed(begun, ended(nominal, end, state), under)
    assert after is not None
    return after


def test_a_chain_begins_with_its_definition() -> None:
    """The first nominal time is the server's timestamp of the definition; the delay only counts from an end."""
    assert begin(definition(3), since=at(0)).nominal == at(3)


def test_nothing_is_owed_for_the_time_before_schedd_was_there() -> None:
    """What was put before the first start begins with it."""
    assert begin(definition(3), since=at(10)).nominal == at(10)


def test_start_delay_is_added_once() -> None:
    """By the fire time alone: nominal times count from ends."""
    force = definition(start_delay=2 * MINUTE)
    chain = begin(force, since=at(0))
    first = to_come(chain, force)
    assert first is not None
    assert (first.nominal_at, first.fire_at) == (at(0), at(2))
    second = to_come(run(chain, 0, 3, force), force)
    assert second is not None
    assert (second.nominal_at, second.fire_at) == (at(8), at(10))


@pytest.mark.parametrize(
    "state",
    sorted(TERMINAL),
)
def test_the_next_one_follows_the_end_of_any_kind(state: State) -> None:
    """Whether it ran or not: the delay counts from the instant of its terminal record."""
    chain = begin(definition(), since=at(0))
    after = followed(chain, ended(0, 7, state), definition())
    assert after is not None
    assert (after.counts_from, after.nominal, after.started_at, after.is_first) == (at(7), at(12), None, False)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (ended(0, 7, kind=Kind.MANUAL), "a manual run"),
        (ended(0, 7, kind=Kind.BACKFILL), "a backfill"),
        (ended(-5, 7), "an occurrence that it does not wait for"),
        (structs.replace(ended(0, 7), state=State.RUNNING), "a run that is not over"),
    ],
)
def test_what_does_not_move_a_chain(other: Execution, why: str) -> None:
    """Only the end of the occurrence that it waits for does."""
    chain = begin(definition(), since=at(0))
    assert followed(chain, other, definition()) == chain, why


def test_an_end_moves_it_once() -> None:
    """The same end told again finds the chain gone on."""
    chain = run(begin(definition(), since=at(0)), 0, 7, definition())
    assert followed(chain, ended(0, 9), definition()) == chain


def test_it_never_steps_back() -> None:
    """An end before its own nominal time (clocks that disagree) counts as one at that time."""
    chain = begin(definition(), since=at(0))
    after = followed(chain, ended(0, -1), definition(delay=0.001))
    assert after is not None
    assert after.nominal is not None
    assert after.nominal > at(0)


def test_only_the_one_to_come_starts() -> None:
    """An old message of a nominal time that was edited away is told so; starting again changes nothing."""
    chain = begin(definition(), since=at(0))
    assert started(chain, at(1), at(1)) is None
    assert started(None, at(0), at(1)) is None
    first = started(chain, at(0), at(1))
    assert first is not None
    assert started(first, at(0), at(2)) == first


# --- edits: (edit, and what becomes of a chain whose last run ended at 0 and that is to go on at 5)

EDITS: list[tuple[str, dict[str, Any], float | None]] = [
    ("payload only", {"effective": 2, "payload": b"1"}, 5),
    ("payload only, when it is due already", {"effective": 6, "payload": b"1"}, 5),
    ("a longer delay", {"effective": 2, "delay": 10}, 10),
    ("a shorter delay", {"effective": 2, "delay": 3}, 3),
    ("a delay that would have passed", {"effective": 2, "delay": 1}, 2),
    ("a pause without an end", {"effective": 2, "paused": True}, None),
    ("a pause that ends later", {"effective": 2, "paused": True, "paused_until": at(9)}, 9),
    ("a pause that ends before", {"effective": 2, "paused": True, "paused_until": at(4)}, 5),
    ("starts later", {"effective": 2, "starts_at": at(20)}, 20),
    ("ends before", {"effective": 2, "ends_at": at(5)}, None),
    ("ends after", {"effective": 2, "ends_at": at(6)}, 5),
    ("ends before the edit could move it", {"effective": 4, "delay": 1, "ends_at": at(3)}, None),
]


@pytest.mark.parametrize(("name", "edit", "expected"), EDITS, ids=[name for name, _, _ in EDITS])
def test_edits(name: str, edit: dict[str, Any], expected: float | None) -> None:
    """What is asked for as before stays; what is moved is never moved to before the edit."""
    chain = run(begin(definition(-10), since=at(-10)), -10, 0, definition(-10))
    after = adjusted(chain, definition(**edit, generation=2))
    assert after.nominal == (None if expected is None else at(expected))
    assert adjusted(after, definition(**edit, generation=2)) == after


def test_a_run_under_way_is_left_alone() -> None:
    """And its end counts the delay that is in force then."""
    chain = started(begin(definition(), since=at(0)), at(0), at(0))
    assert chain is not None
    assert adjusted(chain, definition(1, delay=60)) == chain
    after = followed(chain, ended(0, 3), definition(1, delay=60))
    assert after is not None
    assert after.nominal == at(63)


def test_resumed_it_goes_on_from_where_it_stood_but_not_before() -> None:
    """max(what was to come, the resume)."""
    chain = run(begin(definition(-10), since=at(-10)), -10, 0, definition(-10))
    paused = adjusted(chain, definition(2, paused=True))
    assert adjusted(paused, definition(3)).nominal == at(5)
    assert adjusted(paused, definition(30)).nominal == at(30)


def test_a_run_that_ends_in_a_pause() -> None:
    """Nothing is to come until the resume."""
    chain = started(begin(definition(), since=at(0)), at(0), at(0))
    paused = followed(chain, ended(0, 3), definition(1, paused=True))
    assert paused is not None
    assert paused.nominal is None
    assert adjusted(paused, definition(20)).nominal == at(20)


def test_another_payload_does_not_undo_an_edit_of_the_delay() -> None:
    """What was moved to the instant of one edit is not moved on by the next one."""
    chain = run(begin(definition(-10), since=at(-10)), -10, 0, definition(-10))
    moved = adjusted(chain, definition(2, delay=1))
    assert adjusted(moved, definition(3, delay=1, payload=b"1")).nominal == at(2)


def test_who_moved_it_by_an_older_definition_is_corrected() -> None:
    """The leader makes of a row what the newest definition says."""
    chain = run(begin(definition(), since=at(0)), 0, 3, definition())
    assert chain.nominal == at(8)
    assert adjusted(chain, definition(2, delay=60)).nominal == at(63)
    assert adjusted(chain, definition(2, paused=True)).nominal is None


def test_what_a_write_makes_of_a_row() -> None:
    """A new chain; none any more when the trigger is another one; stillness while it is invalid."""
    force = definition(2)
    assert applied(None, force, at(0)) == begin(force, at(0))
    every = definition(trigger=Every(MINUTE))
    assert applied(begin(force, at(0)), every, at(0)) is None
    assert applied(None, None, at(0)) is None
    halted = applied(begin(force, at(0)), None, at(0))
    assert halted is not None
    assert halted.nominal is None
    assert applied(halted, definition(7), at(0)) == Chain(counts_from=at(2), is_first=True, target=at(2), nominal=at(7))


def test_a_run_that_ends_while_the_schedule_is_invalid() -> None:
    """Its end is kept, and counted from once it is repaired."""
    chain = followed(begin(definition(), since=at(0)), ended(0, 3), None)
    assert chain == Chain(counts_from=at(3))
    assert adjusted(chain, definition(4)).nominal == at(8)
    assert adjusted(chain, definition(60)).nominal == at(60)


def test_an_excluded_day_is_put_off() -> None:
    """To its end, whichever step would lead there; freed again, what is to come moves back, but not before the edit."""
    sunday = at(16 * 60)  # T is 08:00 on a Saturday
    weekdays = definition(delay=17 * 60, exclude=("* * * * 0",))
    chain = run(begin(weekdays, since=at(0)), 0, 0, weekdays)
    monday = sunday + timedelta(days=1)
    assert chain.nominal == monday
    assert weekdays.trigger.yields(monday)
    assert adjusted(chain, weekdays) == chain
    assert adjusted(chain, definition(5, delay=17 * 60)).nominal == at(17 * 60)
    assert adjusted(chain, definition(18 * 60, delay=17 * 60)).nominal == at(18 * 60)
    assert begin(definition(17 * 60, exclude=("* * * * 0",)), since=at(0)).nominal == monday
    assert adjusted(chain, definition(1, exclude=("* * * * *",))).nominal is None


def test_a_chain_ends_with_max_fires() -> None:
    """Nothing is to come once so many have fired; with more allowed it goes on."""
    three = definition(max_fires=3)
    chain = begin(three, since=at(0))
    assert with_chain(StatusRow(fires=2), chain, three).next_nominal == at(0)
    spent = with_chain(StatusRow(fires=3), chain, three)
    assert (spent.next_nominal, to_come(spent.chain, three)) == (None, None)
    four = definition(9, max_fires=4)
    assert with_chain(spent, applied(spent.chain, four, at(0)), four).next_nominal == at(9)


# --- timeline and row


def test_exactly_one_is_armed() -> None:
    """The one to come; whatever else stands on the timeline is disarmed. A run under way keeps its own."""
    force = definition()
    chain = begin(force, since=at(0))
    plan = plan_chain(chain, force, [at(9), at(0), at(4)])
    assert ([each.nominal_at for each in plan.arms], plan.disarms) == ([at(0)], (at(4), at(9)))
    plan = plan_chain(started(chain, at(0), at(0)), force, [at(0), at(4)])
    assert (plan.arms, plan.disarms) == ((), (at(4),))
    plan = plan_chain(None, force, [at(4)])
    assert (plan.arms, plan.disarms) == ((), (at(4),))


def test_the_row_shows_what_is_to_come() -> None:
    """A run under way has no next nominal time yet."""
    chain = begin(definition(), since=at(0))
    assert with_chain(StatusRow(), chain).next_nominal == at(0)
    assert next_of(started(chain, at(0), at(0))) is None
    assert with_chain(with_chain(StatusRow(), chain), None) == StatusRow()
    kept = StatusRow(next_nominal=at(1))
    assert with_chain(kept, None) == kept


def test_a_chain_is_never_exhausted_before_its_end() -> None:
    """No trigger yields its next time, and yet it goes on until `ends_at`."""
    assert is_chained(definition())
    assert state_of(definition(), at(1000)) is ScheduleState.ACTIVE
    ending = definition(ends_at=at(10))
    assert state_of(ending, at(9)) is ScheduleState.ACTIVE
    assert turns_at(ending, at(9), None) == at(10)
    assert state_of(ending, at(10)) is ScheduleState.EXHAUSTED
    assert turns_at(definition(), at(9), None) is None


# --- repairs

AGES = Ages(grace=0.5 * MINUTE, floor=30 * MINUTE)


@pytest.mark.parametrize(
    ("is_started", "now", "expected"),
    [(False, 0.5, False), (False, 0.6, True), (True, 10.5, False), (True, 10.6, True)],
)
def test_what_seems_to_stand_still(is_started: bool, now: float, expected: bool) -> None:
    """Older than the grace, counted from its start, or from when it should have fired."""
    force = definition()
    chain = begin(force, since=at(0))
    if is_started:
        chain = started(chain, at(0), at(10)) or chain
    assert seems_stalled(chain, force, at(now), AGES.grace) is expected


def test_what_does_not_wait_for_anything_is_not_stalled() -> None:
    """A paused chain, and a row without one."""
    force = definition(paused=True)
    assert not seems_stalled(begin(force, since=at(0)), force, at(1000), AGES.grace)
    assert not seems_stalled(None, force, at(1000), AGES.grace)


@pytest.mark.parametrize(
    ("is_started", "record", "now", "expected"),
    [
        (True, State.SUCCEEDED, 1, Stall.FOLLOW),
        (False, State.MISSED, 1, Stall.FOLLOW),
        (True, State.RUNNING, 1000, None),
        (True, None, 14, None),
        (True, None, 16, Stall.GIVE_UP),
        (False, None, 1000, Stall.ARM),
    ],
)
def test_repairs(is_started: bool, record: State | None, now: float, expected: Stall | None) -> None:
    """An end on record is followed; what never started is armed again; a start without a record is given up."""
    chain = begin(definition(), since=at(0))
    if is_started:
        chain = started(chain, at(0), at(0)) or chain
    execution = None if record is None else structs.replace(ended(0, 1), state=record)
    assert repair_chain(chain, execution, at(now), AGES) is expected


def test_given_up_it_goes_on_from_now() -> None:
    """Unless it has gone on already."""
    chain = started(begin(definition(), since=at(0)), at(0), at(0))
    after = given_up(chain, at(0), at(20), definition())
    assert after is not None
    assert after.nominal == at(25)
    assert given_up(after, at(0), at(40), definition()) == after
