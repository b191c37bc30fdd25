"""`schedctl worker run`: somebody's module serves a queue of a whole schedd."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from scheduler.client import Client
from scheduler.testing import LocalSchedd

ROOT = Path(__file__).parents[2]
MODULE = """
from scheduler.worker import Worker

worker = Worker("default")
number = 5

@worker.task("double")
def double(payload):
    return {"doubled": 2 * payload["n"]}
"""


async def start(*arguments: str, cwd: Path) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "SCHEDD_"))}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.schedctl", *arguments, cwd=cwd, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env={**clean, "PYTHONPATH": str(ROOT), "NATS_URL": "nats://127.0.0.1:1"},
    )  # fmt: skip


async def test_a_module_of_the_working_directory_serves(tmp_path: Path) -> None:
    """The functions of `module:name` carry out tasks; --nats beats the environment; SIGTERM ends it with 0."""
    (tmp_path / "mytasks.py").write_text(MODULE)
    async with LocalSchedd() as local, Client.connect(local.nats_url) as client:
        process = await start("worker", "run", "mytasks:worker", "--nats", local.nats_url, cwd=tmp_path)
        await client.schedules.put("x", {"manual": True, "queue": "default", "type": "double"})
        reply = await client.schedules.trigger("x", payload={"n": 21})
        async with asyncio.timeout(20):
            while (record := await client.executions.get(reply.execution_id)).state != "succeeded":
                await asyncio.sleep(0.1)
        assert bytes(record.result) == b'{"doubled":42}'
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert process.returncode == 0, err


async def test_what_cannot_be_served_is_told(tmp_path: Path) -> None:
    """A module that is missing, broken or holds no Worker under that name: one sentence, exit 2."""
    (tmp_path / "mytasks.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")
    for target, words in {
        "mytasks": ("MODULE:NAME",),
        "absent:worker": ("absent",),
        "mytasks:number": ("int", "not a Worker"),
        "mytasks:nothing": ("mytasks has no such name",),
        "broken:worker": ("ZeroDivisionError", "broken.py, line 2"),
    }.items():
        process = await start("worker", "run", target, cwd=tmp_path)
        _, err = await process.communicate()
        assert process.returncode == 2, err
        assert all(word in err.decode() for word in words), err
        assert b"Traceback" not in err
