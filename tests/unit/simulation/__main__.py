"""Tells the whole story of seeds: `python -m tests.unit.simulation 17 --kind traps`.

Exit code 1 if anything is wrong. Kinds: see `playing.KINDS`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain

from tests.unit.simulation.history import History
from tests.unit.simulation.playing import KINDS, play

Line = tuple[datetime, str]


def story(history: History) -> Iterator[Line]:
    """What was stored and what went wrong, by the server's time."""
    journal = history.site.journal
    yield from ((at, f"TROUBLE {kind}") for at, kind in history.site.trouble.told)
    for schedule_id, versions in journal.versions.items():
        for each in versions:
            what = (
                "deleted" if each.deleted else "invalid" if each.definition is None else str(each.definition.schedule)
            )
            yield each.at, f"{schedule_id} is put as revision {each.revision}: {what}"
    for mark in journal.marks:
        yield mark.at, f"planned until {mark.until.time()}, edits applied up to {mark.applied}"
    for (key, drive), times in journal.pairs.items():
        yield from ((at, f"{key} is queued (drive {drive})") for at in times)
    for key, revisions in journal.records.items():
        yield from ((at, f"{key} is {each.state} ({each.reason}), attempt {each.attempt}") for at, each in revisions)
    for schedule_id, ranges in journal.ranges.items():
        for told in ranges:
            yield told.at, f"{schedule_id}: {told.count} {told.verdict} ({told.reason}), {told.first} to {told.last}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.unit.simulation", description=__doc__)
    parser.add_argument("seeds", metavar="SEED", nargs="+", type=int)
    parser.add_argument("--kind", choices=[*KINDS], default="plain")
    asked = parser.parse_args(arguments)
    problems = list(chain.from_iterable(_tell(seed, asked.kind) for seed in asked.seeds))
    return 1 if problems else 0


def _tell(seed: int, kind: str) -> list[str]:
    history, found = play(seed, **KINDS[kind])
    for at, what in sorted(story(history)):
        print(at.time(), what)
    print(f"seed {seed} of {kind}: {len(found)} violations", *found, sep="\n  ")
    return found


if __name__ == "__main__":
    sys.exit(main())
