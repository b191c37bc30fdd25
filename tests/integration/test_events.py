"""Events: each kind for every way of change, and who watches them misses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest

from scheduler.client import Client, Event, Watch, events
from scheduler.core.errors import InvalidArgument, PermissionDenied, Unavailable
from scheduler.jetstream.event_feed import NatsEventFeed
from scheduler.jetstream.provisioning import provision
from scheduler.jetstream.requests import Message, Requests
from scheduler.testing import LocalSchedd
from scheduler.wire.event_data import EVENT_DATA, Admin, Finished, Paused
from scheduler.wire.events import encode_event
from scheduler.wire.names import Names
from tests.acceptance.processes import clean_environment
from tests.nats_servers import Server, connected

ROOT = Path(__file__).parents[2]
NAMES = Names()
MANUAL = {"manual": True, "queue": "Q", "type": "t"}
AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.fixture
async def local() -> AsyncIterator[LocalSchedd]:
    async with LocalSchedd() as local:
        yield local


@pytest.fixture
async def client(local: LocalSchedd) -> AsyncIterator[Client]:
    async with Client.connect(local.nats_url, name="ann") as client:
        yield client


async def collected(watch: AsyncIterator[Event], until: Any, within_s: float = 10.0) -> list[Event]:
    """What comes until one fits."""
    found: list[Event] = []
    async with asyncio.timeout(within_s):
        async for event in watch:
            found.append(event)
            if until(event):
                return found
    raise AssertionError("it ended")


# --- what the daemon tells


async def test_each_change_is_told_whichever_way_it_came(local: LocalSchedd, client: Client) -> None:
    """Applied, paused, resumed, invalid, deleted: by a plain put into KV and by the API alike, with what is needed."""
    plain = await nats.connect(local.nats_url)
    bucket = await plain.jetstream().key_value("schedd-schedules")
    async with client.watch() as watch:
        for change in (MANUAL, {**MANUAL, "paused": True, "pause_note": "n"}, MANUAL, {"evry": "1s"}, None):
            revision = await bucket.put("kv", json.dumps(change).encode()) if change else await _deleted(bucket, "kv")
            await _applied(client, "kv", revision)
        await client.schedules.put("api", MANUAL)
        await client.schedules.pause("api", note="n")
        await client.schedules.resume("api")
        await client.schedules.delete("api")
        found = await collected(watch, lambda event: (event.kind, event.schedule) == ("deleted", "api"))
    await plain.close()
    common = ["applied", "applied", "paused", "applied", "resumed"]
    assert [event.kind for event in found if event.schedule == "kv"] == [*common, "invalid", "deleted"]
    assert [event.kind for event in found if event.schedule == "api"] == [*common, "deleted"]
    for event in found:
        assert event.details is not None, event
        assert json.loads(event.body)["type"] == f"schedd.{event.kind}"
    [told] = [event.details for event in found if (event.kind, event.schedule) == ("paused", "api")]
    assert isinstance(told, Paused)
    assert told.note == "n"
    [invalid] = [event for event in found if event.kind == "invalid"]
    assert "evry" in invalid.data["error"]
    assert [event.seq for event in found] == sorted({event.seq for event in found})


async def _deleted(bucket: Any, key: str) -> int:
    await bucket.delete(key)
    return 0


async def _applied(client: Client, schedule_id: str, revision: int) -> None:
    """Until the leader has told of it: what is overwritten before that is told of once."""
    async with asyncio.timeout(5):
        while True:
            told = [event async for event in client.events(schedule=schedule_id)]
            if told and (told[-1].data.get("generation", 0) >= revision > 0 or told[-1].kind == "deleted"):
                return
            await asyncio.sleep(0.05)


async def test_ends_and_verdicts_are_told(local: LocalSchedd, client: Client) -> None:
    """Whatever ended an execution, one event says so; what left no record is a range of verdicts."""
    plain = await nats.connect(local.nats_url)
    async with client.watch(["finished", "verdicts"]) as watch:
        await client.schedules.put("m", MANUAL)
        done = (await client.schedules.trigger("m")).execution_id
        skipped = (await client.schedules.trigger("m")).execution_id
        tasks = await plain.jetstream().pull_subscribe_bind("Q", "SCHEDD_TASKS")
        [task] = await tasks.fetch(1, timeout=5)
        await task.ack()
        assert (await client.wait(done, 10)).state == "succeeded"
        cancelled = (await client.schedules.trigger("m")).execution_id
        await client.executions.cancel(cancelled)
        old = datetime.now(UTC) - timedelta(hours=1)
        late = {"at": old.isoformat(), "catch_up": {"mode": "none"}, "queue": "Q", "type": "t"}
        await client.schedules.put("late", late)
        found = await collected(watch, lambda event: event.kind == "verdicts")
    await plain.close()
    ends = {event.details.execution_id: event.details for event in found if isinstance(event.details, Finished)}
    assert {each: (end.state, end.reason, end.queue) for each, end in ends.items()} == {
        skipped: ("skipped", "overlap", "Q"),
        done: ("succeeded", None, "Q"),
        cancelled: ("cancelled", "requested", "Q"),
    }
    assert all(end.nominal_at.endswith("Z") for end in ends.values())
    assert found[-1].schedule == "late"


async def test_who_did_what_is_told(client: Client) -> None:
    """Actions through the API are events `admin`, with the client's name and without payloads; reads are not."""
    async with client.watch(["admin"]) as watch:
        await client.schedules.put("m", {**MANUAL, "overlap": "allow"})
        done = (await client.schedules.trigger("m", payload={"secret": 1}, nonce="n1")).execution_id
        await client.executions.cancel(done, grace="1s")
        await client.calendars.put("xmas", {"dates": ["2026-12-25"]})
        await client.calendars.delete("xmas")
        await client.schedules.put("g", {"every": "1h", "queue": "Q", "type": "t"})
        start, end = AT - timedelta(hours=3), AT
        await client.schedules.backfill("g", start, end, dry_run=True)
        backfill = await client.schedules.backfill("g", start, end, dry_run=False)
        await client.backfills.cancel(backfill.backfill_id)
        await client.status()
        found = await collected(watch, lambda event: event.data["action"] == "backfill.cancel")
    told = [(event.schedule, event.details) for event in found]
    assert [(schedule, each.action, each.target, each.by) for schedule, each in told if isinstance(each, Admin)] == [
        ("m", "schedule.trigger", "m", "ann"),
        ("m", "execution.cancel", done, "ann"),
        (None, "calendar.put", "xmas", "ann"),
        (None, "calendar.delete", "xmas", "ann"),
        ("g", "schedule.backfill", "g", "ann"),
        ("g", "backfill.cancel", backfill.backfill_id, "ann"),
    ]
    assert found[0].data["request"] == {"nonce": "n1"}
    assert found[0].data["result"] == {"execution_id": done, "state": "queued"}
    assert found[1].data["request"] == {"grace": "1s"}
    assert b"secret" not in b"".join(event.body for event in found)


# --- watching


async def publish(requests: Requests, first: int, count: int, schedule: str = "a.b", kind: str = "finished") -> None:
    for number in range(first, first + count):
        data = {"n": number, "execution_id": "x", "state": "succeeded"}
        body = encode_event(NAMES, event_id=f"{number}", kind=kind, schedule_id=schedule, at=AT, data=data)
        await requests.publish(Message(NAMES.event(kind, schedule), body))


async def numbers(watch: AsyncIterator[Event], count: int, within_s: float = 20.0) -> list[int]:
    async with asyncio.timeout(within_s):
        return [(await anext(watch)).data["n"] for _ in range(count)]


async def test_places(requests: Requests, nats_server: Server) -> None:
    """From now, from a sequence, from an instant, from the oldest; by kind and by schedule; the past ends by itself."""
    await provision(requests, NAMES)
    await publish(requests, 0, 3)
    await requests.publish(Message(NAMES.event("finished", "a.b"), b"no event at all"))
    await publish(requests, 3, 1, "a", "paused")
    await asyncio.sleep(0.05)
    middle = datetime.now(UTC)
    await asyncio.sleep(0.05)
    await publish(requests, 4, 3)
    async with Client.connect(nats_server.url) as client:
        assert [event.data["n"] async for event in client.events()] == list(range(7))
        assert [event.data["n"] async for event in client.events(schedule="a")] == [3]
        assert [event.data["n"] async for event in client.events("finished", since=middle)] == [4, 5, 6]
        assert [event.data["n"] async for event in client.events(["paused", "applied"])] == [3]
        assert [event async for event in client.events(schedule="nobody")] == []
        assert [event async for event in client.events(since=datetime.now(UTC) + timedelta(days=1))] == []
        seen = [event async for event in client.events(["finished"])]
        assert [event.data["n"] async for event in client.events(since=seen[2].seq)] == [3, 4, 5, 6]
        async with client.watch() as watch, client.watch(since=seen[-1].seq) as other:
            await publish(requests, 7, 2)
            assert await numbers(watch, 2) == [7, 8]
            assert await numbers(other, 2) == [7, 8]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watch), 0.1)
            await publish(requests, 9, 1)
            assert await numbers(watch, 1) == [9]
        for wrong in ({"kinds": ["finshed"]}, {"kinds": []}, {"schedule": "a b"}, {"since": "yesterday"}):
            with pytest.raises(InvalidArgument):
                client.watch(**wrong)  # type: ignore[arg-type]


async def test_nothing_is_missed(requests: Requests, nats_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer deleted under it, the server killed and stopped: each event once, in order."""
    monkeypatch.setattr(events, "LOOK_S", 0.5)
    await provision(requests, NAMES)
    async with Client.connect(nats_server.url) as client, client.watch() as watch:
        await publish(requests, 0, 300)
        assert await numbers(watch, 100) == list(range(100))
        stream = f"$JS.API.CONSUMER.NAMES.{NAMES.events}"
        names = json.loads((await requests.client.request(stream, b"{}")).data)["consumers"]
        [consumer] = [name for name in names if name.startswith("feed-")]
        await requests.api(f"CONSUMER.DELETE.{NAMES.events}.{consumer}")
        await publish(requests, 300, 10)
        assert await numbers(watch, 210) == list(range(100, 310))
        await nats_server.kill()
        await asyncio.sleep(0.2)
        await nats_server.start()
        async with connected(nats_server.url) as others:
            await publish(others, 310, 10)
        assert await numbers(watch, 10) == list(range(310, 320))
        nats_server.pause()
        await asyncio.sleep(1.5)
        nats_server.resume()
        async with connected(nats_server.url) as others:
            await publish(others, 320, 10)
        assert await numbers(watch, 10) == list(range(320, 330))


async def test_a_feed_that_nobody_read_for_long(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has removed its consumer by then: the next read makes another, and fails nobody over it."""
    monkeypatch.setattr("scheduler.jetstream.event_feed.FORGET_S", 1.0)
    await provision(requests, NAMES)
    feed = NatsEventFeed(requests, NAMES)
    await publish(requests, 0, 1)
    page = await feed.read(0, ("finished",), most=9, wait_s=0.4)
    async with asyncio.timeout(10):
        while (await requests.api(f"STREAM.INFO.{NAMES.events}"))["state"]["consumer_count"]:
            await asyncio.sleep(0.1)
    await publish(requests, 1, 1)
    page = await feed.read(page.items[-1].seq, ("finished",), most=9, wait_s=0.4)
    assert [told.event.data["n"] for told in page.items if told.event] == [1]
    await feed.close()


async def test_listeners(requests: Requests, nats_server: Server) -> None:
    """Each function gets its events in order, one at a time; one that fails, or is slow, harms nobody."""
    await provision(requests, NAMES)
    heard: list[tuple[str, int]] = []
    over = asyncio.Event()
    async with Client.connect(nats_server.url) as client:

        @client.on("finished", schedule="a.b")
        async def quick(event: Event) -> None:
            heard.append(("quick", event.data["n"]))
            if event.data["n"] == 9:
                over.set()

        @client.on()
        def all_of_them(event: Event) -> None:
            heard.append(("all", event.data["n"]))
            raise ValueError("a bug of the listener")

        @client.on("finished", "paused")
        async def slow(event: Event) -> None:
            heard.append(("slow", event.data["n"]))
            await asyncio.sleep(3600)

        with pytest.raises(InvalidArgument):
            client.on("finshed")
        await client.listening()
        await publish(requests, 0, 5)
        await publish(requests, 5, 1, "other", "paused")
        await publish(requests, 6, 4)
        async with asyncio.timeout(5):
            await over.wait()
            while len(heard) < 20:
                await asyncio.sleep(0.01)
    assert [number for who, number in heard if who == "quick"] == [*range(5), *range(6, 10)]
    assert [number for who, number in heard if who == "all"] == list(range(10))
    assert [number for who, number in heard if who == "slow"] == [0]


async def test_who_may_not_read_is_told(nats_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without the permission gets an error that says so, not silence."""
    monkeypatch.setattr(events, "Requests", partial(Requests, timeout_s=0.3))
    await nats_server.stop()
    nats_server.configure(
        "authorization { users = [ { user: a, password: b, permissions: "
        '{ publish: "schedd.api.>", subscribe: "_INBOX.>" } } ] }'
    )
    await nats_server.start()
    url = nats_server.url.replace("//", "//a:b@")
    async with Client.connect(url) as client:

        @client.on("finished")
        def listener(event: Event) -> None: ...

        with pytest.raises(PermissionDenied, match=r"(?i)permissions violation"):
            await client.listening()


def short(watch: Watch) -> Watch:
    watch._open_s = 0.3
    return watch


async def test_without_schedd(nats_server: Server) -> None:
    """Where there are no events, reading fails soon and says why; a listener waits for them."""
    heard: list[int] = []
    async with Client.connect(nats_server.url) as client, connected(nats_server.url) as requests:
        for watch in (short(client.watch()), short(client.events())):
            with pytest.raises(Unavailable, match="provisioned"):
                await anext(watch)

        @client.on("finished")
        def listener(event: Event) -> None:
            heard.append(event.data["n"])

        await provision(requests, NAMES)
        await asyncio.wait_for(client.listening(), 5)
        await publish(requests, 0, 1)
        async with asyncio.timeout(5):
            while heard != [0]:
                await asyncio.sleep(0.01)
        await client.connection.close()
        with pytest.raises(Unavailable):
            await client.watch().open()


async def test_the_command(local: LocalSchedd, client: Client) -> None:
    """`schedctl events`, `-f`, `--json`: people get a line each, scripts the CloudEvents; Ctrl-C ends it with 130."""
    await client.schedules.put("m", MANUAL)
    process = await schedctl(local, "events", "-f", "--kind", "deleted", "--kind", "paused", "--json", "--since", "1m")
    assert process.stdout is not None
    await client.schedules.pause("m", note="by hand")
    async with asyncio.timeout(20):
        assert json.loads(await process.stdout.readline())["type"] == "schedd.paused"
        await client.schedules.delete("m")
        assert json.loads(await process.stdout.readline())["subject"] == "m"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    process = await schedctl(local, "events", "--schedule", "m")
    out, _ = await process.communicate()
    kinds = [line.split()[2] for line in out.decode().splitlines()]
    assert kinds == ["applied", "applied", "paused", "deleted"]
    assert b"\x1b" not in out
    process = await schedctl(local, "events", "--kind", "verdicts", "--since", "5m")
    out, err = await process.communicate()
    assert (process.returncode, out, b"No events since" in err) == (0, b"", True)
    process = await schedctl(local, "events", "--kind", "nope")
    assert (await process.communicate())[0] == b""
    assert process.returncode == 2


async def schedctl(local: LocalSchedd, *words: str) -> asyncio.subprocess.Process:
    env = {**clean_environment(), "NATS_URL": local.nats_url, "COLUMNS": "140"}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.schedctl", *words, cwd=ROOT, env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def test_every_kind_has_its_shape() -> None:
    """Who listens to a kind finds a struct for it."""
    assert set(EVENT_DATA) >= {"applied", "invalid", "deleted", "paused", "resumed", "verdicts", "finished", "admin"}
