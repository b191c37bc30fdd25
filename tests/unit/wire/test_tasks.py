"""Subjects of the tasks stream."""

from __future__ import annotations

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.wire.names import Names
from scheduler.wire.tasks import parse_claim_subject, parse_task_subject

NAMES = Names("team1")
TAIL = "20261121T080000000Z"


@pytest.mark.parametrize("execution_id", [f"a.{TAIL}", f"a.b.1.{TAIL}", f"x.{TAIL}-mnonce_1", f"x.{TAIL}-bfill"])
def test_both_ways(execution_id: str) -> None:
    """Claim and task subjects give back what they were made of, dots in ids or not."""
    assert parse_claim_subject(NAMES, NAMES.claim(execution_id, 12)) == (execution_id, 12)
    assert parse_task_subject(NAMES, NAMES.task("E-mail_2", execution_id)) == ("E-mail_2", execution_id)


@pytest.mark.parametrize(
    "rest", ["", f"a.{TAIL}", f"a.{TAIL}.x", f"a.{TAIL}.-1", f"a.{TAIL}.¹", "a.b.0", f"a.{TAIL}.9999999999"]
)
def test_no_claims(rest: str) -> None:
    """What is no claim's subject is refused."""
    with pytest.raises(InvalidArgument):
        parse_claim_subject(NAMES, f"team1.claim.{rest}")


@pytest.mark.parametrize("subject", ["", f"team1.claim.Q.a.{TAIL}", "team1.task.Q.a", f"schedd.task.Q.a.{TAIL}"])
def test_no_tasks(subject: str) -> None:
    """What is no task's subject is refused."""
    with pytest.raises(InvalidArgument):
        parse_task_subject(NAMES, subject)
