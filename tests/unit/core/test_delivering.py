"""Deliveries: what goes next, and what an answer means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.delivering import Answer, Hand, Item, Patience, Verdict, judge, wait_before

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def item(seq: int, lane: str = "a", *, not_before: datetime = NOW, tries: int = 0, at: datetime = NOW) -> Item:
    return Item(seq, lane, at, not_before, tries)


def hand(*items: Item, taken: int = 0) -> Hand:
    made = Hand(taken, most=4)
    for each in items:
        made.put(each)
    return made


def test_a_lane_is_in_order() -> None:
    """One that waits for its next try holds up its own schedule, and no other."""
    made = hand(item(1, "a", not_before=LATER), item(2, "a"), item(3, "b"))
    first = made.next_due(NOW)
    assert first is not None
    assert first.seq == 3
    first.under_way = True
    assert made.next_due(NOW) is None
    assert made.next_at() == LATER
    assert made.next_due(LATER) is not None


def test_one_under_way_holds_its_lane() -> None:
    """The second of a schedule goes when the first is done with."""
    made = hand(item(1), item(2))
    first = made.next_due(NOW)
    assert first is not None
    first.under_way = True
    assert made.next_due(NOW) is None
    made.drop(1)
    second = made.next_due(NOW)
    assert second is not None
    assert second.seq == 2


def test_settled_is_behind_the_oldest_open_one() -> None:
    """Nothing that is not done with lies at or before the place that is noted."""
    made = hand(taken=10)
    assert made.settled == 10
    made.put(item(12))
    made.put(item(15, "b"))
    made.skip(20)
    assert (made.settled, made.taken, made.room) == (11, 20, 2)
    made.drop(12)
    assert made.settled == 14
    made.drop(15)
    assert made.settled == 20


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_whatever_happens_nothing_is_passed_over(steps: list[tuple[str, bool]]) -> None:
    """The place never passes an open one, never goes back, and each lane is dropped in order."""
    made, seq, open_ones, place = Hand(0, most=8), 0, [], 0
    for lane, is_new in steps:
        if is_new and made.room:
            seq += 1
            made.put(item(seq, lane))
            open_ones.append((seq, lane))
        elif (due := made.next_due(NOW)) is not None:
            assert due.seq == min(number for number, of in open_ones if of == due.lane)
            made.drop(due.seq)
            open_ones.remove((due.seq, due.lane))
        assert made.settled == min((number for number, _ in open_ones), default=seq + 1) - 1
        assert made.settled >= place
        place = made.settled


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_delivered(status: int) -> None:
    """Any 2xx."""
    assert judge(Answer(status=status), item(1, tries=1), Patience(), NOW) is Verdict.DELIVERED


@pytest.mark.parametrize(
    ("answer", "tries", "expected"),
    [
        (Answer(status=500), 1, Verdict.AGAIN),
        (Answer(status=302), 1, Verdict.AGAIN),
        (Answer(status=404), 19, Verdict.AGAIN),
        (Answer(status=404), 20, Verdict.GIVEN_UP),
        (Answer(problem="timeout"), 19, Verdict.AGAIN),
        (Answer(problem="timeout"), 20, Verdict.GIVEN_UP),
        (Answer(status=410), 1, Verdict.GIVEN_UP),
        (Answer(status=400), 2, Verdict.AGAIN),
        (Answer(status=400), 3, Verdict.GIVEN_UP),
        (Answer(status=429), 3, Verdict.AGAIN),
    ],
)
def test_not_delivered(answer: Answer, tries: int, expected: Verdict) -> None:
    """Again until the tries are over; what is gone at once, what is refused after three."""
    assert judge(answer, item(1, tries=tries), Patience(max_tries=20), NOW) is expected


def test_too_old() -> None:
    """After a day nobody wants it any more, however few the tries."""
    old = item(1, tries=1, at=NOW - timedelta(hours=24, seconds=1))
    assert judge(Answer(status=500), old, Patience(), NOW) is Verdict.GIVEN_UP
    assert judge(Answer(status=200), old, Patience(), NOW) is Verdict.DELIVERED


def test_waiting_grows_up_to_an_hour() -> None:
    """2 s, 6 s, 18 s … an hour; spread by a fifth; as long as the endpoint asks for, up to an hour."""
    waits = [wait_before(tries, Answer(status=500), 0.5).total_seconds() for tries in range(1, 12)]
    assert waits[:4] == [2, 6, 18, 54]
    assert waits[-1] == 3600
    assert wait_before(1, Answer(status=500), 0.0).total_seconds() == pytest.approx(1.6)
    assert wait_before(1, Answer(status=500), 1.0).total_seconds() == pytest.approx(2.4)
    assert wait_before(1, Answer(status=429, wait_s=120), 0.5).total_seconds() == 120
    assert wait_before(1, Answer(status=503, wait_s=10**8), 0.5).total_seconds() == 3600
    assert wait_before(10**6, Answer(status=500), 0.5).total_seconds() == 3600
