"""The programs of README.md, taken from its text and run: by users with just the permissions it gives them."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scheduler.client import Client
from tests.acceptance.processes import Process, Replica, clean_environment
from tests.nats_servers import Server

README = (Path(__file__).parents[2] / "README.md").read_text()


def program(word: str, language: str = "python") -> str:
    """The one fenced block of that language that has the word in it."""
    [found] = [
        text for text in re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL) if word in text
    ]
    return str(found)


ACTING = """
from scheduler.worker import Worker

worker = Worker("EMAIL")

@worker.action("hello", "Say hello")
def say(payload):
    return f"hello, {payload}"

worker.run()
"""


async def _act(client: Client, worker: Process) -> None:
    """An action is listed and carried out."""
    async with asyncio.timeout(20):
        while not [item async for item in client.actions.list("hello")]:
            assert worker.exit_code is None, worker.log
            await asyncio.sleep(0.05)
    reply = await client.actions.invoke("hello", "say-hello", "ann")
    assert bytes(reply.result) == b'"hello, ann"'


def passwords() -> dict[str, str]:
    return dict(re.findall(r"user: (\w+), password: (\w+)", program("authorization", "conf")))


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with the users and permissions of the README, and no other."""
    server = Server(tmp_path / "nats", config=program("authorization", "conf"))
    await server.start()
    yield server
    await server.kill()


async def eventually(process: Process, text: str, times: int = 1) -> None:
    async with asyncio.timeout(30):
        while process.log.count(text) < times:
            assert process.exit_code is None, process.log
            await asyncio.sleep(0.05)


async def test_the_programs_run_with_the_permissions_given(guarded: Server, tmp_path: Path) -> None:
    """Put, plain worker, SDK worker, schedctl's client and daemon: each does its part, and NATS refuses nothing."""

    def url(user: str) -> dict[str, str]:
        return {"NATS_URL": f"nats://{user}:{passwords()[user]}@127.0.0.1:{guarded.port}"}

    def start(name: str, user: str, *arguments: str) -> Process:
        started = Process(name, tmp_path, list(arguments), url(user))
        processes.append(started)
        return started

    processes: list[Process] = []
    try:
        replica = Replica("a", tmp_path, url("schedd"))
        processes.append(replica)
        await replica.ready()
        assert await start("put", "putter", "-c", program('key_value("schedd-schedules")')).ended() == 0
        await eventually(start("plain", "plain", "-c", program("pull_subscribe_bind")), '{"n": 1}', times=2)
        (tmp_path / "tasks.py").write_text(program('Worker("EMAIL")'))
        async with Client.connect(url("ctl")["NATS_URL"]) as client:
            worker = start("sdk", "worker", "-m", "cli.schedctl", "worker", "run", "tasks:worker")
            await eventually(worker, "attempt 2 of report.")
            await _act(client, start("acting", "worker", "-c", ACTING))
            ended = [record async for record in client.executions.list(state="succeeded")]
            assert {record.schedule for record in ended} >= {"hello"}
            async with client.watch(["finished"], schedule="report") as watch:
                run = await client.schedules.trigger("report", payload={"to": "ann", "pages": 1})
                lines = [line.message async for line in client.executions.logs(run.execution_id, follow=True)]
                assert lines == ["sending page 1"]
                assert (await client.wait(run.execution_id, timeout=10)).state == "succeeded"
                assert (await anext(watch)).schedule == "report"
            assert "schedule report stored as revision" in worker.log
            await client.schedules.delete("report")
    finally:
        await asyncio.gather(*(process.kill() for process in processes))
    assert "Violation" not in guarded.log


async def test_the_tests_of_tasks_pass_as_printed(tmp_path: Path) -> None:
    """The example of tests for one's own tasks, beside the tasks of the tutorial, run by a pytest of its own."""
    (tmp_path / "tasks.py").write_text(program('Worker("EMAIL")'))
    (tmp_path / "test_tasks.py").write_text(program("local.serving(worker)"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tasks.py", cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**clean_environment(), "PYTHONPATH": "."},
    )  # fmt: skip
    out, _ = await process.communicate()
    assert (process.returncode, b"3 passed" in out) == (0, True), out.decode()
