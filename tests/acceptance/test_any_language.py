"""Workers and a client that know nothing of schedd but scheduler/PROTOCOL.md: JavaScript ones, and bad ones.

Node comes from the machine; its three packages are fetched once, into tests/javascript. Where either is not to be had,
these tests say so and are skipped.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.client import Client
from scheduler.testing import LocalSchedd
from scheduler.testing.conformance import CLAIMING, PLAIN, conform, main
from tests.acceptance.processes import clean_environment

JAVASCRIPT = Path(__file__).parents[1] / "javascript"
NPM_S = 120
DEAF = """
import asyncio, os, nats

async def run():
    connection = await nats.connect(os.environ["NATS_URL"])
    while True:
        try:
            tasks = await connection.jetstream().pull_subscribe_bind("conformance", "SCHEDD_TASKS")
            for task in await tasks.fetch(10, timeout=1):
                await task.ack()
        except Exception:
            await asyncio.sleep(0.1)

asyncio.run(run())
"""


@pytest.fixture(scope="module")
def node() -> str:
    """The command, with the packages there."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        pytest.skip("node and npm are not installed: the JavaScript worker and client are not tried")
    if not (JAVASCRIPT / "node_modules" / "@nats-io").is_dir():
        install = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        done = subprocess.run(install, cwd=JAVASCRIPT, capture_output=True, text=True, timeout=NPM_S, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm could not fetch the packages: {done.stderr.strip()[-300:]}")
    return found


async def test_a_javascript_worker_that_only_acknowledges(node: str) -> None:
    """It conforms: ack, nak, term, in-progress, and its death with a task in its hands."""
    findings = await conform([node, str(JAVASCRIPT / "worker.mjs")], claims=False)
    assert findings.held, str(findings)
    assert list(findings.cases) == [case.name for case in PLAIN]


async def test_javascript_workers_that_claim(node: str) -> None:
    """Three of them share a queue and conform: claims, reports, retries, results, at most once."""
    findings = await conform([node, str(JAVASCRIPT / "claiming-worker.mjs")], claims=True, workers=3)
    assert findings.held, str(findings)
    assert list(findings.cases) == [case.name for case in CLAIMING]


async def test_a_javascript_client_and_worker(node: str) -> None:
    """Schedules put by KV and by request from JavaScript, carried out by JavaScript: the records that Python gets."""
    async with LocalSchedd() as local:
        env = {**clean_environment(), "NATS_URL": local.nats_url, "SCHEDD_QUEUE": "js"}
        worker = await asyncio.create_subprocess_exec(node, str(JAVASCRIPT / "claiming-worker.mjs"), env=env)
        try:
            client = await asyncio.create_subprocess_exec(
                node, str(JAVASCRIPT / "client.mjs"), env=env, stdout=asyncio.subprocess.PIPE
            )
            async with asyncio.timeout(30):
                out, _ = await client.communicate()
        finally:
            worker.kill()
            await worker.wait()
        told = json.loads(out)
        async with Client.connect(local.nats_url) as reader:
            [line] = [each async for each in reader.executions.logs(told["records"][0]["id"])]
    assert (line.message, line.level, line.attempt, line.values) == ("at work", "info", 1, {"wanted": "return"})
    assert [(each["schedule"], each["state"], each["result"]) for each in told["records"]] == [
        ("by-kv", "succeeded", "hello"),
        ("by-request", "succeeded", "hello"),
    ]
    assert told["refusal"].startswith("invalid_argument: ")
    assert "did you mean 'every'?" in told["refusal"]


async def test_a_worker_that_does_not_conform() -> None:
    """The kit is not content with a worker that acknowledges whatever comes: it names what did not hold."""
    findings = await conform([sys.executable, "-c", DEAF], claims=False)
    assert not findings.held
    assert findings.cases["ack"] is None
    assert "must have failed" in (findings.cases["term"] or "")
    assert "succeeded in attempt 2" in (findings.cases["nak"] or "")


@pytest.mark.parametrize("arguments", [[], ["--workers", "0", "x"], ["/no/such/command"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence and exit code 2, no traceback."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
