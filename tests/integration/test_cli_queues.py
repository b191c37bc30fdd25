"""`schedctl queue ...` as a user meets it: a real daemon, exit codes, --json, questions, empty states."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from cli.running import run as run_here
from cli.schedctl import app
from scheduler.client import Client
from scheduler.testing import LocalSchedd


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Awaitable[Result]]


@pytest.fixture
async def local() -> AsyncIterator[LocalSchedd]:
    async with LocalSchedd() as local:
        yield local


@pytest.fixture
def cli(local: LocalSchedd) -> Cli:
    async def call(*arguments: str) -> Result:
        return await asyncio.to_thread(_run, ("queue", *arguments, "--nats", local.nats_url))

    return call


def _run(arguments: Sequence[str]) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run_here(app, "schedctl", arguments)
    assert "Traceback" not in err.getvalue()
    return Result(code, out.getvalue(), err.getvalue())


async def test_a_day_with_a_queue(local: LocalSchedd, cli: Cli) -> None:
    """Put, pause, list, get, purge, resume, delete: what is printed, and with which exit code."""
    empty = await cli("list")
    assert (empty.code, empty.out) == (0, "")
    assert "schedctl queue put EMAIL" in empty.err
    assert (await cli("put", "EMAIL", "--ack-wait", "1m", "--max-ack-pending", "1", "--max-pending", "500")).code == 0
    paused = await cli("pause", "EMAIL", "--note", "mail server moves", "--until", "2100-01-01T00:00:00Z")
    assert paused.out == "EMAIL paused until 2100-01-01 00:00:00Z, 0 tasks waiting\n"
    async with Client.connect(local.nats_url) as client:
        await client.schedules.put("news", {"manual": True, "queue": "EMAIL", "type": "t", "overlap": "allow"})
        for _ in range(3):
            await client.schedules.trigger("news")
    listed = await cli("list")
    assert "paused" in listed.out
    assert "mail server moves" in listed.out
    assert (await cli("list", "--names")).out == "EMAIL\n"
    item = json.loads((await cli("get", "EMAIL", "--json")).out)
    assert json.loads((await cli("list", "--json")).out)[0]["queue"] == item["queue"]
    assert item["queue"]["pause_note"] == "mail server moves"
    assert (item["status"]["pending"], item["status"]["schedules"]) == (3, ["news"])
    assert "Waiting          3, the oldest for" in (await cli("get", "EMAIL")).out
    used = await cli("delete", "EMAIL", "--yes")
    assert (used.code, used.err) == (4, "schedctl: queue 'EMAIL' is used by news: change or delete them first\n")
    assert (await cli("purge", "EMAIL", "--dry-run")).out == "EMAIL would be purged of 3 tasks\n"
    for verb in ("purge", "delete"):
        refused = await cli(verb, "EMAIL")
        assert (refused.code, refused.out) == (2, "")
        assert "--yes" in refused.err
    purged = json.loads((await cli("purge", "EMAIL", "--yes", "--json")).out)
    assert purged == {"id": "EMAIL", "purged": 3, "running": 0, "remaining": 0, "dry_run": False}
    assert (await cli("resume", "EMAIL")).out == "EMAIL resumed, 0 tasks waiting\n"
    async with Client.connect(local.nats_url) as client:
        await client.schedules.delete("news")
    assert (await cli("delete", "EMAIL", "--yes")).out == "EMAIL deleted\n"
    assert (await cli("list", "--names")).out == ""


MISTAKES: Sequence[tuple[tuple[str, ...], int, str]] = (
    (("get", "NOPE"), 3, "there is no queue 'NOPE'"),
    (("pause", "NOPE"), 3, "there is no queue 'NOPE'"),
    (("resume", "NOPE"), 3, "there is no queue 'NOPE'"),
    (("delete", "NOPE", "--yes"), 3, "there is no queue 'NOPE'"),
    (("purge", "NOPE", "--yes"), 3, "there is no queue 'NOPE'"),
    (("put", "a.b"), 2, "a.b"),
    (("put", "Q", "--ack-wait", "soon"), 2, "ack_wait: 'soon' is not a duration"),
    (("put", "Q", "--max-deliver", "0"), 2, "max_deliver must be a whole number from 1 to 1000000, not 0"),
    (("put", "Q", "--max-pending", "-1"), 2, "max_pending must be a whole number or the word default"),
    (("put", "Q", "--backoff", "1m", "--backoff", "1s"), 2, "backoff must not get shorter"),
    (("put", "Q", "--backoff", "1m", "--ack-wait", "2m"), 2, "ack_wait is the first entry of the backoff (1m)"),
    (("pause", "Q", "--until", "tomorrow"), 2, "paused_until: 'tomorrow' is not an instant"),
    (("list", "--json", "--names"), 2, "exclude each other"),
)


async def test_mistakes(cli: Cli) -> None:
    """One sentence that names the field, and the exit code of the table."""
    for arguments, code, says in MISTAKES:
        found = await cli(*arguments)
        assert (found.code, found.out) == (code, ""), arguments
        assert says in found.err
        assert len(found.err.strip().splitlines()) <= 4


async def test_defaults_come_back(cli: Cli) -> None:
    """The word default takes each setting back."""
    await cli("put", "Q", "--backoff", "5s", "--backoff", "1m", "--max-deliver", "4", "--max-pending", "9")
    found = json.loads((await cli("get", "Q", "--json")).out)["queue"]
    assert (found["ack_wait"], found["backoff"], found["max_deliver"]) == ("5s", ["5s", "1m"], 4)
    words = ("--backoff", "default", "--max-deliver", "default", "--max-pending", "default", "--ack-wait", "default")
    found = json.loads((await cli("put", "Q", *words, "--json")).out)["queue"]
    assert (found["ack_wait"], found["backoff"], found["max_deliver"], found["max_pending"]) == ("30s", [], 20, 100_000)


async def test_the_client(local: LocalSchedd) -> None:
    """The same from Python, mistakes found before anything is sent."""
    async with Client.connect(local.nats_url) as client:
        item = await client.queues.put("Q", {"max_ack_pending": 3})
        assert item.settings["max_ack_pending"] == 3
        assert (await client.queues.pause("Q", note="n")).status.paused
        assert not (await client.queues.resume("Q")).status.paused
        assert [each.id async for each in client.queues.list()] == ["Q"]
        assert (await client.queues.purge("Q")).purged == 0
        assert (await client.queues.delete("Q")).id == "Q"
