"""Export and restore by the commands, through a real schedd into another one."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest

from scheduler.client import Client
from scheduler.testing import LocalSchedd
from tests.integration.cli_process import run

HELLO = {"every": "1h", "queue": "q", "type": "t", "payload": {"n": 1}, "labels": {"team": "crm"}}
TO = {"queue": "q", "type": "t"}
FAST = {"SCHEDD_LEASE": "2"}


@pytest.fixture
async def old() -> AsyncIterator[LocalSchedd]:
    async with LocalSchedd(env=FAST) as local, Client.connect(local.nats_url) as client:
        await client.calendars.put("xmas", {"yearly": ["12-25"]})
        await client.queues.put("q", {"max_ack_pending": 7, "ack_wait": "5m"})
        await client.schedules.put("daily", {**HELLO, "exclude": ["xmas"]})
        await client.schedules.put("resting", HELLO)
        await client.schedules.pause("resting", note="holidays")
        await client.schedules.put("spent", {"at": "2020-01-01T00:00:00Z", "queue": "q", "type": "t"})
        yield local


async def stored(url: str) -> dict[str, Any]:
    async with Client.connect(url) as client:
        return {item.id: item.definition async for item in client.schedules.list()}


async def test_there_and_back(old: LocalSchedd, tmp_path: Path) -> None:
    """Everything is in it and comes back into an empty schedd, pauses too; again, it changes nothing."""
    file = tmp_path / "backup.jsonl"
    wrote = await run("export", "-o", str(file), "--history", NATS_URL=old.nats_url)
    assert wrote.code == 0, wrote.err
    assert "3 schedules, 1 calendar, 1 queue" in wrote.out
    assert file.stat().st_mode & 0o077 == 0
    assert (await run("export", NATS_URL=old.nats_url)).out.count("\n") == len(file.read_text().splitlines())
    async with LocalSchedd(env=FAST) as new:
        dry = await run("import", "backup", str(file), "--dry-run", NATS_URL=new.nats_url)
        assert (dry.code, await stored(new.nats_url)) == (0, {})
        assert "would be: schedules: 2 created, 1 without an occurrence left, left out" in dry.out
        assert "would be: calendars: 1 created" in dry.out
        done = await run("import", "backup", str(file), NATS_URL=new.nats_url)
        assert done.code == 0, done.err
        before = await stored(old.nats_url)
        assert await stored(new.nats_url) == {name: before[name] for name in ("daily", "resting")}
        again = await run("import", "backup", str(file), NATS_URL=new.nats_url)
        assert again.code == 0
        assert "2 as it is already" in again.out
        assert "created" not in again.out
        async with Client.connect(new.nats_url) as client:
            resting = await client.schedules.get("resting")
            assert (resting.status.state, resting.revision) == ("paused", resting.generation)
            assert (await client.calendars.get("xmas")).id == "xmas"
            queue = (await client.queues.get("q")).settings
            assert (queue["max_ack_pending"], queue["ack_wait"]) == (7, "5m")


async def test_what_is_different_here(old: LocalSchedd, tmp_path: Path) -> None:
    """Left alone and named, exit 4; overwritten with --force --yes, and a pause that the backup has not is gone."""
    file, url = tmp_path / "backup.jsonl", old.nats_url
    assert (await run("export", "-o", str(file), NATS_URL=url)).code == 0
    async with Client.connect(url) as client:
        await client.schedules.put("daily", {**HELLO, "payload": {"n": 2}})
        await client.schedules.pause("daily")
        await client.schedules.delete("resting")
    left = await run("import", "backup", str(file), NATS_URL=url)
    assert left.code == 4
    assert "different here: schedule daily" in left.err
    assert (await stored(url))["daily"]["payload"] == {"n": 2}
    assert (await stored(url))["resting"]["paused"] is True
    asked = await run("import", "backup", str(file), "--force", NATS_URL=url)
    assert (asked.code, "--yes" in asked.err) == (2, True)
    forced = await run("import", "backup", str(file), "--force", "--yes", NATS_URL=url)
    assert forced.code == 0, forced.err
    async with Client.connect(url) as client:
        daily = await client.schedules.get("daily")
    assert (daily.definition["payload"], daily.status.state) == ({"n": 1}, "active")
    again = await run("import", "backup", str(file), "--force", "--yes", NATS_URL=url)
    assert "overwritten" not in again.out


async def test_what_cannot_be_restored(old: LocalSchedd, tmp_path: Path) -> None:
    """An invalid value is in the backup as it was, is named when it is refused, and holds up nothing else."""
    client = await nats.connect(old.nats_url)
    await client.jetstream().publish("$KV.schedd-schedules.broken", b"\xff{")
    await client.jetstream().publish("$KV.schedd-schedules.typo", b'{"evry": "1s"}')
    await client.jetstream().publish("$KV.schedd-schedules.null", b"null")
    await client.jetstream().publish("$KV.schedd-schedules.list", b"[1]")
    await client.jetstream().publish(
        "$KV.schedd-schedules.twice", b'{"every":"1h","every":"2h","queue":"q","type":"t"}'
    )
    await client.close()
    file = tmp_path / "backup.jsonl"
    assert (await run("export", "-o", str(file), NATS_URL=old.nats_url)).code == 0
    async with LocalSchedd(env=FAST) as new:
        done = await run("import", "backup", str(file), NATS_URL=new.nats_url)
        assert done.code == 2
        assert "schedule broken: its value is no JSON" in done.err
        assert "schedule typo: a schedule has no field" in done.err
        assert "schedule null: a schedule must be a JSON object, not null" in done.err
        assert "schedule list: a schedule must be a JSON object, not a list" in done.err
        assert "schedule twice: a schedule has the field 'every' twice" in done.err
        assert set(await stored(new.nats_url)) == {"daily", "resting"}


async def test_at_times_that_had_passed_do_not_fire_again(tmp_path: Path) -> None:
    """One of two had fired when it was exported: only the other is made anew, and a second import finds it so."""
    file = tmp_path / "backup.jsonl"
    shots = ["2026-11-21T08:00:00Z", "2099-01-01T00:00:00Z"]
    line = {"kind": "schedule", "id": "two", "schedule": {"at": shots, "catch_up": {"window": "3650d"}, **TO}}
    header = {"schedd_backup": 1, "exported_at": "2026-11-21T08:00:01.000Z"}
    lines = [header, line, {"kind": "end", "counts": {"schedule": 1}}]
    file.write_text("\n".join(map(json.dumps, lines)))
    async with LocalSchedd(env=FAST) as new, Client.connect(new.nats_url) as client:
        for told in ("1 created", "1 as it is already"):
            done = await run("import", "backup", str(file), NATS_URL=new.nats_url)
            assert (done.code, told in done.out) == (0, True), done.err
        assert (await stored(new.nats_url))["two"]["at"] == shots[1:]
        assert [each.id async for each in client.executions.list(schedule="two")] == []


async def test_history_of_a_schedule_that_is_gone(old: LocalSchedd, tmp_path: Path) -> None:
    """Its executions are kept for a while, and so are in it."""
    file = tmp_path / "backup.jsonl"
    async with Client.connect(old.nats_url) as client:
        kept = (await client.schedules.trigger("daily")).execution_id
        await client.schedules.put("gone", HELLO)
        left = (await client.schedules.trigger("gone")).execution_id
        await client.schedules.delete("gone")
    wrote = await run("export", "-o", str(file), "--history", NATS_URL=old.nats_url)
    assert wrote.code == 0, wrote.err
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    ids = [line["record"]["id"] for line in lines if line.get("kind") == "execution"]
    assert sorted(each for each in ids if not each.startswith("spent.")) == sorted([kept, left])
    assert lines[-1]["counts"]["execution"] == len(ids)


async def test_into_what_is_no_file(old: LocalSchedd, tmp_path: Path) -> None:
    """A device stays a device, and of a link only the file behind it is replaced."""
    link, file = tmp_path / "newest", tmp_path / "backup.jsonl"
    link.symlink_to(file)
    device = tmp_path / "pipe"
    os.mkfifo(device)
    for output in (link, device):
        reader = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
        wrote = await run("export", "-o", str(output), NATS_URL=old.nats_url)
        os.close(reader)
        assert wrote.code == 0, wrote.err
    assert (link.is_symlink(), file.is_file(), device.is_fifo()) == (True, True, True)


async def test_files_that_are_none(tmp_path: Path) -> None:
    """No file, an empty one, a cut one, no place to write: one sentence each."""
    (tmp_path / "empty").write_text("")
    (tmp_path / "cut").write_text('{"schedd_backup": 1}\n{"kind": "sched')
    for name, told in (("no", "cannot read"), ("empty", "no backup of schedd"), ("cut", "line 2")):
        refused = await run("import", "backup", str(tmp_path / name), NATS_URL="nats://127.0.0.1:1")
        assert (refused.code, told in refused.err) == (2, True), refused.err
