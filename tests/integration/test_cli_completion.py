"""Completion, by the shells themselves."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.fake_daemon import FakeDaemon, connected, nats_server

SCHEDULE = {"every": "10s", "queue": "EMAIL", "type": "t"}
BASH = """
source <(schedctl completion bash)
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _schedctl_completion schedctl; echo "${COMPREPLY[*]}"; }
"""
ZSH = """
compdef() {{ :; }}; _files() {{ :; }}; _arguments() {{ print -r -- "$@"; }}
source <(schedctl completion zsh)
words=({words}); CURRENT=${{#words}}; _schedctl_completion
"""
FISH = "schedctl completion fish | source; complete -C {line}"


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with nats_server(tmp_path) as url, connected(url) as client:
        daemon = FakeDaemon()
        daemon.schedules = dict.fromkeys(("hello", "hello-again", "other"), (1, SCHEDULE))
        await daemon.serve(client)
        yield url


async def asked(shell: str, script: str, url: str) -> str:
    """What the shell prints, and that nothing went to stderr."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "SCHEDD_"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = await asyncio.to_thread(
        subprocess.run, [shell, *quiet, "-c", script], env={**clean, "PATH": path, "NATS_URL": url},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


async def bash(url: str, *lines: str) -> list[list[str]]:
    """What is offered for each line, whose last word may be empty: `''`."""
    script = BASH + "\n".join(f"ask schedctl {line}" for line in lines)
    return [offered.split() for offered in (await asked("bash", script, url)).splitlines()]


async def test_bash(url: str) -> None:
    """Subcommands, flags, ids of schedules, states and queues; options before the subcommand are heeded."""
    commands, *others = await bash(
        url, "c", "status --deta", "get hel", "pause hello ot", "list --state pa", "executions list --queue ''"
    )
    assert {"completion", "calendar"} <= set(commands)
    assert others == [["--detailed"], ["hello", "hello-again"], ["other"], ["paused"], ["EMAIL"]]
    assert await bash("nats://127.0.0.1:1", f"--nats {url} get hel") == [["hello", "hello-again"]]


async def test_zsh(url: str) -> None:
    """What the completion system gets to offer."""
    found = await asked("zsh", ZSH.format(words="schedctl get hel"), url)
    assert '"hello"' in found
    assert '"hello-again"' in found
    assert '"pause":"Pause schedules' in await asked("zsh", ZSH.format(words="schedctl pau"), url)


async def test_fish(url: str) -> None:
    """By its own `complete -C`."""
    assert (await asked("fish", FISH.format(line="'schedctl get hel'"), url)).split() == ["hello", "hello-again"]
    assert (await asked("fish", FISH.format(line="'schedctl pau'"), url)).startswith("pause\tPause schedules")


async def test_nobody_there() -> None:
    """No server: nothing is offered, nothing is said, and the prompt is back soon."""
    began_s = time.monotonic()
    assert await bash("nats://127.0.0.1:1", "get hel") == [[]]
    assert time.monotonic() - began_s < 10  # two starts of Python on a busy machine, and the bound of 1.5 s
