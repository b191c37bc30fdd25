"""The checker of attempts: what workers noted (fsynced, append-only) against records and reports. Pure.

What it finds:

    undecided   no record, or none in a state in which it stays
    reopened    more than one such state in its history, or more than one final report
    twice       one attempt that started twice
    too_many    more attempts than max_tries
    unclaimed   an attempt that ran without a claim on record
    forfeited   an attempt that ran although its report says that it was given up, not run
    gaps        attempts on record that are not 1, 2, 3 ...
    untrue      recorded as succeeded without an attempt that came to its good end, or in another attempt
    phantom     noted or recorded though nothing asked for it
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct, field

TERMINAL = {"succeeded", "failed", "cancelled", "timed_out", "lost", "expired", "skipped"}
SHOWN = 5


class Note(Struct, frozen=True):
    """`what`: start, or how the function ended."""

    id: str
    attempt: int
    what: str


class Report(Struct, frozen=True):
    """`kind`: started, or the outcome of a finished; forfeit: claimed, and not run because the one before had ended
    after all, in the moment between a look at it and the claim."""

    id: str
    attempt: int
    kind: str


class AttemptFindings(Struct, frozen=True, kw_only=True):
    """Everything of it but the counts is a fault."""

    executions: int
    starts: int
    states: dict[str, int]
    ends: dict[str, int]
    tries: dict[int, int]
    forfeits: int
    faults: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [f"{kind} {len(found)}: {', '.join(found[:SHOWN])}" for kind, found in self.faults.items()]
        figures = f"{self.executions} executions, {self.starts} starts; states {self.states}; ends {self.ends}"
        return "; ".join([f"{figures}; executions by attempts {self.tries}, {self.forfeits} given up", *told])


def check_attempts(
    must: Collection[str],
    notes: Iterable[Note],
    records: Mapping[str, Mapping[str, Any]],
    reports: Iterable[Report],
    *,
    max_tries: int,
) -> AttemptFindings:
    """Compare all three."""
    notes, reports = list(notes), list(reports)
    starts = Counter((note.id, note.attempt) for note in notes if note.what == "start")
    claimed, final = defaultdict(set), Counter[str]()
    forfeits = {(report.id, report.attempt) for report in reports if report.kind == "forfeit"}
    for report in reports:
        if report.kind == "started":
            claimed[report.id].add(report.attempt)
        elif report.kind not in {"retry", "forfeit"}:
            final[report.id] += 1
    last = {id_: max(each for each in attempts if (id_, each) not in forfeits) for id_, attempts in claimed.items()}
    good = {(note.id, note.attempt) for note in notes if note.what == "ok"}
    known = {id_: records[id_] for id_ in must if id_ in records}
    found = {
        "undecided": [id_ for id_ in must if known.get(id_, {}).get("state") not in TERMINAL],
        "reopened": [id_ for id_, record in known.items() if _ends(record) != 1 or final[id_] > 1],
        "twice": [f"{id_} {attempt}" for (id_, attempt), count in starts.items() if count > 1],
        "too_many": [id_ for id_ in must if len(claimed[id_]) > max_tries],
        "unclaimed": [f"{id_} {attempt}" for id_, attempt in starts if attempt not in claimed[id_]],
        "forfeited": [f"{id_} {attempt}" for id_, attempt in forfeits if starts[id_, attempt]],
        "gaps": [id_ for id_ in must if claimed[id_] != set(range(1, len(claimed[id_]) + 1))],
        "untrue": [id_ for id_, record in known.items() if not _is_true(record, good, last.get(id_, 0))],
        "phantom": sorted(({id_ for id_, _ in starts} | records.keys()) - set(must)),
    }
    return AttemptFindings(
        executions=len(must),
        starts=sum(starts.values()),
        states=dict(Counter(f"{record['state']}/{record['reason']}" for record in known.values())),
        ends=dict(Counter(note.what for note in notes)),
        forfeits=len(forfeits),
        tries=dict(sorted(Counter(len(claimed[id_]) for id_ in must).items())),
        faults={kind: sorted(ids) for kind, ids in found.items() if ids},
    )


def _ends(record: Mapping[str, Any]) -> int:
    return sum(entry["state"] in TERMINAL for entry in record["history"])


def _is_true(record: Mapping[str, Any], good: Collection[tuple[str, int]], last: int) -> bool:
    """It names its last attempt; and a success is the good end of that."""
    return record["attempt"] == last and (record["state"] != "succeeded" or (record["id"], last) in good)
