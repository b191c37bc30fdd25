"""put, delete, pause, resume: what is written, when it is answered, and what a race or silence does to it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from scheduler.core.errors import Conflict, InvalidArgument, NotFound, PayloadTooLarge, Unavailable
from scheduler.core.model.status import StatusRow
from scheduler.ports.stores import Entry
from scheduler.wire.status import encode_status
from tests.unit.services.api.stage import HELLO, Stage


async def stored(stage: Stage, schedule_id: str) -> Any:
    entry = await stage.schedules.get(schedule_id)
    assert entry is not None
    return json.loads(entry.value)


async def test_put_answers_with_the_next_fires(stage: Stage) -> None:
    """Revision, generation and the next five fire times; what was sent is stored byte for byte."""
    reply = await stage.put("hello")
    assert (reply["id"], reply["revision"], reply["generation"]) == ("hello", 1, 1)
    assert reply["next"] == [f"2026-11-21T08:00:{second}0.000Z" for second in range(1, 6)]
    assert reply["warnings"] == []
    entry = await stage.schedules.get("hello")
    assert entry is not None
    assert entry.value == json.dumps(HELLO).encode()


async def test_next_fires_keep_out_of_a_pause(stage: Stage) -> None:
    """Fires begin at the end of a pause, there are none in an endless one, and start_delay is in them."""
    until = "2026-11-21T09:00:00Z"
    paused = await stage.put("a", {**HELLO, "paused": True, "paused_until": until, "start_delay": "3s"})
    assert paused["next"][:2] == ["2026-11-21T09:00:03.000Z", "2026-11-21T09:00:13.000Z"]
    assert (await stage.put("b", {**HELLO, "paused": True}))["next"] == []


async def test_next_fires_end_with_max_fires(stage: Stage) -> None:
    """A new schedule fires so often; of one that is edited what has fired is taken off."""
    assert len((await stage.put("a", {**HELLO, "max_fires": 2}))["next"]) == 2
    await stage.status.put("a", encode_status(StatusRow(fires=1)))
    assert (await stage.put("a", {**HELLO, "max_fires": 2, "name": "n"}))["next"] == ["2026-11-21T08:00:10.000Z"]


async def test_put_warns(stage: Stage) -> None:
    """What is valid and probably not meant comes back as a sentence."""
    reply = await stage.put("hello", {**HELLO, "timeout": "2m"})
    assert len(reply["warnings"]) == 1
    assert "ack_wait" in reply["warnings"][0]


@pytest.mark.parametrize(
    ("schedule_id", "schedule", "field"),
    [
        ("a..b", HELLO, "id"),
        ("a", {**HELLO, "evry": "1s"}, "evry"),
        ("a", {"every": "1s", "type": "t"}, "queue"),
        ("a", {"cron": "0 0 30 2 *", "queue": "q", "type": "t"}, "cron"),
        ("a", {"cron": "* * * * *", "timezone": "Mars/Base", "queue": "q", "type": "t"}, "timezone"),
        ("a", ["no", "object"], None),
        ("a", None, None),
    ],
)
async def test_put_refuses_what_is_invalid(stage: Stage, schedule_id: str, schedule: Any, field: str | None) -> None:
    """The field is named, and nothing is stored."""
    with pytest.raises(InvalidArgument) as caught:
        await stage.ask("schedule.put", id=schedule_id, schedule=schedule)
    assert caught.value.field == field
    assert await stage.schedules.last_revision() == 0


async def test_put_refuses_what_is_too_large(stage: Stage) -> None:
    """A payload above the limit is payload_too_large, not merely invalid."""
    with pytest.raises(PayloadTooLarge):
        await stage.put("a", {**HELLO, "payload": "x" * 70_000})


async def test_an_equal_definition_is_not_written(stage: Stage) -> None:
    """Another order of fields and other spaces say the same."""
    await stage.put("hello")
    again = await stage.put("hello", dict(reversed(HELLO.items())))
    assert again["revision"] == 1
    assert await stage.schedules.last_revision() == 1


async def test_a_stored_pause_stays(stage: Stage) -> None:
    """A put that says nothing about state keeps the pause; one that does replaces it."""
    await stage.put("hello", {**HELLO, "paused": True, "pause_note": "why"})
    await stage.put("hello", {**HELLO, "type": "other"})
    assert await stored(stage, "hello") == {**HELLO, "type": "other", "paused": True, "pause_note": "why"}
    await stage.put("hello", {**HELLO, "paused": False})
    assert await stored(stage, "hello") == {**HELLO, "paused": False}


async def test_a_broken_pause_does_not_stay(stage: Stage) -> None:
    """A pause that is itself invalid cannot spoil a valid new definition."""
    stage.schedules.put_raw("hello", json.dumps({**HELLO, "paused": "yes"}).encode())
    await stage.put("hello", {**HELLO, "type": "other"})
    assert await stored(stage, "hello") == {**HELLO, "type": "other"}


async def test_expected_revision(stage: Stage) -> None:
    """0 creates only, n replaces n; a deleted schedule does not exist."""
    await stage.put("a", expected_revision=0)
    for expected in (0, 7):
        with pytest.raises(Conflict) as caught:
            await stage.put("a", {**HELLO, "type": "b"}, expected_revision=expected)
        assert caught.value.field == "expected_revision"
    assert (await stage.put("a", {**HELLO, "type": "b"}, expected_revision=1))["revision"] == 2
    await stage.ask("schedule.delete", id="a")
    with pytest.raises(Conflict, match="does not exist"):
        await stage.put("a", expected_revision=3)
    assert (await stage.put("a", expected_revision=0))["revision"] == 4


async def test_puts_that_race_are_decided_again(stage: Stage) -> None:
    """Twenty writers of one key, each with a definition of its own: all of them get through, one after the other."""
    replies = await asyncio.gather(
        *(stage.put("hello", {**HELLO, "type": f"t{number}"}) for number in range(20)),
    )
    assert sorted(reply["revision"] for reply in replies) == list(range(1, 21))


async def test_a_lost_race_meets_what_the_other_stored(stage: Stage) -> None:
    """Between read and write somebody pauses the schedule: the put is decided again and keeps the pause."""
    await stage.put("hello")
    read = stage.schedules.get
    meddled = False

    async def meddling(key: str) -> Entry | None:
        nonlocal meddled
        entry = await read(key)
        if not meddled:
            meddled = True
            stage.schedules.put_raw(key, json.dumps({**HELLO, "paused": True}).encode())
        return entry

    stage.schedules.get = meddling  # type: ignore[method-assign]  # the race, made to happen
    await stage.put("hello", {**HELLO, "type": "other"})
    assert await stored(stage, "hello") == {**HELLO, "type": "other", "paused": True}


@pytest.mark.parametrize("expected", [None, 0])
async def test_a_put_whose_answer_was_lost_is_recognised(stage: Stage, expected: int | None) -> None:
    """The write landed and its answer did not come: reading back tells, also where an expectation was given."""
    stage.server.lose_ack_next()
    more: dict[str, Any] = {} if expected is None else {"expected_revision": expected}
    assert (await stage.put("hello", **more))["revision"] == 1
    assert await stage.schedules.last_revision() == 1


async def test_a_put_that_never_arrived_is_sent_again(stage: Stage) -> None:
    """Silence without an effect is repeated."""
    stage.server.lose_next(2)
    assert (await stage.put("hello", expected_revision=0))["revision"] == 1


async def test_a_put_that_lands_late_is_recognised(stage: Stage) -> None:
    """The repeat and the late original cannot both win."""
    stage.server.land_late(after_s=0.001)
    assert (await stage.put("hello", expected_revision=0))["revision"] == 1
    await stage.clock.advance(5)
    assert await stage.schedules.last_revision() == 1


async def test_endless_silence_ends(stage: Stage) -> None:
    """A store that never answers makes the answer unavailable, in bounded time."""
    stage.server.lose_next(100)
    with pytest.raises(Unavailable):
        await stage.put("hello")


async def test_a_write_waits_until_it_is_applied(stage: Stage) -> None:
    """put, pause, resume and delete are answered once the watermark covers their revision, not before."""
    slow = Stage()
    await slow.start(applied=0)
    waiting = asyncio.create_task(slow.put("hello"))
    for _ in range(20):
        await slow.clock.advance(0.1)
    assert not waiting.done()
    await slow.set_applied(1)
    assert (await waiting)["revision"] == 1
    for verb in ("pause", "resume", "delete"):
        with pytest.raises(Unavailable, match="not yet applied"):
            await slow.ask(f"schedule.{verb}", id="hello")
    await slow.stop()


async def test_delete(stage: Stage) -> None:
    """A marker remains, whose revision is answered; a second delete finds nothing."""
    await stage.put("hello")
    assert await stage.ask("schedule.delete", id="hello") == {"id": "hello", "revision": 2}
    entry = await stage.schedules.get("hello")
    assert entry is not None
    assert entry.deleted
    with pytest.raises(NotFound):
        await stage.ask("schedule.delete", id="hello")
    with pytest.raises(NotFound):
        await stage.ask("schedule.delete", id="never")


async def test_a_delete_of_what_was_seen(stage: Stage) -> None:
    """With an expected revision, only what is still of that revision is deleted."""
    await stage.put("hello")
    await stage.ask("schedule.pause", id="hello")
    with pytest.raises(Conflict, match="is at revision 2, not 1"):
        await stage.ask("schedule.delete", id="hello", expected_revision=1)
    assert (await stage.ask("schedule.delete", id="hello", expected_revision=2))["revision"] == 3


async def test_a_delete_whose_answer_was_lost(stage: Stage) -> None:
    """It is recognised as done, not answered with not_found."""
    await stage.put("hello")
    stage.server.lose_ack_next()
    assert (await stage.ask("schedule.delete", id="hello"))["revision"] == 2


async def test_delete_of_an_invalid_one(stage: Stage) -> None:
    """What cannot be read can be deleted."""
    stage.schedules.put_raw("broken", b"\xff")
    assert (await stage.ask("schedule.delete", id="broken"))["revision"] == 2


async def test_pause_and_resume_touch_nothing_else(stage: Stage) -> None:
    """State fields change; every other byte of the payload stays as it was stored."""
    raw = b'{"every":"10s","queue":"q","type":"t","payload":{"n": 1.50, "\\u00e4": [ ]}}'
    stage.schedules.put_raw("a", raw)
    await stage.ask("schedule.pause", id="a", note="why", until="2026-11-22T08:00:00+01:00")
    entry = await stage.schedules.get("a")
    assert entry is not None
    assert b'{"n": 1.50, "\\u00e4": [ ]}' in entry.value
    assert json.loads(entry.value)["paused_until"] == "2026-11-22T07:00:00.000Z"
    assert (await stage.ask("schedule.resume", id="a"))["revision"] == 3
    assert await stored(stage, "a") == json.loads(raw)


async def test_pause_twice_writes_once(stage: Stage) -> None:
    """The same pause again, or resuming what runs, changes nothing."""
    await stage.put("a")
    assert (await stage.ask("schedule.resume", id="a"))["revision"] == 1
    assert (await stage.ask("schedule.pause", id="a"))["revision"] == 2
    assert (await stage.ask("schedule.pause", id="a"))["revision"] == 2
    assert (await stage.ask("schedule.pause", id="a", note="now with a note"))["revision"] == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"until": "2026-11-21T07:00:00Z"}, "until"),
        ({"until": "tomorrow"}, "until"),
        ({"note": "a\x07b"}, "note"),
        ({"note": "x" * 1025}, "note"),
    ],
)
async def test_a_pause_that_makes_no_sense(stage: Stage, body: dict[str, str], field: str) -> None:
    """It is refused with the request's field, and cannot make a valid schedule invalid."""
    await stage.put("a")
    with pytest.raises(InvalidArgument) as caught:
        await stage.ask("schedule.pause", id="a", **body)
    assert caught.value.field == field
    assert await stage.schedules.last_revision() == 1


async def test_pause_of_what_is_not_there_or_not_json(stage: Stage) -> None:
    """NotFound, and InvalidArgument for a value that cannot be edited."""
    with pytest.raises(NotFound):
        await stage.ask("schedule.pause", id="a")
    stage.schedules.put_raw("a", b"\xff")
    with pytest.raises(InvalidArgument, match="put a valid schedule first"):
        await stage.ask("schedule.pause", id="a")


async def test_pause_of_an_invalid_schedule_is_allowed(stage: Stage) -> None:
    """A definition that is JSON but invalid for another reason can be paused before it is repaired."""
    stage.schedules.put_raw("a", b'{"cron":"never","queue":"q","type":"t"}')
    assert (await stage.ask("schedule.pause", id="a"))["revision"] == 2
