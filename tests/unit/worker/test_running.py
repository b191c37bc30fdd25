"""What a worker has in hand, and who may end it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scheduler.core.model.execution import Execution, Kind
from scheduler.wire.ids import execution_id
from scheduler.wire.names import Names
from scheduler.wire.reports import Cancel
from scheduler.wire.task import task_headers
from scheduler.worker.attempt import Brake
from scheduler.worker.deciding import How
from scheduler.worker.running import Runner
from scheduler.worker.task import Task, parse_task

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAMES = Names("schedd")
ID, OTHER = execution_id("a", NOON), execution_id("b", NOON)


def task(drive: int) -> Task:
    """As the worker reads it."""
    execution = Execution(
        id=ID, schedule="a", generation=7, epoch=1, kind=Kind.AUTO, nominal_at=NOON, fire_at=NOON, queue="Q", type="t",
        drive=drive,
    )  # fmt: skip
    return parse_task(NAMES, NAMES.task("Q", ID), task_headers(execution, None, None), b"")


@pytest.mark.parametrize(
    ("drive", "of", "request_", "is_ended"),
    [
        (0, ID, Cancel(), True),
        (1, ID, Cancel(drive=1), True),
        (1, ID, Cancel(), False),
        (2, ID, Cancel(drive=1), False),
        (0, OTHER, Cancel(), False),
    ],
)
async def test_a_cancel_is_for_one_drive(drive: int, of: str, request_: Cancel, is_ended: bool) -> None:
    """A core message may come seconds late: one that was meant for an earlier drive does not end the retry."""
    nothing = cast("Any", None)
    runner = Runner(nothing, nothing, nothing, nothing, nothing, middleware=(), changed=lambda: None)
    run = runner.in_hand[1] = cast("Any", SimpleNamespace(task=task(drive), brake=Brake()))
    runner.cancel(of, request_)
    assert run.brake.interrupt.done() is is_ended
    assert not is_ended or run.brake.interrupt.result().how is How.CANCELLED
