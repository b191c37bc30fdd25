"""A flipped bit in a block file of a nats-server (issue 6: F13)."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.acceptance.harness import Site
from tests.acceptance.herd import expected_of, put_many
from tests.nats_servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def flip(folder: Path, stream: str, dice: random.Random) -> int:
    """One bit in the newest half of the newest block of a stream; where it was."""
    block = max(folder.rglob(f"streams/{stream}/msgs/*.blk"), key=lambda place: int(place.stem))
    data = bytearray(block.read_bytes())
    place = dice.randrange(len(data) // 2, len(data))
    data[place] ^= 1 << dice.randrange(8)
    block.write_bytes(data)
    return place


@pytest.mark.parametrize("stream", ["SCHEDD_TIMELINE", "SCHEDD_TASKS", "KV_schedd-executions", "KV_schedd-status"])
async def test_a_flipped_bit_on_the_only_node_stops_nothing(
    site: Site, server: Server, tmp_path: Path, dice: random.Random, stream: str
) -> None:
    """What the server throws away with the block may be lost, what comes after it is not: schedules go on."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="20s")
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    await asyncio.sleep(6)
    await server.kill()
    print(f"{stream}: bit flipped at {flip(tmp_path, stream, dice)}")
    await server.start()
    await asyncio.sleep(20)
    deliveries, _ = await site.settle(expected_of(puts), [worker], within_s=30)
    missing = sorted(expected_of(puts).must.keys() - {each.id for each in deliveries})
    print(f"{len(deliveries)} delivered, {len(missing)} missing: {missing[:5]}")
    assert all(replica.exit_code is None for replica in replicas)
    assert not missing
