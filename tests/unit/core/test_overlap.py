"""Slots: who may run, whatever crashes and repeats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model.schedule import Overlap
from scheduler.core.overlap import ADMIT, SKIP, Slots, admit, release, takes_slot

IDS = st.sampled_from([f"e{number}" for number in range(8)])


@pytest.mark.parametrize("policy", list(Overlap))
@pytest.mark.parametrize("max_running", [None, 1, 5])
def test_takes_slot(policy: Overlap, max_running: int | None) -> None:
    """Everything is kept account of but `allow` without a limit."""
    assert takes_slot(policy, max_running) == (policy is not Overlap.ALLOW or max_running is not None)


def test_skip_lets_one_run() -> None:
    """overlap skip: the second is skipped with reason overlap, until the first is released."""
    first = admit(Slots(), "e1", Overlap.SKIP, None)
    assert (first.verdict, first.slots) == (ADMIT, Slots(("e1",)))
    second = admit(first.slots, "e2", Overlap.SKIP, None)
    assert (second.verdict, second.slots, second.reason) == (SKIP, first.slots, "overlap")
    freed = release(first.slots, {"e1"})
    assert admit(freed.slots, "e2", Overlap.SKIP, None).verdict == ADMIT


def test_skip_ignores_max_running() -> None:
    """With overlap skip one runs, whatever max_running says."""
    assert admit(Slots(("e1",)), "e2", Overlap.SKIP, 5).verdict == SKIP


def test_allow_with_a_limit() -> None:
    """overlap allow with max_running: the surplus is skipped with reason max_running."""
    slots = Slots()
    for number in range(3):
        admission = admit(slots, f"e{number}", Overlap.ALLOW, 3)
        assert admission.verdict == ADMIT
        slots = admission.slots
    surplus = admit(slots, "e9", Overlap.ALLOW, 3)
    assert (surplus.verdict, surplus.reason, surplus.slots) == (SKIP, "max_running", slots)


@given(st.lists(IDS, max_size=12), IDS, st.integers(1, 4))
def test_admitting_again_is_harmless(ids: list[str], again: str, limit: int) -> None:
    """Who has a slot is admitted again and takes no second one; who was skipped is skipped again."""
    slots = Slots()
    for each in ids:
        slots = admit(slots, each, Overlap.ALLOW, limit).slots
    once = admit(slots, again, Overlap.ALLOW, limit)
    twice = admit(once.slots, again, Overlap.ALLOW, limit)
    assert (twice.verdict, twice.slots) == (once.verdict, once.slots)
    assert len(set(twice.slots.active)) == len(twice.slots.active) <= limit


@given(
    st.lists(st.tuples(st.booleans(), IDS), max_size=30), st.sampled_from([(Overlap.SKIP, None), (Overlap.ALLOW, 3)])
)
def test_never_more_than_the_limit(steps: list[tuple[bool, str]], policy: tuple[Overlap, int | None]) -> None:
    """Whatever is admitted and released in whatever order: never more run than the policy allows, none twice."""
    slots, limit = Slots(), policy[1] or 1
    for is_release, each in steps:
        if is_release:
            slots = release(slots, {each}).slots
            assert each not in slots.active
        else:
            before = slots
            admission = admit(slots, each, *policy)
            slots = admission.slots
            assert admission.verdict != SKIP or slots == before
            assert admission.verdict != ADMIT or each in slots.active
        assert len(slots.active) <= limit
        assert len(set(slots.active)) == len(slots.active)


@given(st.lists(IDS, unique=True), st.lists(IDS, unique=True), st.sets(IDS))
def test_release_takes_out_what_ended_and_nothing_else(active: list[str], waiting: list[str], ended: set[str]) -> None:
    """Order is kept, and releasing twice is releasing once."""
    once = release(Slots(tuple(active), tuple(waiting)), ended)
    assert once.slots.active == tuple(each for each in active if each not in ended)
    assert once.slots.waiting == tuple(each for each in waiting if each not in ended)
    assert release(once.slots, ended).slots == once.slots
