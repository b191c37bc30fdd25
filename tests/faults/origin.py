"""Where the figures of a report come from: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess

from scheduler.embedded import find_binary
from tests.acceptance.processes import ROOT


def commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def where() -> list[str]:
    """What the figures were taken on, without the name of the machine."""
    server = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=False).stdout.strip()
    machine = f"{os.cpu_count()} cores with everything on them, {platform.system()} {platform.machine()}"
    return [f"{machine}, Python {platform.python_version()}, {server}, schedd at {commit()}"]
