"""The faults by one command.

    python -m tests.faults --list                      what there is, where it runs, what is missing
    python -m tests.faults --run F1,F5 [--out DIR]     run the tests of these, write a page about it
    python -m tests.faults --all [--quick|--slow]      all of them; --quick: only what CI runs; --slow: only the rest

Exit code 0: all passed; 1: something failed, or a fault has no test; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.catalogue import Listed, chosen, listed
from tests.faults.origin import where
from tests.faults.registry import FAULTS
from tests.faults.running import Outcome, page_of, run


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true")
    what.add_argument("--run", metavar="F1[,F5...]")
    what.add_argument("--all", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where faults.md goes; default: here")
    parser.add_argument("--seed", type=int, default=None, help="TEST_SEED of the runs; default: a random one")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", dest="marks", action="store_const", const="not slow", help="only what CI runs")
    which.add_argument("--slow", dest="marks", action="store_const", const="slow", help="only what CI leaves out")
    asked = parser.parse_args(arguments)
    try:
        asked.faults = chosen(asked.run.split(",")) if asked.run is not None else list(FAULTS)
    except ValueError as problem:
        parser.error(str(problem))
    return asked


def main(arguments: list[str]) -> int:
    asked = parsed(arguments)
    found = listed(asked.faults)
    if asked.list:
        print("\n".join(lines_of(found)))
        return 0
    seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
    began, origin = datetime.now(UTC), where()
    outcome: Outcome = run(found, seed=seed, marks=asked.marks)
    command = shlex.join(["python", "-m", "tests.faults", *arguments])
    asked.out.mkdir(parents=True, exist_ok=True)
    place = asked.out / "faults.md"
    place.write_text(page_of(found, outcome, command=command, seed=seed, at=began, where=origin))
    print(f"written to {place}")
    return 0 if outcome.is_good and all(each.tests for each in found) else 1


def lines_of(found: list[Listed]) -> list[str]:
    """A fault in a few lines of text: state, where it runs, what is done and expected, its tests."""
    lines = []
    for each in found:
        fault = each.fault
        lines += [f"{fault.id:4} {each.state:8} {each.runs:8} {fault.broken}", f"{'':22}expected: {fault.expected}"]
        lines += [f"{'':22}{test.where or 'NOT THERE':8} {test.node}" for test in each.tests]
        lines += [f"{'':22}missing: {fault.missing}"] if fault.missing else []
    states = [each.state for each in found]
    words = ", ".join(f"{states.count(word)} {word}" for word in ("held", "partly", "missing"))
    return [*lines, "", f"{len(found)} faults: {words}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
