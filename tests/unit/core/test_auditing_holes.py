"""What must not hide a hole: it stays unexplained, whatever else is known of its schedule."""

from __future__ import annotations

from msgspec import structs

from scheduler.core.auditing import OnItsWay
from scheduler.core.model.status import StatusRow
from tests.unit.core.test_auditing import HOLE, MINUTES, at, case, put, told, verdicts

FIRED = ("fired", None)


def test_before_the_last_of_all_fires() -> None:
    """A schedule that has fired as often as it may owes nothing behind its last fire, and all that comes before it."""
    spent = OnItsWay(row=StatusRow(fires=3, previous_at=at(3)))
    of = case(put(1, -60, max_fires=3, **MINUTES), fired=[0, 1, 3], on_its_way=spent)
    assert verdicts(of, 0, 7) == {0: FIRED, 1: FIRED, 2: HOLE, 3: FIRED}


def test_while_it_may_fire_again() -> None:
    """Two of three fires: what comes behind the second is owed."""
    left = OnItsWay(row=StatusRow(fires=2, previous_at=at(1)))
    of = case(put(1, -60, max_fires=3, **MINUTES), fired=[0, 1], on_its_way=left)
    assert verdicts(of, 0, 4) == {0: FIRED, 1: FIRED, 2: HOLE, 3: HOLE}


def test_beside_what_waits_for_catch_up() -> None:
    """Pending is what was noted as late and not decided: neither what is older than the note, nor what was decided."""
    noted = OnItsWay(row=StatusRow(late_from=at(2), decided=at(4)))
    pending = ("pending", "catch_up")
    of = case(put(1, -60, **MINUTES), on_its_way=noted)
    assert verdicts(of, 0, 7) == {0: HOLE, 1: HOLE, 2: HOLE, 3: HOLE, 4: HOLE, 5: pending, 6: pending}
    early = structs.replace(noted, row=StatusRow(late_from=at(2)))
    assert verdicts(case(put(1, -60, **MINUTES), on_its_way=early), 0, 3) == {0: HOLE, 1: HOLE, 2: pending}


def test_before_an_edit_that_does_not_say_how_far_was_planned() -> None:
    """It takes back nothing that was due before it."""
    of = case(put(1, -60, **MINUTES), put(2, 2.5, planned=None, cron="30 * * * *"), fired=[0])
    assert verdicts(of, 0, 5) == {0: FIRED, 1: HOLE, 2: HOLE}


def test_what_an_edit_took_back_is_one_for_the_whole_span() -> None:
    """Nobody knows how many those were: at least so many."""
    of = case(put(1, -60, **MINUTES), ranges=(told(0, 4, 1, "superseded", "edited", gen=1),))
    assert verdicts(of, 0, 6) == {**dict.fromkeys(range(5), ("superseded", "edited")), 5: HOLE}
