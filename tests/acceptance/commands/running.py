"""The commands as whoever types them has them: `schedctl`, `schedd`, a context, a server to sign in to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.contract_site import Result, command
from tests.acceptance.processes import Process
from tests.nats_servers import Server


class Cli:
    """`schedctl`, connected by its environment."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    async def __call__(self, *arguments: str, stdin: bytes = b"", **env: str) -> Result:
        return await command(*arguments, cwd=self.folder, stdin=stdin, **{"NATS_URL": self.url, **env})

    async def ok(self, *arguments: str, stdin: bytes = b"", **env: str) -> Result:
        """Exit 0, nothing on stderr."""
        result = await self(*arguments, stdin=stdin, **env)
        assert (result.code, result.err) == (0, ""), f"{arguments}: {result}"
        return result

    async def fails(self, code: int, *arguments: str, stdin: bytes = b"", **env: str) -> str:
        """That exit code, nothing on stdout; what it says on stderr, which is one sentence (and a hint)."""
        result = await self(*arguments, stdin=stdin, **env)
        assert (result.code, result.out) == (code, ""), f"{arguments}: {result}"
        assert result.err.startswith("schedctl: ")
        assert 1 <= len(result.err.splitlines()) <= 2
        return result.err


def write_context(config: Path, name: str, *, selected: str = "", **values: Any) -> None:
    """A context file as the nats tool writes it."""
    folder = config / "nats" / "context"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"description": "for a test", "user": "", **values}))
    if selected:
        (config / "nats" / "context.txt").write_text(selected)


@asynccontextmanager
async def serving(folder: Path, config: str, *, jetstream: bool = False) -> AsyncIterator[Server]:
    server = Server(folder, config=config, jetstream=jetstream)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def said(process: Process, word: str) -> bool:
    assert process.exit_code is None, process.log
    return word in process.log


async def schedd(*arguments: str, cwd: Path, **env: str) -> Result:
    return await command("schedd", *arguments, cwd=cwd, **env)
