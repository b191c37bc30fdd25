"""Export and restore of everything that people put into schedd, by the API.

An export is not one instant: each thing is as it was stored when its page was read. Schedules are read first and
calendars after them, so every calendar that an exported schedule uses is in it: one in use cannot be deleted.

A restore creates what is missing, leaves alone what is equal, and what differs too unless it is told to overwrite; so
repeating it is harmless. Every write expects what was compared: an edit meanwhile is a conflict, not a loss. Schedules
that had no occurrence left are left out, and so are `at` times that had passed: made anew they might fire again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Raw, Struct

from scheduler.client.connected import Client
from scheduler.core.errors import InvalidArgument, NotFound, ScheddError, Unavailable
from scheduler.wire import api
from scheduler.wire.backup import (
    EXHAUSTED,
    Backup,
    Line,
    Part,
    encode_end,
    encode_line,
    restored,
    same,
    still_to_come,
)

AT_ONCE = 16
PAGE = 500


class Fate(StrEnum):
    """What becomes of one thing of a backup."""

    CREATED = "created"
    OVERWRITTEN = "overwritten"
    UNCHANGED = "unchanged"
    DIFFERS = "differs"
    SPENT = "spent"
    FAILED = "failed"


class _Of(Struct):
    """Whose execution a record is."""

    schedule: str


class Step(Struct, frozen=True):
    """One thing and its fate; `problem` says why it failed. `expect`: the revision that it was compared with."""

    line: Line
    fate: Fate
    expect: int = 0
    problem: str = ""


async def export(client: Client, *, history: bool = False) -> AsyncIterator[tuple[str, bytes]]:
    """The lines of a backup behind the first one, each with its kind. Raises Unavailable."""
    counts: Counter[str] = Counter()
    ids: list[str] = []
    async for line in _all(client):
        counts[line.kind] += 1
        if line.kind == Part.SCHEDULE:
            ids.append(line.id)
        yield line.kind, encode_line(line)
    if history:
        async for record in _records(client, ids):
            counts[Part.EXECUTION] += 1
            yield Part.EXECUTION, encode_line(Line(Part.EXECUTION, value=Raw(bytes(record))))
    yield "end", encode_end(counts)


async def _records(client: Client, schedule_ids: Sequence[str]) -> AsyncIterator[Raw]:
    """All that are kept of these schedules, and of those that are gone the recent ones."""
    for schedule_id in schedule_ids:
        async for record in client.calls.pages("execution.list", api.ListExecutions(schedule=schedule_id, limit=PAGE)):
            yield record
    known = frozenset(schedule_ids)
    async for record in client.calls.pages("execution.list", api.ListExecutions(limit=PAGE)):
        if msgspec.json.decode(record, type=_Of).schedule not in known:
            yield record


async def _all(client: Client) -> AsyncIterator[Line]:
    """Everything that can be restored. Schedules first, then what they use."""
    async for schedule in client.schedules.list():
        value = None if schedule.raw_base64 is not None else schedule.schedule
        yield Line(Part.SCHEDULE, schedule.id, schedule.revision, schedule.status.state, value, schedule.raw_base64)
    async for calendar in client.calendars.list():
        value = None if calendar.raw_base64 is not None else calendar.calendar
        yield Line(Part.CALENDAR, calendar.id, calendar.revision, "", value, calendar.raw_base64)
    async for name, settings in _queues(client):
        yield Line(Part.QUEUE, name, 0, "", Raw(settings))


async def _queues(client: Client) -> AsyncIterator[tuple[str, bytes]]:
    async for queue in client.queues.list():
        yield queue.id, bytes(queue.queue)


async def plan(client: Client, backup: Backup, *, force: bool) -> list[Step]:
    """What a restore would do, in its order. Raises Unavailable."""
    stored = {(line.kind, line.id): line async for line in _all(client)}
    exported_at = backup.header.exported_at
    return [_step(line, stored.get((line.kind, line.id)), exported_at, force=force) for line in backup.lines]


def _step(line: Line, stored: Line | None, exported_at: str, *, force: bool) -> Step:
    if line.value is None:
        return Step(line, Fate.FAILED, problem="its value is no JSON")
    if stored is not None and _says(stored, line.value):
        return Step(line, Fate.UNCHANGED)
    value = bytes(line.value)
    left = still_to_come(value, exported_at) if line.kind == Part.SCHEDULE else value
    if left is None or (stored is None and line.state == EXHAUSTED):
        return Step(line, Fate.SPENT)
    line = msgspec.structs.replace(line, value=Raw(left))
    if stored is None:
        return Step(line, Fate.CREATED)
    if _says(stored, left):
        return Step(line, Fate.UNCHANGED)
    return Step(line, Fate.OVERWRITTEN if force else Fate.DIFFERS, stored.revision)


def _says(stored: Line, value: bytes | Raw) -> bool:
    return stored.value is not None and same(stored.kind, bytes(value), bytes(stored.value))


async def restore(
    client: Client, steps: Sequence[Step], *, done: Callable[[Step], None] = lambda step: None
) -> list[Step]:
    """Do it: calendars, queues, then schedules, several at once. What is refused has its problem in the result.

    Raises Unavailable when nobody answers; done again, it goes on.
    """
    results: list[Step] = []
    for part in Part:
        of_part = [step for step in steps if step.line.kind == part]
        for start in range(0, len(of_part), AT_ONCE):
            group = of_part[start : start + AT_ONCE]
            for step in await asyncio.gather(*(_do(client, step) for step in group)):
                results.append(step)
                done(step)
    return results


async def _do(client: Client, step: Step) -> Step:
    if step.fate not in {Fate.CREATED, Fate.OVERWRITTEN}:
        return step
    try:
        await _PUTS[Part(step.line.kind)](client, step)
    except Unavailable:
        raise
    except ScheddError as problem:
        message = problem.sentence if isinstance(problem, InvalidArgument) else problem.message
        return msgspec.structs.replace(step, fate=Fate.FAILED, problem=message)
    return step


async def _put_schedule(client: Client, step: Step) -> None:
    body = _value(step)
    body = restored(body) if step.fate is Fate.OVERWRITTEN else body
    await client.schedules.put(step.line.id, Raw(body), expected_revision=step.expect)


async def _put_calendar(client: Client, step: Step) -> None:
    await client.calendars.put(step.line.id, Raw(_value(step)), expected_revision=step.expect)


async def _put_queue(client: Client, step: Step) -> None:
    """Settings that the backup does not have become the default again."""
    try:
        settings = msgspec.json.decode(_value(step), type=dict[str, Any])
    except msgspec.MsgspecError as problem:
        raise InvalidArgument(f"the settings of a queue must be a JSON object: {problem}") from None
    try:
        stored = (await client.queues.get(step.line.id)).settings
    except NotFound:
        stored = {}
    await client.queues.put(step.line.id, {**dict.fromkeys(stored), **settings})


def _value(step: Step) -> bytes:
    return b"" if step.line.value is None else bytes(step.line.value)


_PUTS: dict[Part, Callable[[Client, Step], Awaitable[None]]] = {
    Part.SCHEDULE: _put_schedule,
    Part.CALENDAR: _put_calendar,
    Part.QUEUE: _put_queue,
}
