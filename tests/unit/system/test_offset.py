"""How far the server's clock is: estimated from round trips, and not led astray by liars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.system.offset import MAX_AGE_S, MAX_ROUND_TRIP_S, WINDOW, Sample, ServerTime, agreement

TRUE_BASE_S = 1_700_000_000.0


def sample(sent_s: float, there_s: float, back_s: float, *, off_s: float = 0.0) -> Sample:
    """A round trip that reached the server `there_s` after it was sent; `off_s` is the lie in the answer."""
    return Sample(TRUE_BASE_S + off_s + sent_s + there_s, sent_s, sent_s + there_s + back_s)


def server_time(*samples: Sample) -> ServerTime:
    server = ServerTime()
    for each in samples:
        server.add(each)
    return server


def test_nothing_is_known_before_the_first_sample() -> None:
    """No sample, no estimate."""
    assert ServerTime().base_s is None


def test_the_shortest_round_trip_decides() -> None:
    """A quick answer bounds the estimate more tightly than slow, lopsided ones around it."""
    server = server_time(sample(0, 0.0, 0.8), sample(1, 0.001, 0.001), sample(2, 0.9, 0.0))
    assert server.base_s == pytest.approx(TRUE_BASE_S, abs=0.003)


@pytest.mark.parametrize("liar_at", range(5))
def test_one_liar_changes_nothing(liar_at: int) -> None:
    """One answer with a time an hour off is outvoted, first or last, though its round trip is the shortest."""
    samples = [sample(n, 0.002, 0.002) for n in range(5)]
    samples[liar_at] = sample(liar_at, 0.0001, 0.0001, off_s=3600)
    assert server_time(*samples).base_s == pytest.approx(TRUE_BASE_S, abs=0.004)


def test_a_server_that_was_set_is_believed_by_majority() -> None:
    """Once more than half of the window tells the new time, it is taken."""
    server = server_time(*(sample(n, 0.002, 0.002) for n in range(WINDOW)))
    answers = []
    for n in range(WINDOW):
        server.add(sample(WINDOW + n, 0.002, 0.002, off_s=60))
        answers.append(round((server.base_s or 0) - TRUE_BASE_S))
    assert answers[0] == 0
    assert answers[-1] == 60
    assert answers == sorted(answers)


def test_old_samples_are_forgotten() -> None:
    """A sample older than five minutes has no vote: after a long outage the first answer counts."""
    server = server_time(*(sample(n, 0.002, 0.002) for n in range(5)))
    server.add(sample(10 + MAX_AGE_S, 0.002, 0.002, off_s=7))
    assert server.base_s == pytest.approx(TRUE_BASE_S + 7, abs=0.004)


@pytest.mark.parametrize("received_s", [-1.0, MAX_ROUND_TRIP_S + 0.1])
def test_impossible_and_endless_round_trips_are_refused(received_s: float) -> None:
    """A sample that ran backwards or took longer than ten seconds tells nothing."""
    server = ServerTime()
    assert not server.add(Sample(TRUE_BASE_S, 0.0, received_s))
    assert server.base_s is None


def test_agreement_takes_the_newest_of_equals() -> None:
    """Where two disagree entirely, the later one is the better guess, however wide; two that agree outvote it."""
    assert agreement([(10.0, 10.5), (0.0, 5.0)]) == (0.0, 5.0)
    assert agreement([(10.0, 10.5), (10.2, 11.0), (0.0, 5.0)]) == (10.2, 10.5)
    assert agreement([(1.0, 2.0), (8.0, 9.0), (1.5, 3.0), (8.5, 9.5)]) == (8.5, 9.0)


@pytest.mark.parametrize("rate", [1.5, 1.1, 1.01, 0.9, 0.5])
def test_a_clock_at_another_rate_is_followed(rate: float) -> None:
    """Ours runs too fast or too slow: the estimate is never older than the last answer."""
    server = ServerTime()
    for n in range(2 * WINDOW):
        sent_s, took_s = 2.0 * n * rate, 0.008 if n % 5 else 0.001
        server.add(Sample(TRUE_BASE_S + 2.0 * n, sent_s, sent_s + took_s))
        assert (server.base_s or 0) + sent_s == pytest.approx(TRUE_BASE_S + 2.0 * n, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=40))
def test_honest_samples_never_mislead_by_more_than_half_the_best_round_trip(trips: list[tuple[float, float]]) -> None:
    """Whatever the delays there and back, the estimate is within half of the shortest round trip in the window."""
    samples = [sample(3.0 * n, there, back) for n, (there, back) in enumerate(trips)]
    best_s = min(each.round_trip_s for each in samples[-WINDOW:])
    base_s = server_time(*samples).base_s
    assert base_s is not None
    assert abs(base_s - TRUE_BASE_S) <= best_s / 2 + 0.03  # drift allowance of the window, and milliseconds
