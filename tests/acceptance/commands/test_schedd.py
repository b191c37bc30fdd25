"""`schedd run`, `dev` and `demo` from outside (contract, part 8)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from tests.acceptance.commands.running import Cli, said, schedd, serving
from tests.acceptance.contract_site import Place, few_at_once
from tests.acceptance.harness import Site, eventually
from tests.acceptance.processes import Process, clean_environment
from tests.nats_servers import free_ports

# --- schedd run


async def test_run_refuses_bad_settings(tmp_path: Path) -> None:
    """A flag or an environment name that is wrong: exit 2, one sentence that names both, before anything is tried."""
    cases: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("--horizon", "1s"), {}, "--horizon"),
        ((), {"SCHEDD_HORIZON": "1s"}, "SCHEDD_HORIZON"),
        (("--stream-replicas", "2"), {}, "--stream-replicas"),
        ((), {"SCHEDD_STREAM_REPLICAS": "two"}, "SCHEDD_STREAM_REPLICAS"),
        (("--log-format", "xml"), {}, "--log-format"),
        (("--replica", "a b"), {}, "--replica"),
        (("--monitor", "nonsense"), {}, "--monitor"),
        (("--admin", "0.0.0.0:8088"), {}, "--admin"),
        ((), {"SCHEDD_NAMESPACE": "No Such"}, "SCHEDD_NAMESPACE"),
        (("nonsense",), {}, "nonsense"),
    ]

    async def check(arguments: tuple[str, ...], env: dict[str, str], word: str) -> None:
        result = await schedd("run", *arguments, cwd=tmp_path, **env)
        assert (result.code, result.out) == (2, ""), f"{arguments} {env}: {result}"
        assert word in result.err
        assert result.err.startswith("schedd: ")

    await few_at_once(check(*case) for case in cases)


async def test_run_without_what_it_needs(place: Place, tmp_path: Path) -> None:
    """No NATS, no JetStream, a port that is taken: exit 5 and one sentence as the last line."""
    async with serving(tmp_path / "plain", "") as plain:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            busy = f"127.0.0.1:{taken.getsockname()[1]}"
            cases = {
                "no NATS server": ("--nats", "nats://127.0.0.1:1", "--monitor", "off"),
                "JetStream": ("--nats", plain.url, "--monitor", "off"),
                busy: ("--nats", place.url, "--monitor", busy),
                "cluster": ("--nats", place.url, "--monitor", "off", "--stream-replicas", "3", "--namespace", "three"),
            }
            results = await few_at_once(schedd("run", *each, cwd=tmp_path) for each in cases.values())
    for word, result in zip(cases, results, strict=True):
        last = result.err.splitlines()[-1]
        assert word in last
        assert last.startswith("schedd: ")
        assert result.code == (2 if word == "cluster" else 5), result


async def test_run(place: Place, site: Site, tmp_path: Path) -> None:
    """Flags and environment are in force; it logs to stderr only; SIGTERM and SIGINT end it with 0 in a moment."""
    [port] = free_ports(1)
    flags = ["--namespace", "team1", "--replica", "by-flag", "--monitor", f"127.0.0.1:{port}", "--horizon", "30s"]
    arguments = ["-m", "cli.schedd", "--nats", place.url, "run", *flags, "--log-format", "json", "--admin", "off"]
    first = Process("flags", tmp_path, arguments, {"SCHEDD_REPLICA": "by-environment", "SCHEDD_HORIZON": "60s"})
    named = {"NATS_URL": place.url, "SCHEDD_NAMESPACE": "team1", "SCHEDD_REPLICA": "second", "SCHEDD_MONITOR": "off"}
    second = Process("env", tmp_path, ["-m", "cli.schedd", "run"], {**named, "SCHEDD_LOG_FORMAT": "json"})
    try:
        await asyncio.gather(*(eventually(lambda each=each: said(each, '"ready"'), within_s=20, what="it")
                               for each in (first, second)))  # fmt: skip
        assert all(json.loads(line)["message"] for line in first.log.splitlines()), "json, line by line"
        cli = Cli(place.url, tmp_path)

        async def planned() -> Any:
            found = (await cli("--namespace", "team1", "status", "--json")).json
            return found if found["planned_until"] and found["leader"] else None

        status = await eventually(planned, what="a leader")
        assert [each["replica"] for each in status["replicas"]] == ["by-flag", "second"]
        assert (await http(port, "/readyz"))[0] == 200
        assert (await http(port, "/healthz"))[0] == 200
        assert b"schedd_leader" in (await http(port, "/metrics"))[1]
        assert {"TEAM1_TIMELINE", "KV_team1-schedules"} <= set((await site.api("STREAM.NAMES"))["streams"])
        began = time.monotonic()
        first.signal(signal.SIGTERM)
        second.signal(signal.SIGINT)
        assert [await each.ended(10) for each in (first, second)] == [0, 0]
        assert time.monotonic() - began < 3
    finally:
        await asyncio.gather(first.kill(), second.kill())


async def http(port: int, path: str) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        reply = await reader.read()
        writer.close()
    return int(reply.split()[1]), reply


# --- schedd dev and demo


class Dev:
    """`schedd dev` in a folder of its own, with a temporary folder of its own."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process, url: str) -> None:
        self.folder, self.process, self.url = folder, process, url

    @classmethod
    async def start(cls, folder: Path, *arguments: str) -> Dev:
        for name in ("cwd", "tmp"):
            (folder / name).mkdir(exist_ok=True)
        env = {**clean_environment(), "TMPDIR": str(folder / "tmp"), "XDG_CONFIG_HOME": "/nowhere"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.schedd", "dev", *arguments, cwd=folder / "cwd", env=env,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
        assert re.fullmatch(r"NATS_URL=nats://127\.0\.0\.1:\d+\n", line)
        return cls(folder, process, line.strip().partition("=")[2])

    async def end(self, number: signal.Signals) -> int:
        """The exit code; fails if it said anything else, or if its server is still there after a moment."""
        self.process.send_signal(number)
        async with asyncio.timeout(10):
            rest, _ = await self.process.communicate()
        assert rest == b""
        await eventually(self.server_gone, within_s=5, what="the server's end")
        assert self.process.returncode is not None
        return self.process.returncode

    async def server_gone(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(*self.url.removeprefix("nats://").split(":"))
        except OSError:
            return True
        writer.close()
        return False

    def server_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def left(self) -> list[str]:
        return [path.name for name in ("cwd", "tmp") for path in (self.folder / name).iterdir()]


async def test_dev(tmp_path: Path) -> None:
    """NATS_URL=..., ready to be used, data kept where it is told to; it leaves neither process nor file."""
    first = await Dev.start(tmp_path, "--data", str(tmp_path / "data"), "--monitor", "off")
    cli = Cli(first.url, tmp_path)
    await cli.ok("add", "kept", "--every", "1h", "--queue", "q", "--type", "t")
    assert await first.end(signal.SIGTERM) == 0
    assert first.left() == []
    second = await Dev.start(tmp_path, "--data", str(tmp_path / "data"))
    assert (await Cli(second.url, tmp_path).ok("list", "--names")).lines == ["kept"]
    taken = await schedd("dev", "--data", str(tmp_path / "data"), cwd=tmp_path)
    assert (taken.code, taken.out) == (2, "")
    assert "in use" in taken.err
    assert await second.end(signal.SIGINT) == 0
    assert second.left() == []


async def test_dev_killed(tmp_path: Path) -> None:
    """kill -9 leaves no process; and where its NATS server dies, dev ends too (5) instead of waiting for ever."""
    dev, other = await asyncio.gather(Dev.start(tmp_path), Dev.start(tmp_path))
    await dev.end(signal.SIGKILL)
    os.kill(other.server_pid(), signal.SIGKILL)
    async with asyncio.timeout(10):
        assert await other.process.wait() == 5


async def test_demo(tmp_path: Path) -> None:
    """Executions as they happen, states in full, within 80 columns; exit 0; nothing is left behind."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "cwd").mkdir()
    began = time.monotonic()
    result = await schedd("demo", "--for", "5s", cwd=tmp_path / "cwd", TMPDIR=str(tmp_path / "tmp"))
    assert result.code == 0, result
    assert 5 < time.monotonic() - began < 20
    assert max(map(len, result.lines)) <= 80
    for word in ("succeeded", "running", "retrying", "hello", "STATE"):
        assert word in result.out
    assert re.search(r"^\d+ executions: \d+ succeeded$", result.lines[-1])
    left = [path.name for name in ("cwd", "tmp") for path in (tmp_path / name).iterdir()]
    assert left == []
    assert (await schedd("demo", "--for", "never", cwd=tmp_path)).code == 2
