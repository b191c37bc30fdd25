"""One run of the program per task: started, fed, listened to, ended; nothing of it is left when the attempt is over."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self, cast

import msgspec

from cli.programs.environment import environment
from cli.programs.exits import failure_of
from cli.programs.guardian import send
from cli.programs.guarding import Guard
from cli.programs.output import Lines
from scheduler.wire.reports import RESULT_MAX
from scheduler.worker import TaskContext

TAIL_SHOWN = 20  # lines of standard error that a record keeps
PIPE_S = 1.0  # how long output may still come from what left the group before the program ended
GONE_S = 5.0  # how long a killed process may take to be gone
GATE = 'read -r _ && exec "$@"'
"""The program begins with the first line of its input, which we send when the guardian knows its group; if we die
before, it never begins. A shell reads no further than the end of that line (POSIX, `read`): the payload is left."""


class Program:
    """A task function: `await program(payload, ctx)` runs the command once."""

    def __init__(self, command: Sequence[str], *, guard: Guard, no_retry: frozenset[int]) -> None:
        self._command = tuple(command)
        self._guard = guard
        self._no_retry = no_retry
        self._numbers = itertools.count(1)

    async def __call__(self, payload: bytes, ctx: TaskContext) -> Any:
        """The result, if the program wrote one. Raises ExitCode, FinalExitCode."""
        result_file = self._guard.folder / f"{next(self._numbers)}.result"
        try:
            async with self._started(payload, ctx, result_file) as run:
                code = await run.end()
            failure = failure_of(code, self._no_retry, run.errors.last(TAIL_SHOWN))
            if failure is not None:
                raise failure
            return _result(result_file, ctx)
        finally:
            result_file.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def _started(self, payload: bytes, ctx: TaskContext, result_file: Path) -> AsyncIterator[_Run]:
        """The program, running; nothing of its group is left behind afterwards."""
        env = environment(ctx, str(result_file), os.environ)
        run = await _Run.start(["/bin/sh", "-c", GATE, "schedctl", *self._command], env, ctx)
        try:
            self._guard.add(run.group)
            await run.feed(b"\n" + payload)
            yield run
        finally:
            try:
                await run.leave()
            finally:
                self._guard.discard(run.group)


class _Run(asyncio.SubprocessProtocol):
    """One process group. Output is told as it comes."""

    def __init__(self, ctx: TaskContext) -> None:
        loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[None] = loop.create_future()
        self._silent: asyncio.Future[None] = loop.create_future()
        self.errors = Lines(lambda line: ctx.log.log(logging.WARNING, "%s", line, stream="stderr"))
        self._streams = {1: Lines(lambda line: ctx.log.log(logging.INFO, "%s", line, stream="stdout")), 2: self.errors}
        self._open = set(self._streams)
        self._transport: asyncio.SubprocessTransport
        self._input: asyncio.WriteTransport | None = None
        self._input_fd = -1

    @classmethod
    async def start(cls, command: Sequence[str], env: dict[str, str], ctx: TaskContext) -> Self:
        """Standard input is a pipe of our own: asyncio's may be a socket, which a program cannot open by its name."""
        theirs, ours = os.pipe()
        try:
            _, run = await asyncio.get_running_loop().subprocess_exec(
                lambda: cls(ctx), *command, stdin=theirs, env=env, start_new_session=True
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        run._input_fd = ours  # noqa: SLF001 - its own class
        return run

    @property
    def group(self) -> int:
        return self._transport.get_pid()

    async def feed(self, data: bytes) -> None:
        """Write it and close; a program that does not read it does no harm."""
        pipe = os.fdopen(self._input_fd, "wb", 0)
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, pipe)
        self._input = transport
        transport.write(data)
        transport.write_eof()

    async def end(self) -> int:
        """The exit code. Cancelled once: SIGTERM, and wait on; cancelled once more: raise (`leave` kills)."""
        try:
            await asyncio.shield(self._exited)
        except asyncio.CancelledError:
            send(self.group, signal.SIGTERM)
            await asyncio.shield(self._exited)
            raise
        return cast("int", self._transport.get_returncode())

    async def leave(self) -> None:
        """Kill what is left of the group, hear the end of the output, let go of every pipe."""
        if self._input is not None and self._input.get_write_buffer_size():  # else it is closed already
            self._input.abort()
        send(self.group, signal.SIGKILL)
        try:
            await asyncio.wait({self._exited}, timeout=GONE_S)
            await asyncio.wait({self._silent}, timeout=PIPE_S)
        finally:
            for lines in self._streams.values():
                lines.close()
            self._transport.close()

    # --- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._streams[fd].feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open and not self._silent.done():
            self._silent.set_result(None)

    def process_exited(self) -> None:
        if not self._exited.done():
            self._exited.set_result(None)


def _result(path: Path, ctx: TaskContext) -> Any:
    """What the program wrote into its result file: JSON as such, anything else as text; None: nothing."""
    try:
        with path.open("rb") as file:
            content = file.read(RESULT_MAX + 1)
    except OSError:
        return None
    if len(content) > RESULT_MAX:
        ctx.log.warning("the result is dropped: it is longer than %d bytes", RESULT_MAX)
        return None
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "backslashreplace").strip() or None
