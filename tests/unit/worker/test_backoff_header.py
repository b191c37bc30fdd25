"""The schedule's backoff travels to the worker in a header that the contract does not list."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Backoff
from scheduler.wire import headers as h
from scheduler.wire.names import Names
from scheduler.wire.task import encode_backoff
from scheduler.worker.task import parse_task

ID = "a.20261121T080000000Z"


def task_with(backoff: str) -> Backoff | None:
    headers = {h.EXECUTION_ID: ID, h.BACKOFF: backoff}
    return parse_task(Names(), f"schedd.task.q.{ID}", headers, b"").backoff


def test_a_backoff_comes_through_as_it_was_written() -> None:
    """What the daemon encodes is what the worker reads."""
    backoff = Backoff(initial=timedelta(milliseconds=250), max=timedelta(hours=1), factor=3.0, jitter=0.0)
    assert task_with(encode_backoff(backoff)) == backoff


@pytest.mark.parametrize("text", ["", "[]", "{", '{"initial": 5', '{"factor": "x"}', '{"sometimes": "1s"}'])
def test_an_unreadable_backoff_names_the_header(text: str) -> None:
    """A task with a broken header is refused with a sentence, never with another exception."""
    with pytest.raises(InvalidArgument):
        task_with(text)
