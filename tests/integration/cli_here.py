"""`schedctl` in this process: a start of Python for each command would take most of a test's time."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout

import pytest

from cli.running import run
from cli.schedctl import app
from tests.integration.cli_process import Result

Cli = Callable[..., Awaitable[Result]]


def cli_at(url: str, **always: str) -> Cli:
    """`await cli("list", "--json", stdin="...", ENV="...")`, one at a time, as its user would get it from a process."""

    async def call(*arguments: str, stdin: str = "", **env: str) -> Result:
        return await asyncio.to_thread(_call, arguments, stdin, {"NATS_URL": url, **always, **env})

    return call


def _call(arguments: tuple[str, ...], stdin: str, env: Mapping[str, str]) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in ("NATS_CONTEXT", "SCHEDD_NAMESPACE", "VISUAL", "EDITOR"):
            patch.delenv(name, raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = run(app, "schedctl", arguments)
    assert "Traceback" not in err.getvalue()
    return Result(code, out.getvalue(), err.getvalue())
