"""execution.list and execution.get: newest first, in stable pages, bounded, and never a deleted record."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scheduler.core.errors import Internal, InvalidArgument, NotFound, Unavailable
from scheduler.core.model.execution import State
from tests.unit.services.api.stage import Stage


@pytest.fixture
async def small() -> AsyncIterator[Stage]:
    """Remembers the last five executions only."""
    found = Stage(recent_max=5)
    await found.start()
    yield found
    await found.stop()


async def pages(stage: Stage, **body: Any) -> list[list[str]]:
    found: list[list[str]] = []
    more: dict[str, str] = {}
    while True:
        page = await stage.ask("execution.list", **body, **more)
        found.append([item["id"] for item in page["items"]])
        if page["cursor"] is None:
            return found
        more = {"cursor": page["cursor"]}


def at(number: int) -> str:
    return f"2026-11-21T08:00:{number:02d}Z"


async def test_get_shows_the_record_as_stored(stage: Stage) -> None:
    """Byte for byte."""
    written = await stage.record("a", 1, State.RUNNING)
    entry = await stage.executions.get(written)
    assert entry is not None
    answer = await stage.run(stage.api.answer("execution.get", json.dumps({"id": written}).encode()))
    assert answer.body == entry.value


async def test_get_refuses(stage: Stage) -> None:
    """No such execution, an expired one, an impossible id, a record nobody can read."""
    with pytest.raises(NotFound):
        await stage.ask("execution.get", id="a.20261121T080000000Z")
    written = await stage.record("a", 1)
    await stage.executions.delete(written)
    with pytest.raises(NotFound):
        await stage.ask("execution.get", id=written)
    for bad in ("", "a", "_nonce.a.b", "a.20261321T080000000Z", "a.20261121T080000000Z.>"):
        with pytest.raises(NotFound, match="an id is SCHEDULE"):
            await stage.ask("execution.get", id=bad)
    stage.executions.put_raw("b.20261121T080000000Z", b"\xff")
    with pytest.raises(Internal):
        await stage.ask("execution.get", id="b.20261121T080000000Z")


@pytest.mark.parametrize("schedule", [{}, {"schedule": "a"}])
async def test_lists_are_newest_first_and_filtered(stage: Stage, schedule: dict[str, str]) -> None:
    """With a schedule from the bucket, without from memory: the same answers."""
    ids = [await stage.record("a", n, State.FAILED if n % 3 == 0 else State.QUEUED, f"q{n % 2}") for n in range(9)]
    newest = ids[::-1]
    assert await pages(stage, **schedule) == [newest]
    assert await pages(stage, **schedule, limit=4) == [newest[:4], newest[4:8], newest[8:]]
    assert await pages(stage, **schedule, limit=3) == [newest[:3], newest[3:6], newest[6:]]
    assert await pages(stage, **schedule, state="failed") == [[ids[6], ids[3], ids[0]]]
    assert await pages(stage, **schedule, queue="q1") == [[ids[7], ids[5], ids[3], ids[1]]]
    assert await pages(stage, **schedule, queue="q1", state="failed") == [[ids[3]]]
    assert await pages(stage, **schedule, since=at(2), until=at(5)) == [[ids[4], ids[3], ids[2]]]
    assert await pages(stage, **schedule, state="lost") == [[]]


async def failed(stage: Stage, number: int, reason: str | None, error: str | None, type_: str = "t") -> str:
    """A record with a reason, an error or a type of its own."""
    written = await stage.record("a", number, State.FAILED)
    entry = await stage.executions.get(written)
    assert entry is not None
    told = None if error is None else {"type": error, "message": "", "traceback": None}
    document = json.loads(entry.value) | {"reason": reason, "type": type_, "error": told}
    await stage.executions.put(written, json.dumps(document).encode())
    return written


@pytest.mark.parametrize("schedule", [{}, {"schedule": "a"}])
async def test_several_states_a_type_and_a_reason(stage: Stage, schedule: dict[str, str]) -> None:
    """Several states with commas between them; a reason is the record's, or the type of its error."""
    tries = await failed(stage, 1, "max_tries", "ValueError")
    raised = await failed(stage, 2, None, "OSError", "mail")
    lost = await stage.record("a", 3, State.LOST)
    await stage.record("a", 4)
    assert await pages(stage, **schedule, state="failed,lost") == [[lost, raised, tries]]
    assert await pages(stage, **schedule, state=" lost , succeeded ", until=at(4)) == [[lost]]
    assert await pages(stage, **schedule, reason="max_tries") == [[tries]]
    assert await pages(stage, **schedule, reason="OSError") == [[raised]]
    assert await pages(stage, **schedule, type="mail") == [[raised]]
    for bad in ("failed,", "failed,broken", ""):
        with pytest.raises(InvalidArgument, match="no state"):
            await stage.ask("execution.list", **schedule, state=bad)


async def test_it_says_that_there_are_older_ones(small: Stage) -> None:
    """Once something fell out of what is remembered; with a schedule everything is looked at."""
    for number in range(5):
        await small.record("a", number)
    assert "older" not in await small.ask("execution.list")
    await small.record("a", 5)
    assert (await small.ask("execution.list"))["older"] is True
    assert "older" not in await small.ask("execution.list", schedule="a")


async def test_a_schedule_does_not_see_its_namesakes(stage: Stage) -> None:
    """`a` and `a.b` are two schedules; nonces and foreign keys are no executions."""
    one = await stage.record("a", 1)
    two = await stage.record("a.b", 2)
    stage.executions.put_raw("a.something", b"{}")
    stage.executions.put_raw("_nonce.a.n", b"x")
    stage.executions.put_raw("a.20261121T080000007Z", b"\xff unreadable")
    assert await pages(stage, schedule="a") == [[one]]
    assert await pages(stage, schedule="a.b") == [[two]]
    assert await pages(stage, schedule="b") == [[]]
    assert await pages(stage) == [[two, one]]


async def test_expired_records_are_passed_over(stage: Stage) -> None:
    """Markers are no executions, whether the index has heard of them or not."""
    ids = [await stage.record("a", number) for number in range(4)]
    await stage.executions.delete(ids[2])
    assert await pages(stage, schedule="a") == [[ids[3], ids[1], ids[0]]]
    assert await pages(stage) == [[ids[3], ids[1], ids[0]]]


async def test_the_whole_history_of_a_schedule(small: Stage) -> None:
    """Without a schedule only the recent ones, with one all of them."""
    ids = [await small.record("a", number) for number in range(20)]
    assert await pages(small) == [ids[:14:-1]]
    assert await pages(small, schedule="a") == [ids[::-1]]


async def test_new_executions_do_not_disturb_a_walk(stage: Stage) -> None:
    """What is written between two pages neither shifts nor repeats anything; a walk from the start shows it."""
    ids = [await stage.record("a", number) for number in range(6)]
    for schedule in ({}, {"schedule": "a"}):
        first = await stage.ask("execution.list", **schedule, limit=3)
        newer = await stage.record("a", 50)
        rest = await stage.ask("execution.list", **schedule, limit=10, cursor=first["cursor"])
        assert [item["id"] for item in rest["items"]] == [ids[2], ids[1], ids[0]]
        assert (await pages(stage, **schedule))[0][0] == newer
        await stage.executions.delete(newer)


async def test_a_walk_lists_the_keys_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages after the first go on in the keys read then; keys that do not fit are read in portions."""
    ids = [await stage.record("a", number) for number in range(30)]
    original, calls = stage.executions.keys, 0

    async def counting(pattern: str = ">") -> list[str]:
        nonlocal calls
        calls += 1
        return await original(pattern)

    monkeypatch.setattr(stage.executions, "keys", counting)
    found = await pages(stage, schedule="a", limit=4)
    assert [each for page in found for each in page] == ids[::-1]
    assert calls == 1
    monkeypatch.setattr("scheduler.services.api.executions.PORTION_MAX", 10)
    calls = 0
    found = await pages(stage, schedule="a", limit=4)
    assert [each for page in found for each in page] == ids[::-1]
    assert calls == 3


async def test_a_cursor_works_on_a_replica_that_never_saw_the_walk(stage: Stage) -> None:
    """It is a position in the list, not a session."""
    ids = [await stage.record("a", number) for number in range(6)]
    other = Stage()
    for bucket in ("schedules", "executions", "status"):
        getattr(other, bucket).stream = getattr(stage, bucket).stream
    await other.start()
    page = await other.ask("execution.list", schedule="a", cursor=ids[3])
    assert [item["id"] for item in page["items"]] == [ids[2], ids[1], ids[0]]
    page = await other.ask("execution.list", cursor=ids[3])
    assert [item["id"] for item in page["items"]] == [ids[2], ids[1], ids[0]]
    await other.stop()


async def test_a_walk_may_begin_anywhere(stage: Stage) -> None:
    """What an older page left in memory does not answer for a newer position."""
    ids = [await stage.record("a", number) for number in range(8)]
    for behind in (3, 6, 5):
        page = await stage.ask("execution.list", schedule="a", cursor=ids[behind])
        assert [item["id"] for item in page["items"]] == ids[:behind][::-1]


async def test_foreign_keys_are_no_stumbling_block(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may end at any key, also at one that no schedd made; the walk goes on from there."""
    monkeypatch.setattr("scheduler.services.api.executions.READS_MAX", 1)
    monkeypatch.setattr("scheduler.services.api.executions.READ_CHUNK", 1)
    ids = [await stage.record("a", number) for number in range(2)]
    for tail in ("99999999T999999999Z", "20269999T999999999Z-x", "00000000T000000000Z", "zzz", "0"):
        stage.executions.put_raw(f"a.{tail}", b"{}")
    found = await pages(stage, schedule="a")
    assert [each for page in found for each in page] == ids[::-1]


async def test_a_record_larger_than_a_page_is_a_page(stage: Stage) -> None:
    """One item is always given: a walk never stops at it."""
    ids = [await stage.record("a", number) for number in range(3)]
    entry = await stage.executions.get(ids[1])
    assert entry is not None
    stage.executions.put_raw(ids[1], entry.value[:-1] + b',"result":"' + b"x" * 1_200_000 + b'"}')
    assert await pages(stage, schedule="a") == [[ids[2]], [ids[1]], [ids[0]]]


async def test_one_page_reads_only_so_many_records(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that matches little comes back with what there is and a cursor, again and again to the end."""
    monkeypatch.setattr("scheduler.services.api.executions.READS_MAX", 10)
    monkeypatch.setattr("scheduler.services.api.executions.READ_CHUNK", 5)
    ids = [
        await stage.record("a", number, State.FAILED if number in {0, 25} else State.SUCCEEDED) for number in range(30)
    ]
    found = await pages(stage, schedule="a", state="failed")
    assert found == [[ids[25]], [], [ids[0]]]


async def test_pages_are_bounded_in_bytes(stage: Stage) -> None:
    """Large records make short pages; one record is always given, however large."""
    ids = []
    for number in range(6):
        written = await stage.record("a", number)
        entry = await stage.executions.get(written)
        assert entry is not None
        stage.executions.put_raw(written, entry.value[:-1] + b',"result":"' + b"x" * 400_000 + b'"}')
        ids.append(written)
    found = await pages(stage, schedule="a")
    assert [each for page in found for each in page] == ids[::-1]
    assert [len(page) for page in found] == [2, 2, 2]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"schedule": "a..b"}, "schedule"),
        ({"state": "odd"}, "state"),
        ({"queue": "no queue"}, "queue"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-11-21"}, "until"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"schedule": "a", "cursor": "b.20261121T080000000Z"}, "cursor"),
        ({"scedule": "a"}, "scedule"),
    ],
)
async def test_list_refuses(stage: Stage, body: dict[str, Any], field: str) -> None:
    """What makes no sense is told with the field."""
    with pytest.raises(InvalidArgument) as caught:
        await stage.ask("execution.list", **body)
    assert caught.value.field == field


async def test_an_outage_is_unavailable(stage: Stage) -> None:
    """Never an empty list."""
    await stage.record("a", 1)
    stage.server.down = True
    for body in ({}, {"schedule": "a"}):
        with pytest.raises(Unavailable):
            await stage.ask("execution.list", **body)
