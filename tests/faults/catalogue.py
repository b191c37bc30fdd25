"""What there is of the registry: reads test files without running them, and tells what CI runs of it.

A test is looked for by name in its file; whether it is slow is read from its marks, those of its parameters and those
of the file. Nothing is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path

from msgspec import Struct

from tests.faults.registry import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]


class Where(StrEnum):
    """Where a test runs. `BOTH`: in CI, and longer by hand."""

    CI = "CI"
    SLOW = "slow"
    BOTH = "CI+slow"


class Test(Struct, frozen=True):
    """One test of a fault; `where` None: there is no such test."""

    __test__ = False
    node: str
    where: Where | None


class Listed(Struct, frozen=True):
    """One fault with what was found of its tests."""

    fault: Fault
    tests: tuple[Test, ...]

    @property
    def state(self) -> str:
        """held, partly (something is missing), or missing (nothing holds it)."""
        if not any(each.where for each in self.tests):
            return "missing"
        return "partly" if self.fault.missing else "held"

    @property
    def runs(self) -> str:
        """CI if CI runs any of it, and slow if anything of it is only run by hand."""
        found = {each.where for each in self.tests}
        words = []
        if found & {Where.CI, Where.BOTH}:
            words.append("CI")
        if found & {Where.SLOW, Where.BOTH}:
            words.append("slow")
        return "+".join(words) or "-"


def listed(faults: Iterable[Fault] = FAULTS) -> list[Listed]:
    return [Listed(fault, tuple(Test(node, where_of(node)) for node in fault.tests)) for fault in faults]


def chosen(ids: Sequence[str]) -> list[Fault]:
    """The faults of these ids, in order of the registry. Raises ValueError with the ids that are none."""
    known = {each.id: each for each in FAULTS}
    unknown = [each for each in ids if each not in known]
    if unknown:
        raise ValueError(f"no such fault: {', '.join(unknown)}; there are {FAULTS[0].id} to {FAULTS[-1].id}")
    return [each for each in FAULTS if each.id in ids]


def where_of(node: str) -> Where | None:
    """Where that test runs; None if there is none of that name."""
    place, _, name = node.partition("::")
    marks = _marks_of(place).get(name)
    if marks is None:
        return None
    always, sometimes = marks
    return Where.SLOW if always else Where.BOTH if sometimes else Where.CI


@cache
def _marks_of(place: str) -> dict[str, tuple[bool, bool]]:
    """Of each test of a file: whether it is slow, and whether some of its parameters are."""
    path = ROOT / place
    if not path.is_file():
        return {}
    body = ast.parse(path.read_text()).body
    told = _told(body)
    whole = "mark.slow" in told.get("pytestmark", "")
    found = {}
    for each in body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name.startswith("test_"):
            marks = [_spelled(mark, told) for mark in each.decorator_list]
            slow = ["parametrize" in mark for mark in marks if "mark.slow" in mark]
            found[each.name] = (whole or not all(slow), any(slow))
    return found


def _told(body: Iterable[ast.stmt]) -> dict[str, str]:
    """What the names of a file stand for, spelled out."""
    told: dict[str, str] = {}
    for each in body:
        if isinstance(each, ast.Assign):
            spelled = _spelled(each.value, told)
            told |= {target.id: spelled for target in each.targets if isinstance(target, ast.Name)}
    return told


def _spelled(node: ast.AST, told: Mapping[str, str]) -> str:
    """An expression with, behind it, what its names stand for."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return " ".join([ast.unparse(node), *(told[name] for name in sorted(names & told.keys()))])
