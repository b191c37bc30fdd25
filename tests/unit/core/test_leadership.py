"""The lease: two candidates with arbitrary stalls never both believe that they lead."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.core.leadership import (
    Campaign,
    Hold,
    LeaseRecord,
    LeaseTimings,
    LeaseView,
    Term,
    decide_candidate,
    observe,
    owns,
    renewed,
)

SINCE = datetime(2026, 11, 21, 8, tzinfo=UTC)
TIMINGS = LeaseTimings()


def lease(holder: str, nonce: str = "n", lease_s: float = 15.0) -> LeaseRecord:
    return LeaseRecord(holder, nonce, holder, "1", lease_s, SINCE)


@pytest.mark.parametrize("values", [(10, 10, 2), (15, 2.4, 2), (15, 10, 0), (15, 10, -1), (10, 15, 2)])
def test_timings_that_cannot_work(values: tuple[float, float, float]) -> None:
    """lease > renew deadline > 1.2 x retry > 0, or nothing holds: refused in one sentence."""
    with pytest.raises(InvalidArgument, match="lease"):
        LeaseTimings(*values)


def test_a_free_lease_is_taken_at_once() -> None:
    """No record, or a released one: campaign, expecting exactly what was read."""
    assert decide_candidate(LeaseView(0, None, 5.0), 5.0, 2.0) == Campaign(0)
    assert decide_candidate(LeaseView(7, lease(""), 5.0), 5.0, 2.0) == Campaign(7)


def test_a_held_lease_is_waited_for_on_our_own_clock() -> None:
    """Only a whole lease without any change, since we first saw it, makes it ours to take."""
    view = observe(None, 7, lease("other"), 100.0)
    assert isinstance(decide_candidate(view, 115.0, 2.0), Hold)
    assert decide_candidate(view, 115.01, 2.0) == Campaign(7)
    assert observe(view, 7, lease("other"), 114.0) == view
    changed = observe(view, 8, lease("other"), 114.0)
    assert changed.unchanged_since_s == 114.0
    assert isinstance(decide_candidate(changed, 120.0, 2.0), Hold)


@given(st.floats(0, 20), st.floats(0.1, 5))
def test_hold_wakes_in_time(waited_s: float, retry_s: float) -> None:
    """A candidate never sleeps past the moment at which the lease becomes free, nor longer than its retry period."""
    decision = decide_candidate(LeaseView(7, lease("other"), 0.0), waited_s, retry_s)
    if isinstance(decision, Hold):
        assert 0 < decision.seconds <= max(retry_s, 0.011)
        assert waited_s + decision.seconds <= 15.0 + 0.011
    else:
        assert waited_s > 15.0


@given(st.floats(0, 1e6), st.floats(3, 60), st.floats(0.1, 0.9), st.floats(0, 100))
def test_trusted_until(sent_s: float, lease_s: float, share: float, later_s: float) -> None:
    """A term is trusted until a deadline counted from before its write was sent, which is before the lease ends."""
    timings = LeaseTimings(lease_s, lease_s * share, lease_s * share / 1.3)
    term = renewed(5, sent_s, timings)
    assert term.deadline_s <= sent_s + lease_s
    now_s = sent_s + later_s
    if term.is_trusted(now_s):
        assert now_s < sent_s + lease_s
    assert not Term(5, sent_s).is_trusted(sent_s)


def test_owns_by_the_nonce_of_the_write() -> None:
    """After silence a record read back is ours only if it is that very write."""
    assert owns(lease("me", "n1"), "me", "n1")
    assert not owns(lease("me", "n0"), "me", "n1")
    assert not owns(lease("other", "n1"), "me", "n1")
    assert not owns(None, "me", "n1")


# --- two replicas, one register, any stalls


class Register(Struct):
    """The lease's key: compare-and-set, and nothing else."""

    revision: int = 0
    record: LeaseRecord | None = None

    def put(self, record: LeaseRecord, expect: int) -> int | None:
        if expect != self.revision:
            return None
        self.revision, self.record = self.revision + 1, record
        return self.revision


class Replica(Struct):
    """Observe, decide, write, as the shell does; a write under way may be stalled for any time and then land."""

    name: str
    rate: float = 1.0
    view: LeaseView | None = None
    term: Term | None = None
    flight: tuple[int, float] | None = None  # (expected revision, own time at which it was sent)

    def clock(self, now_s: float) -> float:
        return now_s * self.rate

    def leads(self, now_s: float) -> bool:
        return self.term is not None and self.term.is_trusted(self.clock(now_s))

    def think(self, register: Register, now_s: float) -> None:
        own_s = self.clock(now_s)
        if self.flight is not None:
            return
        if self.term is not None and self.term.is_trusted(own_s):
            self.flight = (self.term.revision, own_s)
            return
        self.term = None
        self.view = observe(self.view, register.revision, register.record, own_s)
        decision = decide_candidate(self.view, own_s, TIMINGS.retry_s)
        if isinstance(decision, Campaign):
            self.flight = (decision.expect, own_s)

    def land(self, register: Register) -> None:
        if self.flight is None:
            return
        expect, sent_s = self.flight
        self.flight = None
        revision = register.put(lease(self.name, f"{sent_s}"), expect)
        self.term = None if revision is None else renewed(revision, sent_s, TIMINGS)


_steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.5, 2.0, 5.0, 9.0, 15.1]) | st.floats(0, 12),
        st.integers(0, 1),
        st.sampled_from(["think", "land", "both", "both"]),
    ),
    min_size=4,
    max_size=60,
)


@settings(max_examples=300)
@given(_steps, st.floats(1.0, 1.4))
def test_two_candidates_with_stalls(steps: list[tuple[float, int, str]], rate: float) -> None:
    """Whatever stalls, between reading and writing or between sending and landing, and with clocks of different rate
    (below lease / deadline): at no moment do two of them trust their terms."""
    register, replicas, now_s = Register(), [Replica("a"), Replica("b", rate=rate)], 0.0
    for pause_s, which, what in steps:
        now_s += pause_s
        replica = replicas[which]
        if what != "land":
            replica.think(register, now_s)
        if what != "think":
            replica.land(register)
        assert [each.leads(now_s) for each in replicas].count(True) <= 1


def test_the_simulation_can_elect_and_hand_over() -> None:
    """Sometimes: the first is elected, falls silent, and the second takes over after a whole lease."""
    register, (first, second) = Register(), (Replica("a"), Replica("b"))
    first.think(register, 0.0)
    first.land(register)
    assert first.leads(1.0)
    second.think(register, 1.0)
    second.think(register, 16.5)
    second.land(register)
    assert second.leads(17.0)
    assert not first.leads(17.0)
