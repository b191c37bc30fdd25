"""Subjects of the tasks stream taken apart. Execution ids have dots, queues and drives have none."""

from __future__ import annotations

from typing import NamedTuple

from scheduler.core.errors import InvalidArgument
from scheduler.wire.ids import check_queue, parse_execution_id
from scheduler.wire.names import Names

_DRIVE_DIGITS_MAX = 9


class ClaimKey(NamedTuple):
    """Which drive of which execution a claim is for."""

    execution_id: str
    drive: int


WITHHELD = b"withheld"
"""Body of a claim that was taken so that no task can follow; that of all others is empty."""


class TaskKey(NamedTuple):
    """Which execution a task belongs to, and the queue it waits in."""

    queue: str
    execution_id: str


def parse_claim_subject(names: Names, subject: str) -> ClaimKey:
    """The inverse of `Names.claim`. Raises InvalidArgument."""
    execution_id, _, drive = _rest(names, subject, "claim").rpartition(".")
    parse_execution_id(execution_id, field="subject")
    if not (drive.isascii() and drive.isdigit()) or len(drive) > _DRIVE_DIGITS_MAX:
        raise InvalidArgument(f"{subject!r:.200} is not the subject of a claim", field="subject")
    return ClaimKey(execution_id, int(drive))


def parse_task_subject(names: Names, subject: str) -> TaskKey:
    """The inverse of `Names.task`. Raises InvalidArgument."""
    queue, _, execution_id = _rest(names, subject, "task").partition(".")
    check_queue(queue, field="subject")
    parse_execution_id(execution_id, field="subject")
    return TaskKey(queue, execution_id)


def execution_of(names: Names, subject: str) -> str:
    """The execution that the subject of a task names; empty if it names none."""
    try:
        return parse_task_subject(names, subject).execution_id
    except InvalidArgument:
        return ""


def _rest(names: Names, subject: str, word: str) -> str:
    prefix = f"{names.namespace}.{word}."
    if not subject.startswith(prefix):
        raise InvalidArgument(f"{subject!r:.200} is not the subject of a {word}", field="subject")
    return subject.removeprefix(prefix)
