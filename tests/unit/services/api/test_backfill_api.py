"""schedule.backfill, backfill.get, .list, .cancel, over the twins."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from scheduler.core.errors import Conflict, InvalidArgument, NotFound
from scheduler.memory.clock import START
from scheduler.services.backfills import RUNNING_MAX
from scheduler.wire.instants import format_instant
from tests.unit.services.api.stage import HELLO, Stage


def ago(seconds: float) -> str:
    return format_instant(START - timedelta(seconds=seconds))


def asked(**changes: Any) -> dict[str, Any]:
    plain = {"id": "a", "from": ago(60), "to": ago(30), "dry_run": False}
    return {name: value for name, value in (plain | changes).items() if value is not None}


async def put(stage: Stage, schedule_id: str = "a", **fields: Any) -> None:
    stage.schedules.put_raw(schedule_id, msgspec.json.encode(HELLO | fields))


async def test_a_dry_run_lists_and_writes_nothing(stage: Stage) -> None:
    """The exact list, from inclusive, to exclusive, and not a single write."""
    await put(stage)
    before = await stage.control.last_revision()
    reply = await stage.ask("schedule.backfill", **asked(dry_run=True))
    assert reply["nominals"] == [ago(60), ago(50), ago(40)]
    assert reply["backfill_id"]
    assert await stage.control.last_revision() == before
    assert (await stage.ask("backfill.list"))["items"] == []


async def test_it_is_stored_for_the_leader(stage: Stage) -> None:
    """What was listed is kept with its rate and policy, and can be read, listed and cancelled."""
    await put(stage)
    reply = await stage.ask("schedule.backfill", **asked(backfill_id="b1", rate=2, overlap="allow"))
    assert reply == {"backfill_id": "b1", "nominals": [ago(60), ago(50), ago(40)]}
    item = await stage.ask("backfill.get", id="b1")
    assert item == {
        "id": "b1", "schedule": "a", "from": ago(60), "to": ago(30), "state": "running", "reason": None, "count": 3,
        "started": 0, "rate": 2.0, "overlap": "allow", "created_at": item["created_at"], "finished_at": None,
    }  # fmt: skip
    assert (await stage.ask("backfill.list", schedule="a"))["items"] == [item]
    assert (await stage.ask("backfill.list", schedule="b"))["items"] == []
    assert (await stage.ask("backfill.cancel", id="b1"))["state"] == "cancelled"
    assert (await stage.ask("backfill.cancel", id="b1"))["reason"] == "cancelled"


async def test_repeating_it_makes_no_second_one(stage: Stage) -> None:
    """The same id answers with the same backfill; for another range it is refused."""
    await put(stage)
    first = await stage.ask("schedule.backfill", **asked(backfill_id="b1"))
    assert await stage.ask("schedule.backfill", **asked(backfill_id="b1")) == first
    assert len((await stage.ask("backfill.list"))["items"]) == 1
    with pytest.raises(Conflict, match="b1"):
        await stage.ask("schedule.backfill", **asked(backfill_id="b1", to=ago(20)))


async def test_max_keeps_the_first(stage: Stage) -> None:
    """max runs the first so many; without it a range of more than 1000 is refused, and more than 10,000 never run."""
    await put(stage)
    reply = await stage.ask("schedule.backfill", **asked(max=2, dry_run=True))
    assert reply["nominals"] == [ago(60), ago(50)]
    with pytest.raises(InvalidArgument, match="more than 1,000 nominal times") as problem:
        await stage.ask("schedule.backfill", **asked(**{"from": ago(86_400), "dry_run": True}))
    assert problem.value.field == "max"
    large = await stage.ask("schedule.backfill", **asked(**{"from": ago(864_000), "max": 10_000, "to": ago(0)}))
    assert len(large["nominals"]) == 10_000
    with pytest.raises(InvalidArgument, match="max"):
        await stage.ask("schedule.backfill", **asked(max=10_001))


async def test_an_empty_range_is_no_backfill(stage: Stage) -> None:
    """Nothing to run: an empty list, and nothing is stored."""
    await put(stage)
    assert (await stage.ask("schedule.backfill", **asked(**{"from": ago(59), "to": ago(58)})))["nominals"] == []
    assert (await stage.ask("backfill.list"))["items"] == []


async def test_a_list_has_pages(stage: Stage) -> None:
    """Newest first, each once, over as many pages as it takes."""
    await put(stage)
    for number in range(5):
        await stage.ask("schedule.backfill", **asked(backfill_id=f"b{number}"))
        await stage.clock.advance(0.01 * (number % 2))
    found, cursor = [], None
    while True:
        page = await stage.ask("backfill.list", limit=2, **({} if cursor is None else {"cursor": cursor}))
        found += [item["id"] for item in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert sorted(found) == [f"b{number}" for number in range(5)]
    assert found[-1] in {"b0", "b1"}


async def test_too_many_at_once_are_refused(stage: Stage) -> None:
    """A hundred are carried out at a time; whoever comes then is told what to do."""
    await put(stage)
    for number in range(RUNNING_MAX):
        await stage.ask("schedule.backfill", **asked(backfill_id=f"b{number}"))
    with pytest.raises(Conflict, match="under way"):
        await stage.ask("schedule.backfill", **asked(backfill_id="more"))
    await stage.ask("schedule.backfill", **asked(backfill_id="b7"))
    await stage.ask("backfill.cancel", id="b7")
    await stage.ask("schedule.backfill", **asked(backfill_id="more"))


@pytest.mark.parametrize(
    ("changes", "field", "word"),
    [
        ({"dry_run": None}, "dry_run", "required"),
        ({"from": None}, "from", "required"),
        ({"from": "yesterday"}, "from", "not an instant"),
        ({"to": ago(60)}, "to", "not after from"),
        ({"to": format_instant(START + timedelta(hours=1))}, "to", "future"),
        ({"from": "1969-01-01T00:00:00Z"}, "from", "1970"),
        ({"rate": 0}, "rate", "rate"),
        ({"rate": 1001}, "rate", "rate"),
        ({"max": 0}, "max", "max"),
        ({"overlap": "sometimes"}, "overlap", "no policy"),
        ({"backfill_id": "a.b"}, "backfill_id", "backfill_id"),
        ({"id": "a..b"}, "id", "schedule id"),
        ({"until": ago(0)}, "until", "no such field"),
    ],
)
async def test_bad_input_is_one_sentence(stage: Stage, changes: dict[str, Any], field: str, word: str) -> None:
    """It names the field, and nothing is stored."""
    await put(stage)
    with pytest.raises(InvalidArgument, match=word) as problem:
        await stage.ask("schedule.backfill", **asked(**changes))
    assert problem.value.field == field
    assert (await stage.ask("backfill.list"))["items"] == []


async def test_what_is_not_there(stage: Stage) -> None:
    """Unknown schedules and backfills are not found; an invalid schedule says what is wrong with it."""
    stage.schedules.put_raw("bad", b"{}")
    for endpoint, body in (
        ("schedule.backfill", asked(id="nope")), ("backfill.get", {"id": "nope"}), ("backfill.cancel", {"id": "nope"}),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            await stage.ask(endpoint, **body)
    with pytest.raises(InvalidArgument, match="invalid"):
        await stage.ask("schedule.backfill", **asked(id="bad"))
