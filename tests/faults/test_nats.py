"""NATS away, back, half there or not as it should be."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.wire.instants import format_instant
from tests.acceptance.harness import EXECUTIONS, SCHEDULES, Site, eventually, utc_now
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import PlainWorker, Replica
from tests.nats_servers import Server, free_ports


@pytest.mark.parametrize("down_s", [2.0, pytest.param(12.0, marks=pytest.mark.slow)])
async def test_nats_killed_and_restarted_loses_and_doubles_nothing(
    site: Site, server: Server, dice: random.Random, down_s: float
) -> None:
    """kill -9 of the only server while schedules run: what was due meanwhile fires late, once; replicas stay alive."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="10s")
    worker = site.worker("herd")
    puts = await put_many(site, 40)
    await asyncio.sleep(dice.uniform(3, 5))
    await server.kill()
    await asyncio.sleep(down_s)
    await server.start()
    await asyncio.sleep(8)
    await site.verify(expected_of(puts), [worker], late_max_s=down_s + 15, within_s=45)
    assert all(replica.exit_code is None for replica in replicas)
    assert (await replicas[0].http("/readyz"))[0] == 200


async def test_a_deleted_schedule_stays_deleted_when_nats_is_killed_long_after(site: Site, server: Server) -> None:
    """Its marker has been removed; kill -9 of NATS brings back what a removed entry had replaced: a marker again, and
    no definition. Nothing fires, to replicas that lived on as to those that start on it."""
    env = {"SCHEDD_HORIZON": "5s", "SCHEDD_MARKER_AGE": "10s", "SCHEDD_WATERMARK_COPY": "1s"}
    [replica] = await site.replicas("a", **env)
    worker = site.worker("herd")
    await site.put("stays", {"cron": "0 0 1 1 *", "queue": "herd", "type": "t"})
    await site.put("gone", {"every": "1s", "queue": "herd", "type": "t"})
    await eventually(lambda: _any_of(worker), what="a delivery")
    await site.delete("gone")

    async def is_buried() -> bool:
        return not await site.stored_count(f"KV_{SCHEDULES}", f"$KV.{SCHEDULES}.gone")

    await eventually(is_buried, within_s=40, what="the marker to be removed")
    before = len(worker.deliveries())
    await server.kill()
    await server.start()
    assert not await is_buried(), "the server brought nothing back: this proves nothing"
    assert await site.keys(SCHEDULES) == ["stays"]
    await replica.kill()
    [again] = await site.replicas("b", **env)
    assert await site.leader() is again
    await asyncio.sleep(4)
    assert await site.keys(SCHEDULES) == ["stays"]
    assert len(worker.deliveries()) == before
    await eventually(is_buried, within_s=40, what="the marker to be removed again")


@pytest.mark.parametrize("lives_on", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_what_ended_long_ago_does_not_come_back_when_nats_is_killed(
    site: Site, server: Server, lives_on: bool
) -> None:
    """Its record has expired; kill -9 of NATS brings the open one back that the terminal one had replaced. It is
    removed, and has one end and one delivery as before, whoever leads then."""
    env = {"SCHEDD_CLAIM_FLOOR": "10s", "SCHEDD_RECONCILE_EVERY": "1s", "SCHEDD_RECONCILE_GRACE": "1s"}
    [replica] = await site.replicas("a", **env)
    worker, queued = site.worker("herd"), {"queue": "herd", "type": "t"}
    site.worker("never", "never")
    soon, then = (format_instant(utc_now() + timedelta(seconds=seconds)) for seconds in (2, 3))
    await site.put("open", {"at": [soon], **queued, "queue": "never"})  # else nothing is left, and the file begins anew
    await site.put("once", {"at": [then], **queued, "retention": {"age": "5s"}})
    await eventually(lambda: _any_of(worker), what="a delivery")

    async def count() -> int:
        return await site.stored_count(f"KV_{EXECUTIONS}", f"$KV.{EXECUTIONS}.once.>")

    async def is_gone() -> bool:
        return not await count()

    await eventually(is_gone, within_s=40, what="the record to expire")
    if not lives_on:
        await replica.kill()
    await server.kill()
    await server.start()
    assert await count() == 1, "the server brought nothing back: this proves nothing"
    if not lives_on:
        [replica] = await site.replicas("b", **env)
    await eventually(is_gone, within_s=40, what="the ghost to be removed")
    await asyncio.sleep(3)
    assert await is_gone()
    assert len(await site.events("finished", "once")) == 1
    assert len(worker.deliveries()) == 1
    assert len(await site.records()) == 1, "what is open stays"
    assert replica.exit_code is None


async def _any_of(worker: PlainWorker) -> bool:
    return bool(worker.deliveries())


@pytest.mark.slow
async def test_a_flapping_server_is_survived(site: Site, server: Server, dice: random.Random) -> None:
    """Four kills in a row, each after a second or two."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="10s")
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    for _ in range(4):
        await asyncio.sleep(dice.uniform(0.5, 2))
        await server.kill()
        await server.start()
    await asyncio.sleep(8)
    await site.verify(expected_of(puts), [worker], late_max_s=30, within_s=45)
    assert all(replica.exit_code is None for replica in replicas)


@pytest.mark.slow
async def test_a_paused_server_is_survived(site: Site, server: Server) -> None:
    """SIGSTOP of NATS for longer than the lease, then SIGCONT."""
    await site.replicas("a", "b", SCHEDD_HORIZON="10s")
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    await asyncio.sleep(3)
    server.pause()
    await asyncio.sleep(8)
    server.resume()
    await asyncio.sleep(6)
    await site.verify(expected_of(puts), [worker], late_max_s=25, within_s=45)


async def test_readiness_follows_the_connection_and_health_does_not(site: Site, server: Server) -> None:
    """NATS gone: /readyz 503, /healthz 200; back: both 200."""
    [replica] = await site.replicas("a")
    assert (await replica.http("/readyz"))[0] == 200
    await server.kill()

    async def not_ready() -> bool:
        return (await replica.http("/readyz"))[0] == 503

    await eventually(not_ready, what="/readyz to say 503")
    assert (await replica.http("/healthz"))[0] == 200
    await server.start()

    async def ready() -> bool:
        return (await replica.http("/readyz"))[0] == 200

    await eventually(ready, within_s=20, what="/readyz to say 200")


class WithoutJetStream(Server):
    """A server whose operator forgot JetStream."""

    def configure(self, more: str) -> None:
        self._config.write_text(f'listen: "127.0.0.1:{self.port}"\nhttp: "127.0.0.1:{self._monitor}"\n{more}\n')


async def refused(folder: Path, url: str, **env: str) -> str:
    """A replica that cannot start: exit code 5 and one sentence; that sentence."""
    replica = Replica("a", folder, {"NATS_URL": url, "SCHEDD_START_TIMEOUT": "5s", **env})
    try:
        assert await replica.ended(within_s=30) == 5, replica.log
    finally:
        await replica.kill()
    said = [line for line in replica.log.splitlines() if not line.startswith("{")]
    assert len(said) == 1, replica.log
    assert said[0].startswith("schedd: ")
    assert "Traceback" not in replica.log
    return said[0]


async def test_jetstream_off_is_one_sentence_and_exit_code_5(tmp_path: Path) -> None:
    """The sentence names JetStream."""
    server = WithoutJetStream(tmp_path / "nats")
    await server.start()
    try:
        assert "JetStream" in await refused(tmp_path, server.url)
    finally:
        await server.kill()


async def test_no_nats_is_one_sentence_and_exit_code_5(tmp_path: Path) -> None:
    """The sentence names the address that nobody listens on."""
    [port] = free_ports(1)
    assert str(port) in await refused(tmp_path, f"nats://127.0.0.1:{port}")


async def test_three_replicas_on_a_single_server_is_one_sentence(server: Server, tmp_path: Path) -> None:
    """Asking one server for three stream replicas is a usage error that says what to do."""
    replica = Replica("a", tmp_path, {"NATS_URL": server.url, "SCHEDD_STREAM_REPLICAS": "3"})
    try:
        assert await replica.ended(within_s=30) == 2, replica.log
    finally:
        await replica.kill()
    assert "--stream-replicas" in replica.log
    assert "Traceback" not in replica.log


async def test_an_older_replica_refuses_newer_data(site: Site, tmp_path: Path) -> None:
    """What a newer release has migrated, this one does not touch: one sentence, exit code 5."""
    await site.replicas("new")
    await site.js.publish("$KV.schedd-control.schema", b'{"schema":2,"tzdata":"2026f"}')
    assert "what is stored has schema 2, this replica knows 1: upgrade it" in await refused(tmp_path, site.url)


async def test_lost_streams_are_made_again(site: Site) -> None:
    """Somebody deletes the timeline and a queue's consumer while schedules run: both come back, nothing is missing."""
    await site.replicas("a", "b", SCHEDD_HORIZON="6s")
    worker = site.worker("herd")
    puts = await put_many(site, 5)
    await asyncio.sleep(3)
    await site.api("CONSUMER.DELETE.SCHEDD_TASKS.herd")
    await site.api("STREAM.DELETE.SCHEDD_TIMELINE")
    before = len(worker.deliveries())

    async def goes_on() -> bool:
        return len(worker.deliveries()) > before + 20

    await eventually(goes_on, within_s=40, what="schedules going on")
    await site.verify(expected_of(puts), [worker], late_max_s=40)
