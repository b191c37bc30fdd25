"""The tutorial of README.md, typed by a newcomer: each command in its order prints what is shown there.

Ids, instants, durations and names of workers differ from run to run: an id stands for the one that was printed in its
place, the others are compared in shape. Lines that the page leaves out are no difference; a line it shows and nobody
printed is one, after some seconds of asking again.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.processes import Process, clean_environment
from tests.unit.test_readme import section

ID: Final = re.compile(r"\b(?:report|hello)\.\d{8}T\d{9}Z(?:-m[0-9a-f]{16})?")
SHAPES: Final = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{3})?Z"), "INSTANT"),
    (re.compile(r"(?:\d+m)?\d+(?:\.\d+)?(?:ms|s)\b"), "SPAN"),
    (re.compile(r"\d+\.\d (?=fired|ended)"), "RATE "),
    (re.compile(r"^(?:OK|WARN) · "), "LEVEL · "),  # of a machine that is busy with other tests
    (re.compile(r"[+-]\d+ ms"), "SKEW"),
    (re.compile(r"nats://127\.0\.0\.1:\d+"), "URL"),
    (re.compile(r"\S+-[0-9a-f]{12}\b"), "WORKER"),
    (re.compile(r'File ".*tasks\.py"'), "FILE"),
    (re.compile(r"leader \S+,|^Leader \S+,|^\S+ \d+\.\d+\.\d+ "), "REPLICA"),
    (re.compile(r"(server|tzdata) \d\S*"), r"\1 VERSION"),
)
PATIENCE_S: Final = 20.0
READS: Final = ("executions list", "executions show", "executions logs", "list", "get", "status", "top")


def blocks() -> Iterator[tuple[str, str]]:
    """(language, text) of each fenced block, in order."""
    yield from re.findall(r"^```(\w+)\n(.*?)^```", section("Tutorial"), re.MULTILINE | re.DOTALL)


def typed(block: str) -> Iterator[tuple[str, list[str]]]:
    """(command, lines that it prints) of a console block."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *printed = part.splitlines()
        yield command, [line for line in printed if line.strip() not in ("", "...")]


def shape(line: str) -> str:
    line = ID.sub("ID", " ".join(line.split()))
    for pattern, name in SHAPES:
        line = pattern.sub(name, line)
    return line


class Newcomer:
    """Three shells, in one folder, and what has been printed so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids: dict[str, str] = {}
        self._running: dict[str, Process] = {}
        self._started = 0
        place = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = {**clean_environment(), "PATH": place, "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": ""}

    async def save(self, program: str) -> None:
        """A whole program under the name that the page gives it; one line in the place of the line like it."""
        name = next((name for word, name in NAMES.items() if word in program), None)
        place = self._folder / (name or "tasks.py")
        if name is None:
            kept = place.read_text()
            program, changed = re.subn(r"^ADDRESSES = .*\n", lambda _: program, kept, flags=re.MULTILINE)
            assert changed == 1
        place.write_text(program)

    async def type(self, command: str, shown: list[str]) -> None:
        command = ID.sub(lambda found: self._ids[found[0]], command)
        if shown[-1:] == ["^C"]:
            await self._leave(await self._begin(command), shown[:-1])
        elif command.startswith(("schedd dev", "schedctl worker run")):
            await self._serve(command, shown)
        else:
            await self._look(command, shown)

    async def end(self) -> None:
        await asyncio.gather(*(process.kill() for process in self._running.values()))

    async def _serve(self, command: str, shown: list[str]) -> None:
        """In a shell of its own, for the rest of the tutorial; one that runs there already is ended by Ctrl-C."""
        if (earlier := self._running.pop(command, None)) is not None:
            earlier.signal(signal.SIGINT)
            assert await earlier.ended() == 0
        process = await self._begin(command)
        self._running[command] = process
        await self._prints(process, shown)
        if url := re.search(r"^NATS_URL=(\S+)", process.log, re.MULTILINE):
            self._env["NATS_URL"] = url[1]

    async def _look(self, command: str, shown: list[str]) -> None:
        """Once; what only reads, again and again until it prints what is shown."""
        patient = any(command.startswith(f"schedctl {read}") for read in READS)
        deadline = time.monotonic() + (PATIENCE_S if patient else 0)
        while missing := self._missing(shown, printed := await self._run(command)):
            assert time.monotonic() < deadline, f"$ {command}\n{printed}\nlacks: {missing}"

    async def _leave(self, process: Process, shown: list[str]) -> None:
        """Ctrl-C once it has printed what is shown."""
        try:
            await self._prints(process, shown)
            process.signal(signal.SIGINT)
            await process.ended()
        finally:
            await process.kill()

    async def _begin(self, command: str) -> Process:
        program, *arguments = shlex.split(command)
        module = [] if program == "python" else ["-m", f"cli.{program}"]
        self._started += 1
        return Process(f"shell-{self._started}", self._folder, [*module, *arguments], self._env)

    async def _prints(self, process: Process, shown: list[str]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while missing := self._missing(shown, process.log):
            alive = process.exit_code is None and time.monotonic() < deadline
            assert alive, f"{process.name}:\n{process.log}\nlacks: {missing}"
            await asyncio.sleep(0.05)

    async def _run(self, command: str) -> str:
        process = await asyncio.create_subprocess_shell(
            command, cwd=self._folder, env=self._env, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        printed, _ = await process.communicate()
        assert process.returncode == 0, f"$ {command}\n{printed.decode()}"
        return printed.decode()

    def _missing(self, shown: list[str], printed: str) -> str | None:
        """The first shown line that is not among those printed, in their order; else the ids of both are paired."""
        lines, found = iter(printed.splitlines()), dict(self._ids)
        for line in shown:
            partner = next((other for other in lines if self._fits(line, other, found)), None)
            if partner is None:
                return line
            found.update(zip(ID.findall(line), ID.findall(partner), strict=True))
        self._ids = found
        return None

    def _fits(self, shown: str, printed: str, ids: dict[str, str]) -> bool:
        pairs = zip(ID.findall(shown), ID.findall(printed), strict=False)
        return shape(shown) == shape(printed) and all(ids.get(one, other) == other for one, other in pairs)


NAMES: Final = {"Worker(": "tasks.py", "key_value(": "put.py", "pull_subscribe_bind(": "plain.py"}


@pytest.fixture
async def newcomer(tmp_path: Path) -> AsyncIterator[Newcomer]:
    somebody = Newcomer(tmp_path)
    yield somebody
    await somebody.end()


async def test_every_command_of_the_tutorial_prints_what_is_shown(newcomer: Newcomer) -> None:
    """From nothing to own task, schedule, logs, failure, retry, cancel, dead letter and re-drive, as printed."""
    commands = 0
    for language, text in blocks():
        if language == "python":
            await newcomer.save(text)
        if language == "console":
            for command, shown in typed(text):
                await newcomer.type(command, shown)
                commands += 1
    assert commands > 20
