"""What happens at the instant: every definition that may be in force by then, and every clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from scheduler.core.dispatching import (
    EARLY_MAX,
    Close,
    Decision,
    Fire,
    InForce,
    Late,
    TooEarly,
    claim,
    decide_dispatch,
)
from scheduler.core.lifecycle import TERMINAL
from scheduler.core.model.execution import HistoryEntry, Kind, State
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import At, Cron, Definition, Every, Manual, Overlap, Schedule
from scheduler.core.triggers import compile_trigger
from tests.unit.core.executions import T0, at

EVERY = Every(timedelta(seconds=10))
LONG_AGO = at(-1000)
SECONDS = st.integers(-3600, 3600)


def in_force(*, effective_at: datetime = LONG_AGO, generation: int = 5, **fields: Any) -> InForce:
    values: dict[str, Any] = {"id": "a", "queue": "Q", "type": "t", "trigger": EVERY} | fields
    schedule = Schedule(**values)
    definition = Definition(schedule=schedule, generation=generation, effective_at=effective_at)
    return InForce(definition, compile_trigger(schedule))


def decide(known: InForce | None, *, now: datetime = T0, reason: str = "deleted", **changes: Any) -> Decision:
    values: dict[str, Any] = {"schedule_id": "a", "nominal_at": T0, "fire_at": T0, "generation": 5} | changes
    return decide_dispatch(
        Occurrence(**values), known, execution_id="a.20261121T080000000Z", epoch=9, now=now, absent_reason=reason
    )


def test_it_fires_with_all_that_the_definition_says() -> None:
    """The record is claimed, and holds everything that a repeat needs to come to the same task."""
    known = in_force(
        payload=b'{"n":1}',
        headers={"X-A": "b"},
        max_tries=7,
        timeout=timedelta(seconds=90),
        retention_age=timedelta(hours=1),
        overlap=Overlap.ALLOW,
    )
    decision = decide(known, now=at(2), fire_at=at(1))
    assert isinstance(decision, Fire)
    assert decision.schedule is known.definition.schedule
    execution = decision.execution
    assert (execution.id, execution.schedule, execution.queue, execution.type) == (
        "a.20261121T080000000Z",
        "a",
        "Q",
        "t",
    )
    assert (execution.generation, execution.epoch, execution.kind, execution.state) == (5, 9, Kind.AUTO, State.CLAIMED)
    assert (execution.nominal_at, execution.fire_at, execution.claimed_at) == (T0, at(1), at(2))
    assert (execution.payload, execution.payload_is_json, execution.headers) == (b'{"n":1}', True, {"X-A": "b"})
    assert (execution.max_tries, execution.timeout_s, execution.retention_s) == (7, 90.0, 3600.0)
    assert (execution.attempt, execution.drive, execution.task_seq, execution.queued_at) == (0, 0, None, None)
    assert execution.history == (HistoryEntry(at(2), State.CLAIMED),)
    assert (execution.verdict, execution.duration_s, execution.lateness_s) == ("claimed", None, None)


@pytest.mark.parametrize("generation", [1, 5, 99])
def test_who_armed_it_is_no_verdict(generation: int) -> None:
    """It fires if the definition in force yields it, and is recorded under that one's generation."""
    decision = decide(in_force(), generation=generation)
    assert isinstance(decision, Fire)
    assert decision.execution.generation == 5


@pytest.mark.parametrize(
    "trigger",
    [Every(timedelta(seconds=11)), Cron(("30 8 * * *",)), At((at(1),)), Manual(), Every(timedelta(days=1), at(1))],
)
def test_no_longer_wanted(trigger: Any) -> None:
    """The definition in force does not yield it: superseded, edited."""
    decision = decide(in_force(trigger=trigger), now=at(3))
    assert isinstance(decision, Close)
    closed = decision.execution
    assert (closed.state, closed.reason, closed.finished_at, closed.queue) == (State.SUPERSEDED, "edited", at(3), "Q")
    assert closed.history == (HistoryEntry(at(3), State.SUPERSEDED, "edited"),)


@pytest.mark.parametrize("reason", ["deleted", "invalid"])
def test_nothing_in_force(reason: str) -> None:
    """Superseded, with the reason; the record names no queue, for it never got one."""
    decision = decide(None, now=at(3), reason=reason, generation=2)
    assert isinstance(decision, Close)
    closed = decision.execution
    assert (closed.state, closed.reason, closed.queue, closed.generation) == (State.SUPERSEDED, reason, "", 2)
    assert (closed.verdict, closed.epoch) == ("superseded", 9)


@pytest.mark.parametrize(
    ("until", "is_paused"), [(None, True), (at(1), True), (at(0), False), (at(-1), False)], ids=str
)
def test_paused(until: datetime | None, is_paused: bool) -> None:
    """By its nominal time: a pause without an end, or one that ends after it."""
    decision = decide(in_force(paused=True, paused_until=until), now=at(5))
    assert isinstance(decision, Close if is_paused else Fire)
    if isinstance(decision, Close):
        assert (decision.execution.state, decision.execution.reason) == (State.PAUSED, "paused")


def test_not_wanted_goes_before_paused() -> None:
    """What the definition does not yield is superseded, paused or not."""
    decision = decide(in_force(paused=True, trigger=Manual()))
    assert isinstance(decision, Close)
    assert decision.execution.state is State.SUPERSEDED


@pytest.mark.parametrize(("seconds", "waits"), [(0, False), (0.9, False), (1.0, False), (1.001, True), (3600, True)])
@pytest.mark.parametrize("known", [in_force(), None], ids=["there", "deleted"])
def test_early(seconds: float, waits: bool, known: InForce | None) -> None:
    """More than a second before its fire time it waits for that time, whatever would become of it."""
    decision = decide(known, fire_at=at(seconds))
    assert isinstance(decision, TooEarly) is waits
    if isinstance(decision, TooEarly):
        assert decision.delay == timedelta(seconds=seconds)


def test_late_is_left_to_catch_up() -> None:
    """Later than `catch_up.after` (10 s) is decided together with the other late ones; up to there it fires."""
    assert isinstance(decide(in_force(), now=at(10)), Fire)
    late = decide(in_force(), now=at(10.001))
    assert isinstance(late, Late)
    assert late.execution.state is State.CLAIMED


@pytest.mark.parametrize(
    ("effective", "delay_s", "expected_s"),
    [(-5, 30, 30), (-5, 0.5, 0.5), (-5, 0, 0), (0, 30, 0), (5, 30, 0)],
)
def test_an_edit_moves_the_fire_time(effective: float, delay_s: float, expected_s: float) -> None:
    """Of what came after the edit, and only to later: not even by the tolerance for clocks is it early then."""
    known = in_force(effective_at=at(effective), start_delay=timedelta(seconds=delay_s))
    decision = decide(known, now=at(0))
    if expected_s:
        assert decision == TooEarly(timedelta(seconds=expected_s))
        decision = decide(known, now=at(expected_s))
    assert isinstance(decision, Fire)
    assert decision.execution.fire_at == at(expected_s)


def test_an_edit_to_earlier() -> None:
    """A start_delay was taken away: what was armed with it fires when it was armed for."""
    decision = decide(in_force(), fire_at=at(30), now=at(30))
    assert isinstance(decision, Fire)
    assert decision.execution.fire_at == at(30)


@given(
    now=SECONDS, fire=SECONDS, effective=SECONDS, delay=st.integers(0, 60), paused=st.booleans(), exists=st.booleans()
)
def test_never_early_and_always_decided(
    now: int, fire: int, effective: int, delay: int, paused: bool, exists: bool
) -> None:
    """Whatever the clocks say: it waits, is closed for good, or fires no more than a second early; twice alike."""
    known = in_force(effective_at=at(effective), start_delay=timedelta(seconds=delay), paused=paused)
    decision = decide(known if exists else None, now=at(now), fire_at=at(fire))
    assert decide(known if exists else None, now=at(now), fire_at=at(fire)) == decision
    match decision:
        case TooEarly(left):
            assert timedelta(0) < left
        case Close(closed):
            assert closed.state in TERMINAL
            assert closed.queued_at is None
            assert at(now) >= closed.fire_at - EARLY_MAX
        case Fire(execution, _):
            assert not paused
            assert exists
            assert at(now) >= execution.fire_at - EARLY_MAX


def test_a_manual_claim() -> None:
    """As an automatic one, with its kind."""
    known = in_force()
    occurrence = Occurrence("a", T0, T0, 5)
    execution = claim(known.definition, "a.x-mn", occurrence, epoch=0, now=at(1), kind=Kind.MANUAL)
    automatic = claim(known.definition, "a.x-mn", occurrence, epoch=0, now=at(1))
    assert structs.replace(automatic, kind=Kind.MANUAL) == execution
