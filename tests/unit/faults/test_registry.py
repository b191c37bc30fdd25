"""The registry of faults is held to what there is: every fault in it, every test it names, every figure of its page."""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.__main__ import lines_of, main
from tests.faults.catalogue import ROOT, Where, chosen, listed, where_of
from tests.faults.registry import FAULTS, Fault
from tests.faults.running import Case, Outcome, cases_of, page_of

REPLICAS = "tests/faults/test_replicas.py"
NODES = sorted({node for fault in FAULTS for node in fault.tests})
HELD = Fault(id="F1", broken="b", expected="e", tests=(f"{REPLICAS}::test_stop_of_all_and_start_of_one_goes_on",))
PARTLY = Fault(id="F2", broken="b", expected="e", tests=("tests/faults/test_gone.py::test_x", *HELD.tests), missing="m")
MISSING = Fault(id="F3", broken="b", expected="e", missing="everything")
XML = """<testsuites><testsuite>
<testcase classname="tests.faults.test_replicas" name="test_stop_of_all_and_start_of_one_goes_on[1]" time="2.5">
<system-out>TEST_SEED=1
400 expected, 400 delivered, 0 redelivered; worst 0.010 s late
happened: 2x SIGKILL to a replica
</system-out></testcase>
<testcase classname="tests.faults.test_replicas" name="test_b" time="1"><failure message="no">no</failure></testcase>
<testcase classname="tests.faults.test_replicas" name="test_c" time="0"><skipped message="no spin"/></testcase>
</testsuite></testsuites>"""


def test_every_fault_is_there_once() -> None:
    """F1 to F28, in order."""
    assert [fault.id for fault in FAULTS] == [f"F{number}" for number in range(1, 29)]


@pytest.mark.parametrize("node", NODES)
def test_every_test_that_is_named_exists(node: str) -> None:
    """By its file and its name, and it is no parameter of one."""
    assert where_of(node) is not None
    assert "[" not in node


def test_no_fault_names_a_test_twice() -> None:
    """A test may hold two faults, but not one fault twice."""
    for fault in FAULTS:
        assert len(set(fault.tests)) == len(fault.tests), fault.id


def test_nothing_is_silently_untested() -> None:
    """A fault without a test says what is missing, and no fault is without a word."""
    for fault in FAULTS:
        assert fault.tests or fault.missing, fault.id
        assert fault.broken, fault.id
        assert fault.expected, fault.id


@pytest.mark.parametrize(
    ("node", "where"),
    [
        (f"{REPLICAS}::test_kill_term_hands_over_in_under_a_second", Where.CI),
        (f"{REPLICAS}::test_killing_leaders_loses_and_doubles_nothing", Where.BOTH),
        ("tests/faults/test_nats.py::test_nats_killed_and_restarted_loses_and_doubles_nothing", Where.BOTH),
        ("tests/faults/test_soak.py::test_a_soak_loses_nothing_and_gives_everything_back", Where.SLOW),
        ("tests/faults/test_soak.py::test_nobody_wrote_this", None),
        ("tests/faults/test_nowhere.py::test_x", None),
        ("tests/faults/test_soak.py::Nemesis", None),
    ],
)
def test_where_a_test_runs_is_read_from_its_marks(node: str, where: Where | None) -> None:
    """Its own, those of its parameters by their name in the file, and none for what is not there."""
    assert where_of(node) == where


def test_the_marks_of_the_storm_are_those_of_the_registry() -> None:
    """The storm is for hands: CI has no minutes for it."""
    assert where_of("tests/faults/test_storm.py::test_a_minute_of_storm_breaks_no_guarantee") is Where.SLOW


def test_states() -> None:
    """Held, partly held, missing."""
    assert [each.state for each in listed([HELD, PARTLY, MISSING])] == ["held", "partly", "missing"]
    assert [each.runs for each in listed([HELD, MISSING])] == ["CI", "-"]


def test_the_list() -> None:
    """Each fault with its state, its tests and what is missing; a test that is not there is told as such."""
    text = "\n".join(lines_of(listed([HELD, PARTLY, MISSING])))
    assert "NOT THERE tests/faults/test_gone.py::test_x" in text
    assert "missing: everything" in text
    assert text.endswith("3 faults: 1 held, 1 partly, 1 missing")


def test_choosing() -> None:
    """By id, in order of the registry; what is none is an error that names it."""
    assert [fault.id for fault in chosen(["F5", "F1"])] == ["F1", "F5"]
    with pytest.raises(ValueError, match="F29"):
        chosen(["F1", "F29"])


@pytest.mark.parametrize("arguments", [["--run", "F29"], [], ["--run", ""], ["--list", "--all"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Told by argparse, without a traceback, before anything is run."""
    with pytest.raises(SystemExit) as problem:
        main(arguments)
    assert problem.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_fault_without_tests_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--run` of a missing one runs nothing, says so on its page, and does not exit with 0."""
    monkeypatch.setattr("tests.faults.__main__.chosen", lambda _: [MISSING])
    assert main(["--run", "F3", "--out", str(tmp_path), "--seed", "1"]) == 1
    assert "| F3 |" in (tmp_path / "faults.md").read_text()
    assert "# Faults: 1 missing" in (tmp_path / "faults.md").read_text()


def test_results_are_read() -> None:
    """From the file that pytest writes: parameters apart, with what the checker has printed."""
    good, bad, skipped = cases_of(XML)
    told = "400 expected, 400 delivered, 0 redelivered; worst 0.010 s late"
    assert good == Case(f"{HELD.tests[0]}[1]", "passed", 2.5, (told, "happened: 2x SIGKILL to a replica"))
    assert (bad.result, skipped.result) == ("failed", "skipped")
    assert Outcome(1, (good, bad)).of(HELD.tests[0]) == [good]
    assert Outcome(0, (good,)).is_good
    assert not Outcome(0, ()).is_good
    assert not Outcome(1, (good, bad)).is_good


def test_the_page() -> None:
    """Date, command, seed, a row a fault, figures, what failed, what is missing."""
    found = listed([HELD, PARTLY, MISSING])
    at = datetime(2026, 11, 21, 16, 30, tzinfo=UTC)
    page = page_of(
        found,
        Outcome(1, cases_of(XML)),
        command="python -m tests.faults --all",
        seed=7,
        at=at,
        where=["2 cores, commit 1234567"],
    )
    assert "2026-11-21 16:30 UTC, seed 7, `python -m tests.faults --all`" in page
    assert "- 2 cores, commit 1234567" in page
    assert "| F1 | b | e | passed | 1 of 1 | 2 |" in page
    assert "| F2 | b | e | passed, partly held | 1 of 1 | 2 |" in page
    assert "| F3 | b | e | missing | 0 of 0 | 0 |" in page
    assert "400 expected, 400 delivered, 0 redelivered; worst 0.010 s late; happened: 2x SIGKILL to a replica" in page
    assert f"- `{REPLICAS}::test_b`" in page
    assert "- F3 missing: everything" in page


def test_nothing_slow_is_hidden_in_a_file_of_ours() -> None:
    """The reader of marks knows every way in which the files that it reads say `slow`."""
    for place in {node.partition("::")[0] for node in NODES}:
        body = ast.parse((ROOT / place).read_text()).body
        names = [each.name for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        found = [name for name in names if where_of(f"{place}::{name}") in {Where.SLOW, Where.BOTH}]
        assert bool(found) == ("mark.slow" in (ROOT / place).read_text()), place
