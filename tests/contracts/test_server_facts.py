"""Facts about the server that the mechanisms rest on, marked (m) in mechanisms.md, and no port says by itself.

A release of the server that changes one is seen here first; the twin has the same facts.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from nats.errors import Error

from scheduler.core.errors import Fenced
from scheduler.jetstream.buckets import NatsBucket
from scheduler.ports.queues import Pair, Queued
from scheduler.ports.timeline import Due, Office, Watermark
from scheduler.services.burying import bury
from scheduler.wire.names import Names
from tests.contracts.bucket_stages import NatsBucketStage
from tests.contracts.nats_stage import NatsStage
from tests.contracts.stages import Stage, collected, nothing_more, occurrence
from tests.nats_servers import Server, connected

TAIL = "20261121T080000000Z"


def later(stage: Stage, seconds: float) -> datetime:
    return stage.now() + timedelta(seconds=seconds)


async def office_of(stage: Stage) -> Office:
    return await stage.timeline.take_office(
        holder="a", lease_rev=1, at=stage.now(), expect_epoch=0, watermark=Watermark(stage.now()), expect_watermark=0
    )


def pair(name: str) -> Pair:
    return Pair(f"{name}.{TAIL}", 0, "Q", b"1", {}, 60)


async def test_nothing_fires_before_its_instant(stage: Stage) -> None:
    """Two hundred instants at odd milliseconds, some within the server's floor: each comes out at its own or later, and
    once."""
    office = await office_of(stage)
    arms = [occurrence(f"s{number}", later(stage, 0.013 * number)) for number in range(200)]
    await stage.timeline.commit(office, arms=arms, disarms=[], watermark=office.watermark)
    found = await collected(stage, stage.timeline.pull_due, 200)
    dues = {each.schedule_id: each for each in found if isinstance(each, Due)}
    assert len(dues) == len(found) == 200
    early = [name for name, each in dues.items() if each.at < each.fire_at]
    assert early == []


async def test_a_disarm_leaves_nothing_behind(stage: Stage) -> None:
    """A roll-up with a TTL in place of the arm: it does not fire, its marker goes by itself, and another subject's arm
    in the same batch stands."""
    office = await office_of(stage)
    gone, stays = occurrence("x", later(stage, 1.2)), occurrence("y", later(stage, 1.2))
    office = await stage.timeline.commit(office, arms=[gone, stays], disarms=[], watermark=office.watermark)
    disarms = [("x", gone.nominal_at)]
    await stage.timeline.commit(office, arms=[], disarms=disarms, watermark=office.watermark)
    (due,) = await collected(stage, stage.timeline.pull_due, 2)
    assert isinstance(due, Due)
    assert due.schedule_id == "y"
    await stage.sleep(1.5)
    assert await stage.timeline.all_armed() == {}
    assert await stage.timeline.armed_for("x", gone.nominal_at) is None


async def test_armed_again_after_it_has_fired_it_fires_again(stage: Stage) -> None:
    """The server keeps no memory of a fire: who arms twice gets two due messages, so the claim decides."""
    office = await office_of(stage)
    arm = occurrence("x", later(stage, -1))
    for _ in range(2):
        office = await stage.timeline.commit(office, arms=[arm], disarms=[], watermark=office.watermark)
        (due,) = await collected(stage, stage.timeline.pull_due, 1)
        assert isinstance(due, Due)
        await stage.timeline.ack([due.ack])
    assert await nothing_more(stage, stage.timeline.pull_due, 0.4)


async def test_a_batch_is_refused_as_a_whole(stage: Stage) -> None:
    """Hundreds of arms and disarms, and only the watermark that closes them is stale: none of them is there, and what
    they wanted to disarm fires."""
    office = await office_of(stage)
    stays = occurrence("stays", later(stage, 0.8))
    newer = await stage.timeline.commit(office, arms=[stays], disarms=[], watermark=office.watermark)
    arms = [occurrence(f"s{number}", later(stage, 60)) for number in range(400)]
    with pytest.raises(Fenced):
        await stage.timeline.commit(
            office, arms=arms, disarms=[("stays", stays.nominal_at)], watermark=Watermark(later(stage, 60))
        )
    assert await stage.timeline.all_armed() == {"stays": [stays.nominal_at]}
    stored = await stage.timeline.watermark()
    assert stored is not None
    assert stored.seq == newer.watermark_seq
    (due,) = await collected(stage, stage.timeline.pull_due, 2)
    assert isinstance(due, Due)
    assert due.schedule_id == "stays"


async def test_claim_and_task_are_neighbours_among_many_writers(stage: Stage) -> None:
    """However many publish at once, between a claim and its task nothing else is stored: its sequence is one more."""
    await stage.queues.ensure("Q")
    calls = [stage.queues.publish([pair(f"s{each}-{number}") for number in range(7)]) for each in range(40)]
    results = [each for call in await asyncio.gather(*calls) for each in call]
    seqs = [each.task_seq for each in results if isinstance(each, Queued)]
    assert len(set(seqs)) == 280
    claims = await stage.queues.claim_at([seq - 1 for seq in seqs])
    names = [f"s{each}-{number}.{TAIL}" for each in range(40) for number in range(7)]
    assert [None if each is None else each.execution_id for each in claims] == names


async def test_a_consumer_made_anew_counts_deliveries_from_one(stage: Stage) -> None:
    """Delivered three times, then its consumer is deleted and made again: the next delivery says that it is the first,
    so a delivery is no attempt."""
    await stage.queues.ensure("Q")
    (queued,) = await stage.queues.publish([pair("x")])
    assert isinstance(queued, Queued)
    worker = await stage.worker("Q")
    for count in (1, 2, 3):
        (task,) = await collected(stage, worker.pull, 1)
        assert task.delivered == count
        await worker.nak(task.token, 0.0)
    assert await stage.queues.drop("Q")
    await stage.queues.ensure("Q")
    (again,) = await collected(stage, (await stage.worker("Q")).pull, 1)
    assert (again.seq, again.delivered) == (queued.task_seq, 1)


async def test_a_fire_that_was_refused_is_stuck_until_it_is_armed_again(tmp_path: Path) -> None:
    """No room at the due instant: the fire is refused, and not tried again once there is room, while the arm is still
    listed; armed again it comes out. That is what the reconciler looks for. The twin's: tests/unit/simulation."""
    config = f'jetstream {{ store_dir: "{tmp_path / "store"}", max_file_store: 8MB }}'
    server = Server(tmp_path / "nats", config=config, jetstream=False)
    await server.start()
    async with connected(server.url) as requests:
        stage = NatsStage(requests.client, Names("full"))
        await stage.open()
        office, arm = await office_of(stage), occurrence("x", later(stage, 3.0))
        office = await stage.timeline.commit(office, arms=[arm], disarms=[], watermark=office.watermark)
        await _fill(stage)
        assert stage.now() < arm.fire_at
        await stage.sleep(4.0)
        await stage.client.jetstream().delete_stream("FOREIGN")
        assert await nothing_more(stage, stage.timeline.pull_due, 2.0)
        assert await stage.timeline.all_armed() == {"x": [arm.nominal_at]}
        await stage.timeline.commit(office, arms=[arm], disarms=[], watermark=office.watermark)
        (due,) = await collected(stage, stage.timeline.pull_due, 1)
        assert isinstance(due, Due)
        assert due.schedule_id == "x"
        await stage.close()
    await server.kill()


async def _fill(stage: NatsStage) -> None:
    """Somebody else uses up what the server may store, to the last bytes."""
    stream = stage.client.jetstream()
    await stream.add_stream(name="FOREIGN", subjects=["foreign"])
    for size in (500_000, 20_000, 500, 1):
        with contextlib.suppress(Error):
            while True:
                await stream.publish("foreign", bytes(size))


async def test_a_killed_server_brings_back_what_a_removed_entry_had_replaced(tmp_path: Path) -> None:
    """kill -9: where the newest entry of a key was removed, there is the older one again, without anything that would
    end it, also after a clean stop in between. Of what was buried only a marker is there; of what nothing had been
    replaced by, nothing."""
    server = Server(tmp_path / "nats")
    await server.start()
    try:
        async with connected(server.url) as requests:
            stage = NatsBucketStage(requests, Names())
            await stage.open()
            bucket = stage.bucket
            for key in ("stays", "removed", "expired", "buried"):
                await bucket.put(key, b"1")
            await bucket.expire(await bucket.delete("removed"))
            await bucket.put("expired", b"2", ttl_s=1)
            await bucket.put("alone", b"2", ttl_s=1)
            await bucket.delete("buried")
            (marker,) = await bucket.get_many(["buried"])
            assert marker is not None
            await bury(bucket, marker)
            await stage.sleep(2.0)
            assert await bucket.keys() == ["stays"]
        await server.stop()
        await server.start()
        async with connected(server.url) as requests:
            assert await NatsBucket(requests, Names().executions).keys() == ["stays"]
            await NatsBucket(requests, Names().executions).put("another", b"1")  # else its state file would be good
        await server.kill()
        await server.start()
        async with connected(server.url) as requests:
            bucket = NatsBucket(requests, Names().executions)
            found = {entry.key: (entry.value, entry.deleted) for entry in await bucket.changes_since(0)}
            back = {key: found[key] for key in ("removed", "expired", "buried") if key in found}
            assert back == {"removed": (b"1", False), "expired": (b"1", False), "buried": (b"", True)}
            assert found.keys() == {"stays", "another", *back}
    finally:
        await server.kill()
