"""`schedctl` in a process of its own, as a user meets it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

HELLO = {"every": "10s", "queue": "default", "type": "hello", "payload": {"n": 1}}
ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Awaitable[Result]]


async def start(*arguments: str, **env: str) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "SCHEDD_", "COLUMNS"))}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.schedctl", *arguments, cwd=ROOT, env={**clean, "XDG_CONFIG_HOME": "/nowhere", **env},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def run(*arguments: str, stdin: str = "", **env: str) -> Result:
    process = await start(*arguments, **env)
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    assert b"Traceback" not in err
    return Result(process.returncode, out.decode(), err.decode())
