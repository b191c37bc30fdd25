"""Slots: who may run, who waits and who has to make room, whatever crashes and repeats."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model.schedule import Overlap
from scheduler.core.overlap import (
    ADMIT,
    BUFFER_MAX,
    LEAVING_MAX,
    SKIP,
    WAIT,
    Slots,
    Terms,
    admit,
    is_automatic,
    release,
)

ALLOW, SKIPS, ONE, ALL = Overlap.ALLOW, Overlap.SKIP, Overlap.BUFFER_ONE, Overlap.BUFFER_ALL
LATEST, CANCEL, TERMINATE = Overlap.LATEST, Overlap.CANCEL_OTHER, Overlap.TERMINATE_OTHER


def ident(number: int, suffix: str = "") -> str:
    return f"a.20261121T08{number // 60:02d}{number % 60:02d}000Z{suffix}"


E = [ident(number) for number in range(10)]
IDS = st.sampled_from(E[:8])
TERMS = st.builds(Terms, st.sampled_from(list(Overlap)), st.sampled_from([None, 1, 2, 3]))


@pytest.mark.parametrize(("policy", "max_running", "max_fires"), list(product(Overlap, [None, 1, 5], [None, 1])))
def test_takes_slot(policy: Overlap, max_running: int | None, max_fires: int | None) -> None:
    """Everything is kept account of but `allow` without any limit."""
    wanted = policy is not ALLOW or max_running is not None or max_fires is not None
    assert Terms(policy, max_running, max_fires).takes_slot == wanted


# policy, max_running, running, waiting -> verdict, running, waiting, and what else it does; E[9] comes
R, W = (E[1],), (E[2],)
TABLE: list[tuple[Overlap, int | None, tuple[str, ...], tuple[str, ...], str, Any, Any, dict[str, Any]]] = [
    (SKIPS, None, (), (), ADMIT, (E[9],), (), {}),
    (SKIPS, None, R, (), SKIP, R, (), {"reason": "overlap"}),
    (SKIPS, 5, R, (), SKIP, R, (), {"reason": "overlap"}),
    (SKIPS, None, (E[9],), (), ADMIT, (E[9],), (), {}),
    (ALLOW, None, E[:5], (), ADMIT, (*E[:5], E[9]), (), {}),
    (ALLOW, 2, R, (), ADMIT, (*R, E[9]), (), {}),
    (ALLOW, 2, E[:2], (), SKIP, tuple(E[:2]), (), {"reason": "max_running"}),
    (ONE, None, (), (), ADMIT, (E[9],), (), {}),
    (ONE, None, R, (), WAIT, R, (E[9],), {}),
    (ONE, None, R, W, SKIP, R, W, {"reason": "buffer_full"}),
    (ONE, None, R, (E[9],), WAIT, R, (E[9],), {}),
    (ONE, 2, R, (), ADMIT, (*R, E[9]), (), {}),
    (ONE, 2, E[:2], (), WAIT, tuple(E[:2]), (E[9],), {}),
    (ONE, 2, E[:2], W, SKIP, tuple(E[:2]), W, {"reason": "buffer_full"}),
    (ALL, None, R, (), WAIT, R, (E[9],), {}),
    (ALL, None, R, W, WAIT, R, (*W, E[9]), {}),
    (ALL, 3, E[:3], W, WAIT, tuple(E[:3]), (*W, E[9]), {}),
    (LATEST, None, (), (), ADMIT, (E[9],), (), {}),
    (LATEST, None, R, (), WAIT, R, (E[9],), {}),
    (LATEST, None, R, W, WAIT, R, (E[9],), {"dropped": W}),
    (LATEST, 2, E[:2], W, WAIT, tuple(E[:2]), (E[9],), {"dropped": W}),
    (CANCEL, None, (), (), ADMIT, (E[9],), (), {}),
    (CANCEL, None, R, (), WAIT, R, (E[9],), {"cancel": R}),
    (CANCEL, None, R, W, WAIT, R, (E[9],), {"cancel": R, "dropped": W}),
    (CANCEL, None, R, (E[9],), WAIT, R, (E[9],), {"cancel": R}),
    (CANCEL, 2, R, (), ADMIT, (*R, E[9]), (), {}),
    (CANCEL, 2, E[:2], (), WAIT, tuple(E[:2]), (E[9],), {"cancel": (E[0],)}),
    (CANCEL, 2, E[:2], W, WAIT, tuple(E[:2]), (*W, E[9]), {"cancel": tuple(E[:2])}),
    (CANCEL, 2, E[:2], E[2:4], WAIT, tuple(E[:2]), (E[3], E[9]), {"cancel": tuple(E[:2]), "dropped": (E[2],)}),
    (TERMINATE, None, (), (), ADMIT, (E[9],), (), {}),
    (TERMINATE, None, R, (), ADMIT, (*R, E[9]), (), {"terminate": R}),
    (TERMINATE, None, (*R, E[9]), (), ADMIT, (*R, E[9]), (), {"terminate": R}),
    (TERMINATE, None, (*R, E[9], E[3]), (), ADMIT, (*R, E[9], E[3]), (), {"terminate": R}),
    (TERMINATE, 2, R, (), ADMIT, (*R, E[9]), (), {}),
    (TERMINATE, 2, E[:2], (), ADMIT, (*E[:2], E[9]), (), {"terminate": (E[0],)}),
]


@pytest.mark.parametrize(("policy", "limit", "active", "waiting", "verdict", "runs", "waits", "more"), TABLE)
def test_policies(
    policy: Overlap, limit: int | None, active: Any, waiting: Any, verdict: str, runs: Any, waits: Any, more: Any
) -> None:
    """Each policy against what runs and what waits, written out; and the same again says the same."""
    terms, slots = Terms(policy, limit), Slots(tuple(active), tuple(waiting))
    found = admit(slots, E[9], terms)
    assert (found.verdict, found.slots.active, found.slots.waiting) == (verdict, runs, waits)
    told = {"reason": found.reason, "dropped": found.dropped, "cancel": found.cancel, "terminate": found.terminate}
    assert told == {"reason": None, "dropped": (), "cancel": (), "terminate": ()} | more
    again = admit(found.slots, E[9], terms)
    assert (again.verdict, again.slots, again.reason) == (found.verdict, found.slots, found.reason)
    assert (again.cancel, again.terminate) == (found.cancel, found.terminate)


def test_a_buffer_is_bounded() -> None:
    """buffer_all keeps 100; the next is skipped, reason buffer_full."""
    slots, terms = Slots((E[0],)), Terms(ALL)
    for number in range(100, 100 + BUFFER_MAX):
        found = admit(slots, ident(number), terms)
        assert found.verdict == WAIT
        slots = found.slots
    assert len(slots.waiting) == BUFFER_MAX == 100
    assert admit(slots, ident(900), terms).reason == "buffer_full"


def test_a_buffer_goes_by_nominal_time() -> None:
    """Whoever was dispatched first: the earlier nominal time runs first. buffer_one keeps whoever came first."""
    assert admit(Slots(R, (E[5],)), E[3], Terms(ALL)).slots.waiting == (E[3], E[5])
    assert admit(Slots(R, (E[5],)), E[3], Terms(ONE)).slots.waiting == (E[5],)


@pytest.mark.parametrize("policy", [LATEST, CANCEL])
def test_the_newest_stays_the_newest(policy: Overlap) -> None:
    """An older one that is dispatched later does not take the newer one's place."""
    found = admit(Slots(R, (E[5],)), E[3], Terms(policy))
    assert (found.verdict, found.reason, found.slots.waiting) == (SKIP, "superseded_in_buffer", (E[5],))


def test_those_who_do_not_go_are_bounded() -> None:
    """terminate_other beside runs that do not listen: after 100 of them it is skipped."""
    active = tuple(ident(number) for number in range(LEAVING_MAX + 1))
    found = admit(Slots(active), ident(900), Terms(TERMINATE))
    assert (found.verdict, found.reason) == (SKIP, "overlap")
    assert admit(Slots(active[1:]), ident(900), Terms(TERMINATE)).verdict == ADMIT


def test_who_waits_goes_first() -> None:
    """An edit made room: the newcomer does not overtake those who wait."""
    found = admit(Slots(R, (E[2], E[3])), E[9], Terms(ALL, 2))
    assert (found.verdict, found.promoted) == (WAIT, (E[2],))
    assert found.slots == Slots((E[1], E[2]), (E[3], E[9]))
    found = admit(Slots(R, (E[2], E[3])), E[9], Terms(ALLOW))
    assert (found.verdict, found.slots.active) == (ADMIT, (E[1], E[2], E[3], E[9]))


def test_the_end_of_one_is_the_turn_of_the_next() -> None:
    """Release gives as many slots to those who wait as there are free, in their order."""
    freed = release(Slots(R, (E[2], E[3])), {E[1]: 0}, Terms(ALL))
    assert (freed.slots, freed.promoted) == (Slots((E[2],), (E[3],)), (E[2],))
    freed = release(Slots(R, (E[2], E[3], E[4])), {E[1]: 0}, Terms(ALL, 2))
    assert (freed.slots, freed.promoted) == (Slots((E[2], E[3]), (E[4],)), (E[2], E[3]))
    freed = release(Slots(R, (E[2], E[3])), {E[2]: 0}, Terms(ALL))
    assert (freed.slots, freed.promoted) == (Slots(R, (E[3],)), ())


# --- max_fires


def test_max_fires_counts_what_fires() -> None:
    """Whoever gets a slot counts, repeats and skipped ones do not; then nothing fires by itself any more."""
    terms, slots = Terms(SKIPS, None, 2), Slots()
    slots = admit(slots, E[0], terms).slots
    for each in (E[0], E[1]):
        slots = admit(slots, each, terms).slots
    assert slots.fires == 1
    slots = admit(release(slots, {E[0]: 0}, terms).slots, E[2], terms).slots
    assert slots.fires == 2
    for held in (slots, release(slots, {E[2]: 0}, terms).slots):
        found = admit(held, E[3], terms)
        assert (found.verdict, found.reason, found.slots) == (SKIP, "max_fires", held)
    assert admit(slots, E[2], terms).verdict == ADMIT


def test_who_waits_is_reserved_its_fire() -> None:
    """The last fire belongs to the one that waits for it; when that one is gone, another may have it."""
    terms = Terms(ALL, None, 2)
    slots = Slots(R, (E[2],), fires=1)
    assert admit(slots, E[3], terms).reason == "max_fires"
    freed = release(slots, {E[1]: 0}, terms)
    assert (freed.slots, freed.promoted) == (Slots((E[2],), (), 2), (E[2],))
    assert admit(release(slots, {E[2]: 0}, terms).slots, E[3], terms).verdict == WAIT


def test_what_is_carried_out_again_is_no_other_fire() -> None:
    """All fires are spent: a retry of one of them finds its slot, and is not counted; a new one does not."""
    spent, terms = Slots(fires=2), Terms(SKIPS, None, 2)
    again = admit(spent, E[1], terms, drive=1)
    assert (again.verdict, again.slots.fires) == (ADMIT, 2)
    assert admit(spent, E[2], terms).reason == "max_fires"


def test_latest_takes_the_place_and_the_fire() -> None:
    """The newest takes over what the older one was reserved."""
    found = admit(Slots(R, (E[2],), fires=1), E[3], Terms(LATEST, None, 2))
    assert (found.verdict, found.slots.waiting, found.dropped) == (WAIT, (E[3],), (E[2],))


@pytest.mark.parametrize("suffix", ["-mabc", "-m20261121T080000000Z", "-bnightly"])
def test_manual_runs_do_not_count(suffix: str) -> None:
    """They neither use up max_fires nor are kept back by it."""
    execution_id = ident(1, suffix)
    assert not is_automatic(execution_id)
    found = admit(Slots(fires=2), execution_id, Terms(ALLOW, None, 2))
    assert (found.verdict, found.slots.fires) == (ADMIT, 2)
    assert is_automatic(ident(1))


def test_without_max_fires_nothing_is_counted_here() -> None:
    """The row's count is then kept lazily."""
    assert admit(Slots(fires=7), E[1], Terms(SKIPS)).slots.fires == 7


# --- whatever comes


@given(st.lists(st.tuples(st.booleans(), IDS), max_size=30), TERMS)
def test_never_too_many_and_nobody_lost(steps: list[tuple[bool, str]], terms: Terms) -> None:
    """Whatever comes and ends in whatever order: never more run than the limit (terminated ones aside), nobody runs or
    waits twice, and each one runs, waits, was skipped, was dropped or has ended."""
    slots = Slots()
    fates: dict[str, str] = {}
    for is_release, each in steps:
        if is_release:
            freed = release(slots, {each: 0}, terms)
            slots = freed.slots
            fates |= dict.fromkeys([each] if each in fates else [], "ended") | dict.fromkeys(freed.promoted, "runs")
        elif fates.get(each) not in ("ended", "skipped", "dropped"):
            found = admit(slots, each, terms)
            slots = found.slots
            fates[each] = {ADMIT: "runs", WAIT: "waits", SKIP: "skipped"}[found.verdict]
            fates |= dict.fromkeys(found.dropped, "dropped") | dict.fromkeys(found.promoted, "runs")
        assert {each for each, fate in fates.items() if fate == "runs"} == set(slots.active)
        assert {each for each, fate in fates.items() if fate == "waits"} == set(slots.waiting)
        assert len({*slots.active, *slots.waiting}) == len(slots.active) + len(slots.waiting)
        if terms.limit is not None and terms.overlap is not TERMINATE:
            assert len(slots.active) <= terms.limit
        assert not slots.waiting or terms.limit is None or len(slots.active) >= terms.limit


@given(st.lists(st.tuples(st.booleans(), IDS), max_size=30), TERMS, IDS)
def test_again_is_harmless(steps: list[tuple[bool, str]], terms: Terms, again: str) -> None:
    """Who has a slot is admitted again, who waits waits; releasing twice is releasing once."""
    slots = Slots()
    for is_release, each in steps:
        slots = release(slots, {each: 0}, terms).slots if is_release else admit(slots, each, terms).slots
    once = admit(slots, again, terms)
    twice = admit(once.slots, again, terms)
    assert (twice.verdict, twice.slots, twice.reason) == (once.verdict, once.slots, once.reason)
    freed = release(once.slots, {again: 0}, terms)
    assert release(freed.slots, {again: 0}, terms) == type(freed)(freed.slots)


@given(st.lists(st.tuples(st.integers(0, 3), IDS), max_size=40), TERMS, st.integers(1, 4))
def test_max_fires_is_exact(steps: list[tuple[int, str]], terms: Terms, most: int) -> None:
    """However often each is repeated, and whatever ends: at most so many ever get a slot, and that is the count."""
    terms = Terms(terms.overlap, terms.max_running, most)
    slots, fired, ended = Slots(), set[str](), set[str]()
    for kind, each in steps:
        if kind == 0 and (each in slots.active or each in slots.waiting):
            slots = release(slots, {each: 0}, terms).slots
            ended.add(each)
        elif each not in ended:
            slots = admit(slots, each, terms).slots
        fired |= set(slots.active)
        assert slots.fires == len(fired) <= most
