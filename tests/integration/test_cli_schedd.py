"""`schedd` as a process: flags and environment, the demo, the development server."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nats
import pytest

ROOT = Path(__file__).parents[2]
STATES = ("succeeded", "queued", "running", "claimed", "retrying")


async def start(*arguments: str, cwd: Path, **env: str) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "SCHEDD_", "COLUMNS"))}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.schedd", *arguments, cwd=cwd, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**clean, "PYTHONPATH": str(ROOT), "TMPDIR": str(cwd), "XDG_CONFIG_HOME": "/nowhere", **env},
    )  # fmt: skip


async def run(*arguments: str, cwd: Path, **env: str) -> tuple[int, str, str]:
    process = await start(*arguments, cwd=cwd, **env)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "env", "word"),
    [
        (("run", "--horizon", "1s"), {}, "--horizon"),
        (("run",), {"SCHEDD_HORIZON": "1s"}, "SCHEDD_HORIZON"),
        (("run", "--stream-replicas", "2"), {}, "--stream-replicas"),
        (("run", "--admin", "0.0.0.0:8088"), {}, "loopback"),
        (("run", "--log-format", "xml"), {}, "--log-format"),
        (("run", "--namespace", "Bad_One"), {}, "namespace"),
        (("--namespace", "Bad_One", "run"), {}, "namespace"),
        (("run", "--monitr", "off"), {}, "--monitr"),
        (("run", "--context", "nowhere", "--monitor", "off"), {}, "context"),
        (("dev", "--nats", "nats://127.0.0.1:1"), {}, "schedd run"),
        (("dev", "--data", "/dev/null/x"), {}, "/dev/null/x"),
        (("demo", "--for", "0s"), {}, "--for"),
    ],
)
async def test_bad_settings_are_2(tmp_path: Path, arguments: Sequence[str], env: dict[str, str], word: str) -> None:
    """A flag or an environment name that is wrong is named in one sentence, before anything runs."""
    code, _, err = await run(*arguments, cwd=tmp_path, **env)
    assert code == 2, err
    assert word in err
    assert "Traceback" not in err


async def test_nats_away_is_5(tmp_path: Path) -> None:
    """A replica that finds no server says so in one sentence, and exits with 5."""
    code, _, err = await run("run", "--nats", "nats://127.0.0.1:1", "--monitor", "off", cwd=tmp_path)
    assert code == 5
    assert "127.0.0.1:1" in err
    assert "Traceback" not in err


async def test_the_demo(tmp_path: Path) -> None:
    """The demo shows executions as they happen, succeeds, and leaves neither process nor file."""
    code, out, err = await run("demo", "--for", "6s", cwd=tmp_path)
    assert code == 0, (out, err)
    assert err == ""
    for schedule in ("hello", "report", "flaky", "once"):
        assert re.search(rf"{schedule} +succeeded", out), out
    assert re.search(r"\d+ executions: \d+ succeeded\n$", out)
    assert max(map(len, out.splitlines())) <= 80
    assert left_in(tmp_path) == []


async def test_a_demo_that_is_interrupted_cleans_up(tmp_path: Path) -> None:
    """Ctrl-C in the middle: 130, quiet, nothing left."""
    process = await start("demo", cwd=tmp_path)
    assert process.stdout is not None
    while b"succeeded" not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert err == b""
    assert left_in(tmp_path) == []


async def test_dev_is_ready_when_it_says_so(tmp_path: Path) -> None:
    """After NATS_URL=... a plain NATS client can put a schedule and pull its task; SIGTERM ends it, nothing is left."""
    process = await start("dev", "--monitor", "off", "--admin", "off", cwd=tmp_path)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert re.fullmatch(r"NATS_URL=nats://127\.0\.0\.1:\d+\n", line)
    client = await nats.connect(line.strip().partition("=")[2])
    try:
        stream = client.jetstream()
        schedules = await stream.key_value("schedd-schedules")
        await schedules.put("hello", b'{"every":"1s","queue":"default","type":"hello","payload":{"n":1}}')
        async with asyncio.timeout(15):
            while True:
                try:
                    pulling = await stream.pull_subscribe_bind("default", "SCHEDD_TASKS")
                    (task,) = await pulling.fetch(1, timeout=2)
                    break
                except nats.errors.Error:
                    await asyncio.sleep(0.1)
        assert task.data == b'{"n":1}'
        await task.ack()
    finally:
        await client.close()
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in err
    assert left_in(tmp_path) == []


async def test_dev_keeps_its_data_where_it_is_told(tmp_path: Path) -> None:
    """`--data DIR` keeps schedules over a restart, and is refused to a second server."""
    data = Path(tempfile.mkdtemp(dir=tmp_path))
    for expected in (0, 1):
        process = await start("dev", "--data", str(data), "--monitor", "off", "--admin", "off", cwd=tmp_path)
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip().partition("=")[2]
        client = await nats.connect(url)
        schedules = await client.jetstream().key_value("schedd-schedules")
        assert len((await schedules.history("kept")) if expected else []) == expected
        await schedules.put("kept", b'{"manual":true,"queue":"default","type":"x"}')
        await client.close()
        if not expected:
            code, _, err = await run("dev", "--data", str(data), "--monitor", "off", "--admin", "off", cwd=tmp_path)
            assert code == 2
            assert "in use" in err
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 0
