"""Buckets and their watches under fire: servers that die, hang, lose consumers or leaders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from nats.aio.client import Client

from scheduler.core.errors import Conflict, Unavailable
from scheduler.jetstream import buckets as buckets_module
from scheduler.jetstream.buckets import NatsBucket
from scheduler.jetstream.provisioning import provision
from scheduler.jetstream.requests import Requests
from scheduler.ports.stores import Write
from scheduler.system.clock import SystemClock
from scheduler.wire.names import Names
from tests.contracts.bucket_stages import Delivered
from tests.nats_servers import Cluster, Server, connected

NAMES = Names()
STREAM = "KV_schedd-schedules"


async def _bucket(requests: Requests) -> NatsBucket:
    await provision(requests, NAMES)
    return NatsBucket(requests, NAMES.schedules)


async def _until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def _put(bucket: NatsBucket, key: str) -> int:
    """Repeat until it is written."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await bucket.put(key, b"1")
            except Unavailable:
                await asyncio.sleep(0.1)


async def _watchers(requests: Requests) -> list[str]:
    names = (await requests.api(f"CONSUMER.NAMES.{STREAM}"))["consumers"] or []
    return [name for name in names if name.startswith(("watch-", "read-"))]


async def test_a_server_killed_and_started_again(nats_server: Server, requests: Requests) -> None:
    """After kill -9 and restart the watch goes on by itself, misses nothing, and leaves no consumer behind."""
    bucket = await _bucket(requests)
    delivered = Delivered()
    watch = bucket.watch(0, delivered)
    written = [await _put(bucket, f"before{number}") for number in range(3)]
    await _until(lambda: delivered.revisions == written)
    for turn in range(2):
        await nats_server.kill()
        await nats_server.start()
        written += [await _put(bucket, f"after{turn}.{number}") for number in range(3)]
        await _until(lambda newest=written[-1]: newest in delivered.revisions)
    assert delivered.revisions[-1] == written[-1]
    assert set(written) <= set(delivered.revisions)
    assert delivered.revisions == sorted(set(delivered.revisions))
    assert len(await _watchers(requests)) == 1
    await watch.stop()
    assert await _watchers(requests) == []


async def test_a_consumer_deleted_under_it(requests: Requests, nats_client: Client) -> None:
    """When its consumer vanishes without a word, the watch notices by the silence and starts again."""
    bucket = await _bucket(requests)
    delivered = Delivered()
    watch = bucket.watch(0, delivered)
    first = await bucket.put("a", b"1")
    await _until(lambda: delivered.revisions == [first])
    (name,) = await _watchers(requests)
    await nats_client.jetstream().delete_consumer(STREAM, name)
    second = await bucket.put("b", b"1")
    await _until(lambda: delivered.revisions == [first, second])
    await watch.stop()


async def test_a_bucket_that_is_not_there_yet(requests: Requests) -> None:
    """A watch on a missing bucket waits for it; reads and writes say that it is not there."""
    bucket = NatsBucket(requests, NAMES.schedules)
    delivered = Delivered()
    watch = bucket.watch(0, delivered)
    for attempt in (bucket.get("a"), bucket.put("a", b"1"), bucket.last_revision(), bucket.keys(), bucket.expire(1)):
        with pytest.raises(Unavailable):
            await attempt
    await provision(requests, NAMES)
    revision = await bucket.put("a", b"1")
    await _until(lambda: delivered.revisions == [revision])
    await watch.stop()


async def test_lost_messages_are_fetched_again(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    """When messages get lost on the way to us, the watch sees the gap and nothing is missing in the end."""
    bucket = await _bucket(requests)
    delivered = Delivered()
    watch = bucket.watch(0, delivered)
    first = await bucket.put("a", b"1")
    await _until(lambda: delivered.revisions == [first])
    original = type(requests.client)._build_message
    lost: list[bytes] = []

    def lossy(client: Client, sid: int, subject: bytes, *more: object) -> object:
        if subject.startswith(b"$KV.") and not lost:
            lost.append(subject)
            return None
        return original(client, sid, subject, *more)

    monkeypatch.setattr(type(requests.client), "_build_message", lossy)
    written = [await bucket.put(f"k{number}", b"1") for number in range(3)]
    await _until(lambda: delivered.revisions == [first, *written])
    assert lost
    await watch.stop()


async def test_a_receiver_that_fails(requests: Requests, caplog: pytest.LogCaptureFixture) -> None:
    """A bug in the receiver is logged, and what it did not take is delivered again."""
    bucket = await _bucket(requests)
    delivered = Delivered()
    failures = [True]

    def deliver(entries: object) -> None:
        if failures.pop() if failures else False:
            raise ZeroDivisionError
        delivered(entries)  # type: ignore[arg-type]

    watch = bucket.watch(0, deliver)
    revision = await bucket.put("a", b"1")
    await _until(lambda: delivered.revisions == [revision])
    assert any(record.__dict__.get("event") == "watch_failed" for record in caplog.records)
    await watch.stop()


async def test_stop_while_the_server_is_away(nats_server: Server, requests: Requests) -> None:
    """Stopping a watch is quick and clean when there is nobody to tell."""
    bucket = await _bucket(requests)
    watch = bucket.watch(0, Delivered())
    await _put(bucket, "a")
    await nats_server.kill()
    began = time.monotonic()
    await watch.stop()
    assert time.monotonic() - began < 3


async def test_a_hanging_server(nats_server: Server) -> None:
    """While the server hangs, every call ends in time as Unavailable; afterwards everything goes on."""
    async with connected(nats_server.url, timeout_s=0.5) as requests:
        bucket = await _bucket(requests)
        revision = await bucket.put("a", b"1")
        nats_server.pause()
        began = time.monotonic()
        for attempt in (
            bucket.get("a"),
            bucket.changes_since(0),
            bucket.keys(),
            bucket.put("a", b"2", expect=revision),
        ):
            with pytest.raises(Unavailable):
                await attempt
        assert time.monotonic() - began < 5
        nats_server.resume()
        entry = await bucket.get("a")
        assert entry is not None
        assert entry.value == b"2"  # it was unknown, not failed: it landed


async def test_a_hundred_thousand_keys(requests: Requests) -> None:
    """The first load of a large bucket is complete and takes seconds, not minutes; so does listing its keys."""
    bucket = await _bucket(requests)
    count = 100_500
    results = await bucket.put_many([Write(f"k.{number}", b'{"every": "1m"}') for number in range(count)])
    assert all(isinstance(result, int) for result in results)
    began = time.monotonic()
    changes = await bucket.changes_since(0)
    assert [entry.revision for entry in changes] == results
    keys = await bucket.keys()
    assert len(keys) == len(set(keys)) == count
    assert time.monotonic() - began < 30
    assert await _watchers(requests) == []


async def test_a_page_of_keys_that_moved(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that vanish between two pages hide no other key."""
    bucket = await _bucket(requests)
    total, page = 250, 100
    names = [f"$KV.{NAMES.schedules}.k{number:04}" for number in range(total)]
    monkeypatch.setattr(buckets_module, "PAGE_OVERLAP", 10)

    async def info(request: dict[str, int] | None = None) -> buckets_module._Info:
        assert request is not None
        offset = request["offset"]
        if offset:
            del names[:5]  # five keys of the first page are gone
        shown = dict.fromkeys(names[offset : offset + page], 1)
        return buckets_module._Info(state=buckets_module._State(subjects=shown), total=len(names), limit=page)

    monkeypatch.setattr(bucket, "_info", info)
    found = await bucket.keys()
    assert {f"k{number:04}" for number in range(10, total)} <= set(found)


async def test_the_clock_is_told_the_time(requests: Requests) -> None:
    """Asking for the newest revision tells the clock the server's time as well."""
    await _bucket(requests)
    clock = SystemClock(wall_s=lambda: 1_000_000_000.0)
    bucket = NatsBucket(requests, NAMES.schedules, clock=clock)
    await bucket.last_revision()
    assert clock.offset_s() > 700_000_000


@pytest.mark.cluster
async def test_the_leader_of_the_bucket_dies(cluster: Cluster) -> None:
    """When the stream's leader is killed, writes and the watch go on after the election, without loss or repetition."""
    async with connected(cluster.urls) as requests:
        await provision(requests, NAMES, replicas=3)
        bucket = NatsBucket(requests, NAMES.schedules)
        delivered = Delivered()
        watch = bucket.watch(0, delivered)
        await _put(bucket, "first")
        for turn in range(2):
            leader = await cluster.leader_of(STREAM)
            await cluster.kill(leader)
            await _put(bucket, f"after{turn}")
            await cluster.start(leader)
        newest = await bucket.last_revision()
        await _until(lambda: newest in delivered.revisions, 30)
        assert delivered.revisions == sorted(set(delivered.revisions))
        assert {"first", "after0", "after1"} <= {entry.key for entry in delivered.entries}
        assert {entry.key for entry in await bucket.changes_since(0)} >= {"first", "after0", "after1"}
        await watch.stop()


@pytest.mark.cluster
async def test_writers_that_collide(cluster: Cluster) -> None:
    """On three replicas, of twenty that write the same revision at once one wins and the rest conflict."""
    async with connected(cluster.urls, timeout_s=5.0) as requests:
        await provision(requests, NAMES, replicas=3)
        bucket = NatsBucket(requests, NAMES.schedules)
        revision = await bucket.put("a", b"0")
        tries = [bucket.put("a", b"%d" % number, expect=revision) for number in range(20)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, int) for result in results) == 1
        assert all(isinstance(result, int | Conflict) for result in results), results


@pytest.mark.cluster
async def test_without_a_majority(cluster: Cluster) -> None:
    """Without a majority nothing is written, and every call says so in time; with it, everything goes on."""
    async with connected(cluster.urls, timeout_s=1.0) as requests:
        await provision(requests, NAMES, replicas=3)
        bucket = NatsBucket(requests, NAMES.schedules)
        await _put(bucket, "a")
        for name in ("n1", "n2"):
            await cluster.kill(name)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await bucket.put("b", b"1", expect=0)
        assert time.monotonic() - began < 45
        await cluster.start("n1")
        await _put(bucket, "c")
