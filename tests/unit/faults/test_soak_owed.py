"""What a history of operations owes: clear of every operation for certain, around each of them either way."""

from __future__ import annotations

from msgspec.structs import replace

from tests.acceptance.evidence import Expected, id_of
from tests.faults.soak.history import Operation, Outcome
from tests.faults.soak.owed import by_turns, nominal_of, one_shots, owed, triggered, twice, without_cancelled
from tests.unit.faults.soak_histories import WINDOW, at, deliveries, history, operation, operations, trigger

OFF = operation("schedule.pause", "moody-0", 40.5, fires=False)
ON = operation("schedule.resume", "moody-0", 45.5, fires=True)


def seconds(expected: Expected) -> tuple[set[int], set[int], set[int]]:
    """The instants that must come, may come, and come or are explained."""
    kinds = (expected.must, expected.may, expected.either)
    must, may, either = ({int((each - at(0)).total_seconds()) for each in kind.values()} for kind in kinds)
    return must, may, either


def turned(*turns: Operation) -> tuple[set[int], set[int], set[int]]:
    return seconds(by_turns("moody-0", WINDOW, turns))


def test_without_operations_the_whole_grid_is_owed() -> None:
    """Sixty instants, each for certain."""
    assert turned() == (set(range(1, 61)), set(), set())


def test_an_off_and_an_on() -> None:
    """Nothing more than a second after the off; everything more than a second after the on; what was due shortly before
    the off may be decided by the new definition, and then says so."""
    must, may, either = turned(OFF, ON)
    assert may == {41, 46}, "up to a second after the answer"
    assert either == set(range(11, 41))
    assert must == {*range(1, 11), *range(47, 61)}


def test_what_is_unknown_is_unknown_until_the_next_answer() -> None:
    """An operation without an answer may hold or not."""
    must, may, _ = turned(replace(OFF, outcome=Outcome.UNKNOWN), ON)
    assert may == {*range(41, 47)}
    assert must >= set(range(47, 61))
    _, still, _ = turned(OFF, replace(ON, outcome=Outcome.REFUSED))
    assert still == {41, *range(46, 61)}


def test_a_one_shot_is_owed_if_it_was_taken() -> None:
    """For certain when its put was answered, else maybe."""
    put = operation("once", "once-1", 10, due=at(14))
    id_ = id_of("once-1", at(14))
    assert one_shots([put]) == Expected({id_: at(14)})
    assert one_shots([replace(put, outcome=Outcome.UNKNOWN)]) == Expected({}, {id_: at(14)})


def test_a_trigger_is_one_execution_however_often_it_was_asked() -> None:
    """Answered: that one. Never answered: whatever came of its nonce may have; two of one nonce are told."""
    first = trigger("by-hand", "n1", 12, outcome=Outcome.UNKNOWN, execution=None)
    again = trigger("by-hand", "n1", 18)
    assert again.execution is not None
    assert triggered([first, again], []).must == {again.execution: at(18.1)}
    came = id_of("by-hand", at(12.3)) + "-mn1"
    assert triggered([first], [came]) == Expected({}, {came: nominal_of(came)})
    assert triggered([first], []) == Expected({})
    assert twice([first, again], [came]) == {"by-hand|n1"}
    assert twice([again], [again.execution]) == set()


def test_what_is_cancelled_is_not_to_come() -> None:
    """Cancelled for certain: a phantom if it comes; unknown: either way; not cancelled: owed."""
    parked = triggered([trigger("parked", f"p{n}", 10 + n) for n in (1, 2, 3)], [])
    ids = sorted(parked.must)
    cancels = [
        operation("execution.cancel", "parked", 20, execution=ids[0]),
        operation("execution.cancel", "parked", 21, execution=ids[1], outcome=Outcome.UNKNOWN),
    ]
    left = without_cancelled(parked, cancels)
    assert (set(left.must), set(left.may)) == ({ids[2]}, {ids[1]})


def test_all_of_it_together() -> None:
    """Ticks and edited ones owe their grid, busy ones may skip, and nothing of the parked is punctual."""
    due = owed(history(), deliveries())
    by_kind = {kind: {id_.split("-")[0] for id_ in getattr(due.punctual, kind)} for kind in ("must", "may", "either")}
    assert by_kind["must"] == {"tick", "edited", "moody", "once", "by"}
    assert by_kind["either"] == {"busy", "moody"}
    assert len([id_ for id_ in due.punctual.must if id_.startswith(("tick", "edited"))]) == 11 * 60
    assert len(due.parked.must) == 1
    assert due.twice == ()
    assert {each.kind for each in operations()} >= {"edit", "once", "schedule.trigger", "execution.cancel"}
