"""A disk with no room left: the file system of the nats-server is a small one in memory, and somebody fills it (F12).

What nats-server 2.15.1 does: each stream that meets ENOSPC stops for good, refuses at first and then answers no write
at all, and does not come back when there is room again. Somebody has to free space and restart the server.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError

from tests.acceptance.harness import Site, eventually
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import Replica
from tests.nats_servers import Server

SIZE_MB = 96
YEARLY = {"cron": "0 0 1 1 *", "queue": "q", "type": "t"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
async def server(small_disk: Path, tmp_path: Path) -> AsyncIterator[Server]:
    """It may use more than there is."""
    config = f'jetstream {{ store_dir: "{small_disk}/store", max_file_store: 1GB }}'
    found = Server(tmp_path / "nats", config=config, jetstream=False)
    await found.start()
    yield found
    await found.kill()


def fill(place: Path) -> Path:
    """Use up every byte that is free."""
    hog = place / "hog"
    with hog.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        _write_for_ever(file)
    assert os.statvfs(place).f_bfree == 0
    return hog


def _write_for_ever(file: RawIOBase) -> None:
    while True:
        file.write(bytes(4096))


async def asked(site: Site, key: str) -> dict[str, Any]:
    """The answer of schedd to a put: within its own time, whatever NATS does."""
    body = json.dumps({"id": key, "schedule": YEARLY}).encode()
    return dict(json.loads((await site.client.request("schedd.api.v1.schedule.put", body, timeout=15)).data))


async def readiness(replica: Replica) -> tuple[int, str]:
    status, body = await replica.http("/readyz")
    return status, json.loads(body)["checks"]["storage"].get("problem", "")


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_full_disk_is_told_and_survived(site: Site, server: Server, small_disk: Path) -> None:
    """While it lasts: unavailable in a sentence, not ready, healthy. Freed and restarted: what was acknowledged is
    there, by schedd or by NATS itself, and what was due meanwhile comes late, once, and adds up."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="10s")
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    await asyncio.sleep(4)
    hog = fill(small_disk)
    acknowledged, answers = set(puts), []
    for number in range(4):
        reply = await asked(site, f"asked-{number}")
        answers.append(reply)
        acknowledged |= {reply["id"]} if "code" not in reply else set()
        try:
            await site.put(f"raw-{number}", YEARLY)
            acknowledged.add(f"raw-{number}")
        except (NatsError, TimeoutError):
            pass
    assert "no space left on device" in server.log, "NATS met the end of its disk"
    assert answers[-1]["code"] == "unavailable", answers
    assert answers[-1]["message"]

    async def nobody_ready() -> bool:
        return {status for status, _ in [await readiness(each) for each in replicas]} == {503}

    await eventually(nobody_ready, within_s=40, what="/readyz to say 503")
    problems = [(await readiness(each))[1] for each in replicas]
    assert all("NATS stores nothing" in problem for problem in problems), problems
    assert {(await each.http("/healthz"))[0] for each in replicas} == {200}
    hog.unlink()
    await asyncio.sleep(5)
    freed = await asked(site, "freed")
    print(f"freed, without a restart: {freed.get('message', 'works again')}")
    await server.stop()
    await server.start()

    async def all_ready() -> bool:
        return {status for status, _ in [await readiness(each) for each in replicas]} == {200}

    await eventually(all_ready, within_s=30, what="/readyz to say 200")
    assert acknowledged <= set(await site.keys("schedd-schedules")), "an acknowledgement lied"
    await asyncio.sleep(10)
    await site.verify(expected_of(puts), [worker], late_max_s=150, within_s=60)
    audits = [
        await site.request("schedule.audit", {"id": id_, "since": put.at.isoformat()}) for id_, put in puts.items()
    ]
    assert sum(audit["unexplained"] for audit in audits) == 0
    assert all(replica.exit_code is None for replica in replicas)
