"""Reading a task from its message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.execution import Execution, Kind
from scheduler.wire import headers as h
from scheduler.wire.ids import execution_id
from scheduler.wire.names import Names
from scheduler.wire.task import task_headers
from scheduler.worker.task import parse_task

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAMES = Names("team1")
ID = execution_id("a.b", NOON)
SUBJECT = NAMES.task("Q", ID)


def test_what_the_dispatcher_writes_is_read() -> None:
    """Every header of the contract comes out; what is not the user's is not among the user's headers."""
    execution = Execution(
        id=ID, schedule="a.b", generation=7, epoch=1, kind=Kind.MANUAL, nominal_at=NOON,
        fire_at=NOON + timedelta(milliseconds=250), queue="Q", type="email:monthly", timeout_s=1.25, max_tries=4,
        attempts_before=2, drive=1, headers={"X-Mine": "1", "traceparent": "00-1"},
    )  # fmt: skip
    headers = {**task_headers(execution, NOON - timedelta(days=1), None), "Nats-Batch-Id": "leaked"}
    task = parse_task(NAMES, SUBJECT, headers, b"{}")
    assert (task.execution_id, task.schedule_id, task.queue, task.type, task.kind) == (
        ID, "a.b", "Q", "email:monthly", "manual",
    )  # fmt: skip
    assert (task.nominal_at, task.fire_at) == (NOON, NOON + timedelta(milliseconds=250))
    assert (task.previous_at, task.next_at, task.deadline) == (NOON - timedelta(days=1), None, None)
    assert (task.timeout_s, task.max_tries, task.attempts_before) == (1.25, 4, 2)
    assert task.headers == {"X-Mine": "1", "traceparent": "00-1"}
    assert task.body == b"{}"


def test_headers_that_do_not_apply_are_left_out() -> None:
    """With the execution id alone, times come from it and limits are the worker's."""
    task = parse_task(NAMES, SUBJECT, {h.EXECUTION_ID: ID}, b"")
    assert (task.schedule_id, task.nominal_at, task.fire_at) == ("a.b", NOON, NOON)
    assert (task.timeout_s, task.max_tries, task.attempts_before) == (None, None, 0)


@pytest.mark.parametrize(
    ("subject", "headers", "field"),
    [
        (SUBJECT, {}, h.EXECUTION_ID),
        (SUBJECT, {h.EXECUTION_ID: "another"}, h.EXECUTION_ID),
        ("schedd.task.Q." + ID, {h.EXECUTION_ID: ID}, h.EXECUTION_ID),
        (NAMES.task("Q", "x"), {h.EXECUTION_ID: "x"}, h.EXECUTION_ID),
        (SUBJECT, {h.EXECUTION_ID: ID, h.NOMINAL_AT: "noon"}, h.NOMINAL_AT),
        (SUBJECT, {h.EXECUTION_ID: ID, h.TIMEOUT: "-1"}, h.TIMEOUT),
        (SUBJECT, {h.EXECUTION_ID: ID, h.TIMEOUT: "nan"}, h.TIMEOUT),
        (SUBJECT, {h.EXECUTION_ID: ID, h.MAX_TRIES: "0"}, h.MAX_TRIES),
        (SUBJECT, {h.EXECUTION_ID: ID, h.ATTEMPTS_BEFORE: "1e3"}, h.ATTEMPTS_BEFORE),
    ],
)
def test_poison_is_named(subject: str, headers: dict[str, str], field: str) -> None:
    """A message that cannot be a task of schedd is refused, and the header named."""
    with pytest.raises(InvalidArgument) as caught:
        parse_task(NAMES, subject, headers, b"")
    assert caught.value.field == field
