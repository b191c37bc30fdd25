"""The checker of attempts finds what it says: each fault by hand, and nothing where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.attempts import AttemptFindings, Note, Report, check_attempts

GOOD_NOTES = [Note("a", 1, "start"), Note("a", 1, "raise"), Note("a", 2, "start"), Note("a", 2, "ok")]
GOOD_REPORTS = [
    Report("a", 1, "started"), Report("a", 1, "retry"), Report("a", 2, "started"), Report("a", 2, "succeeded"),
]  # fmt: skip


def record(state: str = "succeeded", attempt: int = 2, *states: str) -> dict[str, Any]:
    history = [{"state": each} for each in states or ("queued", "running", state)]
    return {"id": "a", "state": state, "reason": None, "attempt": attempt, "history": history}


def check(notes: list[Note], found: dict[str, Any] | None, reports: list[Report]) -> AttemptFindings:
    return check_attempts({"a"}, notes, {} if found is None else {"a": found}, reports, max_tries=2)


def test_what_is_right() -> None:
    """A retry and a success; a claim that was given up because the attempt before had ended after all."""
    findings = check(GOOD_NOTES, record(), GOOD_REPORTS)
    assert (findings.faults, findings.starts, findings.states) == ({}, 2, {"succeeded/None": 1})
    late = [
        Report("a", 1, "started"),
        Report("a", 1, "succeeded"),
        Report("a", 2, "started"),
        Report("a", 2, "forfeit"),
    ]
    findings = check([Note("a", 1, "start"), Note("a", 1, "ok")], record(attempt=1), late)
    assert (findings.faults, findings.forfeits) == ({}, 1)


@pytest.mark.parametrize(
    ("fault", "notes", "found", "reports"),
    [
        ("undecided", GOOD_NOTES, None, GOOD_REPORTS),
        ("undecided", GOOD_NOTES, record("running"), GOOD_REPORTS),
        ("reopened", GOOD_NOTES, record("succeeded", 2, "failed", "queued", "succeeded"), GOOD_REPORTS),
        ("reopened", GOOD_NOTES, record(), [*GOOD_REPORTS, Report("a", 1, "failed")]),
        ("twice", [*GOOD_NOTES, Note("a", 2, "start")], record(), GOOD_REPORTS),
        ("too_many", GOOD_NOTES, record(attempt=3), [*GOOD_REPORTS, Report("a", 3, "started")]),
        ("unclaimed", [*GOOD_NOTES, Note("a", 3, "start")], record(), GOOD_REPORTS),
        ("forfeited", GOOD_NOTES, record(), [*GOOD_REPORTS[:-1], Report("a", 2, "forfeit")]),
        ("gaps", GOOD_NOTES[2:], record(), GOOD_REPORTS[2:]),
        ("untrue", GOOD_NOTES[:-1], record(), GOOD_REPORTS),
        ("untrue", GOOD_NOTES, record(attempt=1), GOOD_REPORTS),
        ("phantom", [*GOOD_NOTES, Note("b", 1, "start")], record(), GOOD_REPORTS),
    ],
)
def test_each_fault_is_found(
    fault: str, notes: list[Note], found: dict[str, Any] | None, reports: list[Report]
) -> None:
    """One thing wrong, and it is named."""
    assert fault in check(notes, found, reports).faults
