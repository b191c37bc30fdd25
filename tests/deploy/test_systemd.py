"""deploy/systemd/schedd.service: systemd understands it and finds little to attack; what it sets is what we read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scheduler.config import Settings
from tests.deploy.tools import ROOT, run

UNIT = ROOT / "deploy" / "systemd" / "schedd.service"
TEXT = UNIT.read_text()
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")


@needs_systemd
def test_systemd_understands_it(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, once the program it names is one that is here."""
    unit = tmp_path / "schedd.service"
    unit.write_text(TEXT.replace("/opt/schedd/bin/schedd", "/bin/true"))
    done = run("systemd-analyze", "verify", unit)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_it_is_locked_in() -> None:
    """systemd's own measure of exposure, 0 (none) to 10."""
    done = run("systemd-analyze", "security", "--offline=true", UNIT)
    found = re.search(r"exposure level for schedd.service: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze cannot judge a file: {done.stderr}")
    assert float(found[1]) < 2


def test_it_runs_our_command_with_our_settings() -> None:
    """The environment is one that `schedd run` reads, and it may take its time to hand over."""
    assert re.search(r"^ExecStart=\S+/schedd run --log-format json$", TEXT, re.MULTILINE)
    [line] = re.findall(r"^Environment=(.*)$", TEXT, re.MULTILINE)
    env = dict(word.split("=", 1) for word in line.split())
    settings = Settings.load({}, env)
    assert settings.warnings(env) == []
    [stop] = re.findall(r"^TimeoutStopSec=(\d+)s$", TEXT, re.MULTILINE)
    assert int(stop) >= settings.shutdown_s + 12
