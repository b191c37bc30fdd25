"""The page and the picture of a storm: well formed, and what is broken is seen in both."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
from msgspec.structs import replace

from tests.faults.storm.figures import Figures, figures_of
from tests.faults.storm.picture import GREEN, RED, picture
from tests.faults.storm.report import report
from tests.unit.faults.storm_histories import PLAN, clean, moved, without

GOOD, BAD = figures_of(PLAN, clean()), figures_of(PLAN, without(clean(), 100))
CALM = figures_of(replace(PLAN, kill_every_s=0), replace(moved(clean(), 5, 0.1), kills=[]))


def page(figures: Figures, beside: Figures | None = None) -> str:
    return report(figures, beside, command="python -m x", where=["2 cores"], picture="timeline.svg")


def rectangles(figures: Figures, kind: str) -> list[str]:
    tree = ElementTree.fromstring(picture(figures))
    return [
        str(each.get("fill")) for each in tree.iter("{http://www.w3.org/2000/svg}rect") if each.get("class") == kind
    ]


def test_a_good_page() -> None:
    """Verdict, command, seed and figures, with the undisturbed run beside them."""
    text = page(GOOD, CALM)
    assert "**Every guarantee held.**" in text
    assert "| | this run | undisturbed, 20 s |" in text
    assert "| owed | 398 | 398 |" in text
    assert "| lost | 0 | 0 |" in text
    assert "| lateness max | 10 ms | 110 ms |" in text
    assert "seed 7" in text
    assert "3 kills of the leader, 3 take-overs" in text
    assert "## What is broken" not in text
    assert len(text.splitlines()) < 60, "one page"


def test_a_bad_page() -> None:
    """What is broken stands at the top and is named at the end."""
    text = page(BAD)
    assert "**BROKEN: lost: 1" in text
    assert "| lost | 1 |" in text
    assert f"`{BAD.findings.lost[0]}`" in text


def test_a_good_picture() -> None:
    """Every window is green; each term and each kill has its mark."""
    assert rectangles(GOOD, "green") == [GREEN] * 20
    assert rectangles(GOOD, "red") == []
    assert len(rectangles(GOOD, "term")) == 4
    assert picture(GOOD).count('class="kill"') == 3
    assert "every guarantee held" in picture(GOOD)


def test_a_bad_picture() -> None:
    """The window of the fault is red, and it alone."""
    assert rectangles(BAD, "red") == [RED]
    assert len(rectangles(BAD, "green")) == 19
    assert "BROKEN: lost: 1" in picture(BAD)


def test_a_picture_of_nothing_is_one_too() -> None:
    """No term, no kill, no delivery: still well-formed."""
    empty = figures_of(PLAN, replace(clean(), terms=[], kills=[], deliveries=[]))
    assert ElementTree.fromstring(picture(empty, CALM)) is not None


def test_figures_survive_their_file() -> None:
    """What is kept as JSON for the next report comes back as it was."""
    assert msgspec.json.decode(msgspec.json.encode(GOOD), type=Figures) == GOOD
