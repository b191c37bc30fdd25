"""The protocol in Promela, searched by spin: every interleaving of the model, and each mechanism's negative control."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parent / "model"
DEPTH = "100000"

pytestmark = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("gcc") is None,
    reason="spin and gcc are not there (.ci/run installs them where it may)",
)


def searched(folder: Path, model: str, *without: str) -> str:
    """What spin's search of a model says, some of its mechanisms left out."""
    for command in (
        ["spin", "-a", *(f"-D{each}" for each in without), str(MODEL / model)],
        ["gcc", "-O2", "-w", "-DSAFETY", "-o", "pan", "pan.c"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    found = subprocess.run(
        ["./pan", f"-m{DEPTH}"], cwd=folder, check=False, capture_output=True, text=True, timeout=100
    )
    return found.stdout


@pytest.mark.parametrize("model", ["office.pml", "dispatch.pml"])
def test_it_holds_in_every_interleaving(tmp_path: Path, model: str) -> None:
    """order and fence; once and end: the search is complete, and finds nothing."""
    said = searched(tmp_path, model)
    assert "errors: 0" in said, said
    assert "Search not completed" not in said, said
    assert "max search depth too small" not in said, said


@pytest.mark.parametrize(
    ("model", "without", "violated"),
    [
        ("office.pml", "NO_ORDER", "my_lease>epoch_lease"),
        ("office.pml", "NO_FENCE", "planned>=applied"),
        ("dispatch.pml", "NO_CLAIM", "tasks<=1"),
        ("dispatch.pml", "NO_ATTEMPT", "starts<=1"),
        ("dispatch.pml", "NO_WITHHOLD", "record!=1"),
    ],
)
def test_each_mechanism_is_needed(tmp_path: Path, model: str, without: str, violated: str) -> None:
    """Without it spin finds the case that it is for: the model can fail."""
    assert f"assertion violated ({violated})" in searched(tmp_path, model, without)
