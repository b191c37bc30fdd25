"""Real nats-servers for tests: one, or a cluster of three, on random ports, with faults on demand.

    async def test_x(shared_server): ...      one server for the whole run: take a namespace of your own, harm nothing
    async def test_x(nats_server): ...        one server: `url`, `kill`, `start`, `stop`, `pause`, `resume`
    async def test_x(requests): ...           connected to it: a `Requests`
    async def test_x(cluster): ...            three of them: `urls`, `leader_of(stream)`, `kill(name)`, `start(name)`

Data and ports survive `kill` and `start`. Whatever is still running at the end of the test is killed; a server dies
with the test process too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from nats.aio.client import Client as NatsClient

from scheduler.core.errors import ScheddError
from scheduler.embedded import _dies_with_parent, find_binary
from scheduler.jetstream.connection import ConnectionSettings, connect
from scheduler.jetstream.requests import Requests
from tests import deeds

READY_S = 30.0
_POLL_S = 0.02
_PAUSED_S = 5.0


def free_ports(count: int) -> list[int]:
    """That many different ports that nobody listens on right now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _is_stopped(pid: int) -> bool:
    """By /proc, where there is one; elsewhere a signal is taken to work at once."""
    threads = list(Path(f"/proc/{pid}/task").glob("*/stat"))
    with contextlib.suppress(OSError):
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)
    return False


class Server:
    """One nats-server process; its name, ports and data stay the same when it is started again.

    `inside`: what its command begins with, such as that of a network namespace, where it has the address `host`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "n1",
        config: str = "",
        jetstream: bool = True,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
    ) -> None:
        self.name, self.host, self._inside = name, host, inside
        self._jetstream = f'jetstream {{ store_dir: "{folder / "data"}" }}' if jetstream else ""
        self.port, self._monitor = free_ports(2)
        self.url = f"nats://{host}:{self.port}"
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "nats.conf"
        self.configure(config)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> str:
        """What it has logged, all starts together."""
        place = self._folder / "log"
        return place.read_text() if place.exists() else ""

    def configure(self, more: str) -> None:
        """Further configuration, in force from the next start."""
        self._config.write_text(
            f'server_name: {self.name}\nlisten: "{self.host}:{self.port}"\nhttp: "{self.host}:{self._monitor}"\n'
            f"{self._jetstream}\n{more}\n"
        )

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        assert self._process is None, f"{self.name} is running"
        with (self._folder / "log").open("ab") as log:
            command = [*self._inside, find_binary(), "-c", str(self._config)]
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                preexec_fn=_dies_with_parent(),  # noqa: PLW1509 - one system call, made ready before the fork
            )

    async def start(self) -> None:
        """Start it and wait until it is healthy, JetStream included."""
        self.spawn()
        await self.ready()

    def wait_ready(self) -> None:
        """`ready` for where no loop can be waited on."""
        worker = threading.Thread(target=lambda: asyncio.run(self.ready()))
        worker.start()
        worker.join()

    async def ready(self) -> None:
        async with asyncio.timeout(READY_S):
            while not await self.is_healthy():
                assert self._process is not None, f"{self.name} was never started"
                assert self._process.poll() is None, f"{self.name} ended: {self.log[-2000:]}"
                await asyncio.sleep(_POLL_S)

    async def is_healthy(self, only: str = "") -> bool:
        """What its monitor says; `only`: which check, such as js-enabled-only, instead of all."""
        try:
            reader, writer = await asyncio.open_connection(self.host, self._monitor)
        except OSError:
            return False
        try:
            writer.write(f"GET /healthz?{only} HTTP/1.0\r\n\r\n".encode())
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()

    async def monitor(self, path: str) -> dict[str, Any]:
        """What its monitoring port answers (/varz, /jsz, /connz). Raises OSError, ValueError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._monitor)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer: dict[str, Any] = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
            return answer
        finally:
            writer.close()

    def kill_now(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(20)

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to stop, and wait; nothing happens if it is not running."""
        await self._end(signal.SIGTERM)

    async def lame_duck(self) -> None:
        """Ask it to hand over what it leads and its clients, bit by bit, and wait until it has ended (SIGUSR2)."""
        await self._end(signal.SIGUSR2, within_s=90)

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and answers nobody. Returns when every thread of it has stopped."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        until_s = time.monotonic() + _PAUSED_S
        while not self.is_stopped:
            assert time.monotonic() < until_s, f"{self.name} goes on after a SIGSTOP"
            time.sleep(0.001)
        deeds.note("SIGSTOP to a nats-server")

    @property
    def is_stopped(self) -> bool:
        """Every thread of it is held by a SIGSTOP."""
        return self.pid is not None and _is_stopped(self.pid)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def _end(self, number: signal.Signals, *, within_s: float = 20) -> None:
        process, self._process = self._process, None
        if process is not None:
            deeds.note(f"{number.name} to a nats-server")
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            await asyncio.to_thread(process.wait, within_s)


class Cluster:
    """Some servers that know each other: `async with Cluster(3) as cluster`. They are called n1, n2, n3.

    `places`: for each its `host` and `inside`, where they are not all at home.
    """

    def __init__(
        self, size: int = 3, *, config: str = "", places: Mapping[str, tuple[str, Sequence[str]]] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="schedd-cluster-")
        names = [f"n{number}" for number in range(1, size + 1)]
        ports = dict(zip(names, free_ports(size), strict=True))
        at = {name: (places or {}).get(name, ("127.0.0.1", ())) for name in names}
        routes = {name: f"{at[name][0]}:{ports[name]}" for name in names}
        self.servers = {
            name: Server(
                Path(self._folder.name) / name,
                name=name,
                host=at[name][0],
                inside=at[name][1],
                config=f'{config}\ncluster {{ name: test, listen: "{routes[name]}", routes: ['
                + ", ".join(f'"nats://{route}"' for route in routes.values())
                + "] }",
            )
            for name in names
        }

    @property
    def folder(self) -> Path:
        """Where they keep everything, each in a folder of its name."""
        return Path(self._folder.name)

    @property
    def urls(self) -> str:
        """All of them, as `--nats` takes them."""
        return ",".join(server.url for server in self.servers.values())

    def spawn(self) -> None:
        """Start all processes without waiting for an election."""
        for server in self.servers.values():
            server.spawn()

    async def __aenter__(self) -> Self:
        self.spawn()
        try:
            await asyncio.gather(*(server.ready() for server in self.servers.values()))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with deeds.quietly():
            await asyncio.gather(*(server.kill() for server in self.servers.values()))
        self._folder.cleanup()

    async def kill(self, name: str) -> None:
        """kill -9 one."""
        await self.servers[name].kill()

    async def start(self, name: str) -> None:
        """Start one again and wait until it has caught up."""
        await self.servers[name].start()

    async def leader_of(self, stream: str) -> str:
        """Name of the server that leads the stream; waits while there is none."""
        async with asyncio.timeout(READY_S), connected(self.urls) as requests:
            while True:
                with contextlib.suppress(ScheddError):
                    info: dict[str, Any] = await requests.api(f"STREAM.INFO.{stream}", timeout_s=1.0)
                    if leader := info.get("cluster", {}).get("leader"):
                        return str(leader)
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def connected(urls: str, *, timeout_s: float = 2.0) -> AsyncIterator[Requests]:
    """A `Requests` on a connection of its own."""
    settings = ConnectionSettings.from_environment(urls, env={})
    client = await connect(settings, name="test", timeout_s=10)
    requests = Requests(client, timeout_s=timeout_s)
    try:
        await requests.open()
        yield requests
    finally:
        await requests.close()
        await client.close()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that only need some server."""
    server = Server(tmp_path_factory.mktemp("shared") / "nats")
    server.spawn()
    server.wait_ready()
    yield server
    server.kill_now()


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[Server]:
    """One server with JetStream."""
    server = Server(tmp_path / "nats")
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def requests(nats_server: Server) -> AsyncIterator[Requests]:
    """Connected to the one server."""
    async with connected(nats_server.url, timeout_s=5.0) as found:
        yield found


@pytest.fixture
async def nats_client(requests: Requests) -> NatsClient:
    """The client under `requests`."""
    return requests.client


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Three servers with JetStream."""
    async with Cluster(3) as found:
        yield found
