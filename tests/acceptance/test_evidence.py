"""The checker itself: for each kind of fault a history that has it, found; and a clean one, let through."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.acceptance.evidence import Delivery, Expected, Findings, check, grid, id_of, on_grid

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EXPECTED = on_grid("s", SECOND, NOON, NOON + 5 * SECOND, may_until=NOON + 7 * SECOND)


def history(count: int = 5, *, shift_s: float = 0.01) -> list[Delivery]:
    """The deliveries of a scheduler without faults."""
    nominals = [NOON + number * SECOND for number in range(1, count + 1)]
    return [
        Delivery(
            id=id_of("s", at), seq=number, delivered=1, at=at + timedelta(seconds=shift_s), nominal_at=at
        )
        for number, at in enumerate(nominals, start=1)
    ]  # fmt: skip


def records(state: str = "succeeded", count: int = 5) -> dict[str, dict[str, object]]:
    return {each.id: {"state": state} for each in history(count)}


def judge(deliveries: list[Delivery], stored: dict[str, dict[str, object]] | None = None) -> Findings:
    return check(EXPECTED, deliveries, records() if stored is None else stored, late_max_s=1.0)


def test_a_clean_history_passes() -> None:
    """Nothing is found where nothing is wrong, allowed extras included."""
    assert judge(history()).clean
    assert judge(history(7), records(count=7)).clean
    assert str(judge(history())) == "5 expected, 5 delivered, 0 redelivered, worst 0.010 s late"


def test_a_missing_delivery_is_lost() -> None:
    """An id that no worker saw is lost, even where the number of deliveries is right."""
    gap = history()
    gap[2] = gap[1]
    found = judge(gap)
    assert found.lost == [id_of("s", NOON + 3 * SECOND)]
    assert not found.clean


@pytest.mark.parametrize(("seq", "delivered"), [(99, 1), (99, 2), (3, 1)])
def test_a_second_task_is_a_double(seq: int, delivered: int) -> None:
    """Another task of one id, or a second first delivery of one task, is a double."""
    third = history()[2]
    again = Delivery(id=third.id, seq=seq, delivered=delivered, at=third.at, nominal_at=third.nominal_at)
    assert judge([*history(), again]).doubled == [third.id]


def test_a_redelivery_is_no_double() -> None:
    """The same task again, counted by the server, is told and allowed."""
    third = history()[2]
    again = Delivery(id=third.id, seq=third.seq, delivered=2, at=third.at, nominal_at=third.nominal_at)
    found = judge([*history(), again])
    assert found.clean
    assert found.redelivered == [third.id]


def test_what_nobody_asked_for_is_a_phantom() -> None:
    """A delivery or a record of another nominal time or schedule is a phantom."""
    stray = Delivery(id="t.20261121T120001000Z", seq=9, delivered=1, at=NOON, nominal_at=NOON)
    assert judge([*history(), stray]).phantom == [stray.id]
    assert judge(history(), {**records(), "s.20261121T120008000Z": {"state": "superseded"}}).phantom
    before = Delivery(id=id_of("s", NOON), seq=9, delivered=1, at=NOON, nominal_at=NOON)
    assert judge([before, *history()]).phantom == [before.id], "the instant of the definition itself is not in it"


def test_early_and_late_are_told_apart() -> None:
    """Earlier than the nominal time is early; later than allowed is late, and leaves its window unmatched."""
    assert len(judge(history(shift_s=-0.002)).early) == 5
    late = judge(history(shift_s=1.5))
    assert len(late.late) == 5
    assert late.worst_late_s == 1.5
    assert late.unmatched


def test_records_have_to_be_there_and_settled() -> None:
    """A missing record and one in another state are faults; without records neither is looked for."""
    assert len(judge(history(), {}).unrecorded) == 5
    assert len(judge(history(), records("queued")).unsettled) == 5
    assert check(EXPECTED, history(), None, late_max_s=1.0).clean


def test_instants_are_matched_whatever_the_ids_say() -> None:
    """Right ids delivered at wrong instants leave windows without a delivery of their own."""
    piled = [
        Delivery(id=each.id, seq=each.seq, delivered=1, at=NOON + 5 * SECOND, nominal_at=each.nominal_at)
        for each in history()
    ]
    assert len(check(EXPECTED, piled, None, late_max_s=10).unmatched) == 0
    assert len(check(EXPECTED, piled, None, late_max_s=1).unmatched) == 3


def test_the_grid_is_half_open_and_anchored() -> None:
    """Instants are whole multiples since 1970, without the first bound and with the last."""
    assert grid(2 * SECOND, NOON, NOON + 4 * SECOND) == [NOON + 2 * SECOND, NOON + 4 * SECOND]
    assert grid(7 * SECOND, NOON, NOON + 7 * SECOND)[0].timestamp() % 7 == 0
    assert id_of("a.b", NOON + timedelta(milliseconds=7)) == "a.b.20261121T120000007Z"


def test_expectations_add_up() -> None:
    """What one says must be is not weakened by another that merely allows it."""
    both = Expected({"a": NOON}, {"b": NOON}) | Expected({"b": NOON}, {"c": NOON})
    assert both == Expected({"a": NOON, "b": NOON}, {"c": NOON})
