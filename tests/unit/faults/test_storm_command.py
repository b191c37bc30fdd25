"""The command of the storm: what it takes, what it refuses, which earlier run it compares with, whose term was when."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.faults.origin import commit
from tests.faults.storm.__main__ import _known, parsed, seconds_of
from tests.faults.storm.figures import Term, figures_of
from tests.faults.storm.processes import terms_in
from tests.unit.faults.storm_histories import PLAN, after, clean

CALM = replace(PLAN, kill_every_s=0)


@pytest.mark.parametrize(("text", "seconds"), [("600s", 600), ("10m", 600), ("1h", 3600), ("0.5s", 0.5)])
def test_lengths(text: str, seconds: float) -> None:
    """Seconds, minutes, hours."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "600", "0s", "-5s", "nans", "2d", "25h"])
def test_lengths_that_are_none(text: str) -> None:
    """Told by argparse: exit code 2."""
    with pytest.raises(SystemExit) as problem:
        parsed(["--out", "x", f"--for={text}"])
    assert problem.value.code == 2


def test_the_command_of_the_issue() -> None:
    """As it is written there."""
    words = "--nodes 3 --rate 300 --for 600s --kill-every 5s --out DIR --undisturbed"
    asked = parsed(words.split(" "))
    assert (asked.nodes, asked.rate, asked.length_s, asked.kill_every_s) == (3, 300, 600, 5)
    assert asked.undisturbed
    assert asked.beside_s is None
    assert parsed([*words.split(" "), "--beside", "2m"]).beside_s == 120


def test_an_earlier_undisturbed_run_is_taken_only_if_it_is_the_same(tmp_path: Path) -> None:
    """Same commit, same settings, whatever its seed was; else, and where the file is none, it is run again."""
    place = tmp_path / "undisturbed.json"
    assert _known(place, CALM) is None
    figures = figures_of(CALM, replace(clean(), kills=[], terms=[]))
    place.write_bytes(msgspec.json.encode({"commit": commit(), "figures": figures}))
    assert _known(place, replace(CALM, seed=8)) == figures
    assert _known(place, replace(CALM, nodes=3)) is None
    place.write_bytes(msgspec.json.encode({"commit": "another", "figures": figures}))
    assert _known(place, CALM) is None
    place.write_text("{")
    assert _known(place, CALM) is None


def test_terms_are_read_from_logs() -> None:
    """From gained to lost; the last one to the end of its process, and never to before it began."""
    lines = [
        {"event": "ready", "at": after(0).isoformat()},
        {"event": "leadership_gained", "at": after(1).isoformat(), "epoch": 7},
        {"event": "leadership_lost", "at": after(2).isoformat()},
        {"event": "not_json", "message": "Traceback"},
        {"event": "leadership_gained", "at": after(4).isoformat(), "epoch": 9},
    ]
    first = Term(7, "a", after(1), after(2))
    assert terms_in(lines, "a", after(6)) == [first, Term(9, "a", after(4), after(6))]
    assert terms_in(lines, "a", after(3))[1] == Term(9, "a", after(4), after(4))
    assert terms_in([], "a", after(3)) == []
