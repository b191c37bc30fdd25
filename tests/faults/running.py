"""Runs the tests of faults by pytest, in a process of its own, and makes a page of what came of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from msgspec import Struct

from tests.faults.catalogue import ROOT, Listed

FIGURE = re.compile(r"^(.*\d+ expected, \d+ delivered.*|\d+ writes answered.*|happened: .*)$", re.MULTILINE)
"""What the checker prints about a run, and what was done in it (`tests/deeds.py`)."""
WORST = ("failed", "passed", "skipped", "not run")


class Case(Struct, frozen=True):
    """One test as it was run, each of its parameters by itself."""

    node: str
    result: str
    took_s: float
    figures: tuple[str, ...] = ()


class Outcome(Struct, frozen=True):
    """All of a run; `exit_code` is pytest's."""

    exit_code: int
    cases: tuple[Case, ...]

    @property
    def is_good(self) -> bool:
        """Everything that was run passed, and something was."""
        results = [case.result for case in self.cases]
        return self.exit_code == 0 and "passed" in results and "failed" not in results

    def of(self, node: str) -> list[Case]:
        return [case for case in self.cases if case.node.partition("[")[0] == node]


def run(found: Sequence[Listed], *, seed: int, marks: str | None) -> Outcome:
    """Run every test of these once; `marks`: an expression of pytest, None for all. Output goes to the terminal."""
    nodes = list(dict.fromkeys(test.node for each in found for test in each.tests))
    if not nodes:
        return Outcome(0, ())
    with tempfile.TemporaryDirectory(prefix="schedd-faults-") as folder:
        results = Path(folder) / "results.xml"
        only = [] if marks is None else ["-m", marks]
        told = [f"--junitxml={results}", "-o", "junit_logging=system-out", "-o", "junit_log_passing_tests=true"]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *only, *told, *nodes]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TEST_SEED": str(seed)}, check=False)
        return Outcome(done.returncode, cases_of(results.read_text()) if results.exists() else ())


def cases_of(xml: str) -> tuple[Case, ...]:
    """What a JUnit file of pytest tells."""
    return tuple(_case(each) for each in ElementTree.fromstring(xml).iter("testcase"))


def _case(element: ElementTree.Element) -> Case:
    result = "passed"
    for kind, word in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
        result = word if element.find(kind) is not None else result
    place = str(element.get("classname")).replace(".", "/") + ".py"
    output = element.findtext("system-out") or ""
    figures = tuple(found.strip() for found in FIGURE.findall(output))
    return Case(f"{place}::{element.get('name')}", result, float(element.get("time") or 0), figures)


def page_of(
    found: Sequence[Listed], outcome: Outcome, *, command: str, seed: int, at: datetime, where: Sequence[str]
) -> str:
    """One page of Markdown: a line a fault, what the checker counted, what is missing. `where`: as `origin` tells."""
    counts = [result_of(each, outcome) for each in found]
    words = ", ".join(f"{counts.count(word)} {word}" for word in (*WORST, "missing") if word in counts)
    lines = [
        f"# Faults: {words}",
        "",
        f"{at:%Y-%m-%d %H:%M} UTC, seed {seed}, `{command}`",
        "",
        *(f"- {each}" for each in where),
        "",
        "| | what is broken | what has to hold | result | tests | s |",
        "|---|---|---|---|---|---|",
        *(_row(each, outcome) for each in found),
    ]
    figures = [f"- `{case.node}`: {'; '.join(case.figures)}" for case in outcome.cases if case.figures]
    missing = [f"- {each.fault.id} {each.state}: {each.fault.missing}" for each in found if each.fault.missing]
    failed = [f"- `{case.node}`" for case in outcome.cases if case.result == "failed"]
    for title, told in (
        ("Failed", failed),
        ("What happened, and what the checker counted", figures),
        ("What no test does", missing),
    ):
        lines += ["", f"## {title}", "", *told] if told else []
    return "\n".join(lines) + "\n"


def result_of(each: Listed, outcome: Outcome) -> str:
    """The worst of its tests; `missing` for a fault that has none."""
    results = {case.result for test in each.tests for case in outcome.of(test.node)}
    if not each.tests:
        return "missing"
    return next((word for word in WORST if word in results), "not run")


def _row(each: Listed, outcome: Outcome) -> str:
    cases = [case for test in each.tests for case in outcome.of(test.node)]
    passed, skipped = (sum(case.result == word for case in cases) for word in ("passed", "skipped"))
    result = result_of(each, outcome)
    told = f"{result}, partly held" if result == "passed" and each.fault.missing else result
    took_s = sum(case.took_s for case in cases)
    fault = each.fault
    counts = f"{passed} of {len(cases)}" + (f", {skipped} skipped" if skipped else "")
    return f"| {fault.id} | {fault.broken} | {fault.expected} | {told} | {counts} | {took_s:.0f} |"
