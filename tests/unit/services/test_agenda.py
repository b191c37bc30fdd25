"""The agenda: in order, one entry per schedule, and no larger than what there is."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from scheduler.memory.clock import START
from scheduler.services.agenda import SPARE, Agenda


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def taken(agenda: Agenda, seconds: int) -> list[tuple[str, int]]:
    return [(schedule_id, generation) for _, schedule_id, generation in agenda.take_until(at(seconds))]


def test_what_is_due_comes_out_in_order_and_once() -> None:
    """Everything at or before the instant, earliest first; the rest stays."""
    agenda = Agenda()
    for seconds in (5, 1, 3, 9):
        agenda.put(at(seconds), f"s{seconds}", seconds)
    assert taken(agenda, 5) == [("s1", 1), ("s3", 3), ("s5", 5)]
    assert taken(agenda, 5) == []
    assert (len(agenda), agenda.first) == (1, at(9))


def test_a_later_entry_replaces_the_one_before() -> None:
    """Earlier or later than before, under a new generation, or never again."""
    agenda = Agenda()
    agenda.put(at(5), "a", 1)
    agenda.put(at(2), "a", 2)
    agenda.put(at(3), "b", 1)
    agenda.put(at(7), "b", 2)
    agenda.put(at(1), "c", 1)
    agenda.put(None, "c", 2)
    assert agenda.first == at(2)
    assert taken(agenda, 9) == [("a", 2), ("b", 2)]
    assert agenda.first is None


def test_an_entry_may_be_put_while_others_are_taken() -> None:
    """As planning does; what is put within the time that is being taken comes out as well."""
    agenda = Agenda()
    agenda.put(at(1), "a", 1)
    found = []
    for _, schedule_id, generation in agenda.take_until(at(3)):
        found.append(generation)
        agenda.put(at(generation + 1), schedule_id, generation + 1)
    assert found == [1, 2, 3]
    assert agenda.first == at(4)


def test_edits_do_not_make_it_grow() -> None:
    """A yearly schedule that is edited every second leaves no entry behind."""
    agenda = Agenda()
    for number in range(20_000):
        agenda.put(at(100_000 + number % 7), "yearly", number)
        agenda.put(None, f"gone-{number}", number)
    assert len(agenda) == 1
    assert agenda.stored <= SPARE + 2
    assert taken(agenda, 200_000) == [("yearly", 19_999)]


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 50), st.booleans()), max_size=200))
def test_it_is_a_sorted_dictionary(steps: list[tuple[int, int | None, bool]]) -> None:
    """Whatever is put and taken, it holds what a dictionary would, and gives it in order of time."""
    agenda, model = Agenda(), dict[str, tuple[datetime, int]]()
    for number, (which, seconds, takes) in enumerate(steps):
        name = f"s{which}"
        agenda.put(None if seconds is None else at(seconds), name, number)
        model.pop(name, None)
        if seconds is not None:
            model[name] = (at(seconds), number)
        if takes:
            until = at(20)
            found = [each[1:] for each in agenda.take_until(until)]
            due = sorted((when, key, generation) for key, (when, generation) in model.items() if when <= until)
            assert found == [(key, generation) for _, key, generation in due]
            for _, key, _ in due:
                del model[key]
        assert len(agenda) == len(model)
        assert agenda.first == min((when for when, _ in model.values()), default=None)
