"""Definitions checked before anything is written, by the very code that the daemon checks them with.

Two things only the daemon knows: its calendars, which are asked for once, and limits that it was configured with; so
whatever breaks the usual limits and nothing else is put to it as a preview.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from cli.bulk import carry_out
from cli.files import Found
from scheduler.client import Client
from scheduler.core.calendars import Calendar, CalendarOf, no_calendars
from scheduler.core.comparing import Rule
from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.core.triggers import compile_trigger
from scheduler.wire.calendar import calendar_of_document
from scheduler.wire.schedule import ScheduleLimits, encode_document, parse_document

ASKED_MAX = 900_000  # bytes: about what a NATS server lets through unless it is told otherwise
_WIDE = ScheduleLimits(payload_bytes_max=2**26, minimum_interval=timedelta(milliseconds=1))

Document = Mapping[str, Any]


def rule_of(schedule_id: str, document: Document | None, calendar_of: CalendarOf) -> Rule | None:
    """The schedule and its trigger; None if it is invalid, or nothing."""
    if document is None:
        return None
    try:
        schedule = parse_document(schedule_id, document, _WIDE, calendar_of)
    except InvalidArgument:
        return None
    return schedule, compile_trigger(schedule, calendar_of)


async def calendars_for(client: Client, documents: Iterable[Document]) -> CalendarOf:
    """The calendars that the daemon has, if one of the definitions may name some. Raises ScheddError."""
    if not any(document.get("exclude") for document in documents):
        return no_calendars
    known: dict[str, Calendar] = {}
    async for item in client.calendars.list():
        if item.error is None:
            known[item.id] = calendar_of_document(item.id, json.loads(bytes(item.calendar)))

    def find(name: str) -> Calendar:
        if name not in known:
            raise InvalidArgument(f"there is no calendar {name!r:.80}", field="exclude")
        return known[name]

    return find


async def check(client: Client, found: Iterable[Found], calendar_of: CalendarOf) -> list[InvalidArgument]:
    """What is wrong with these definitions, each with its place. Raises ScheddError if the daemon cannot be asked."""
    problems: list[InvalidArgument] = []
    doubtful: list[Found] = []
    for each in found:
        size = 0
        try:
            size = len(encode_document(each.entry.schedule))
            parse_document(each.entry.id, each.entry.schedule, calendar_of=calendar_of)
        except InvalidArgument as problem:
            if size > ASKED_MAX or rule_of(each.entry.id, each.entry.schedule, calendar_of) is None:
                problems.append(placed(each, problem))
            else:
                doubtful.append(each)
    return problems + await _ask(client, doubtful)


async def _ask(client: Client, doubtful: list[Found]) -> list[InvalidArgument]:
    async def preview(each: Found) -> None:
        await client.schedules.preview(each.entry.id, each.entry.schedule, count=1)

    problems: list[InvalidArgument] = []
    async for each, outcome in carry_out(doubtful, preview, title="Checking"):
        if isinstance(outcome, InvalidArgument):
            problems.append(placed(each, outcome))
        elif isinstance(outcome, ScheddError):
            raise outcome
    return problems


def placed(found: Found, problem: InvalidArgument) -> InvalidArgument:
    """The problem with its place in front: file, line, id."""
    return type(problem)(f"{found.place(problem.field)}: {found.entry.id}: {problem.sentence}", field=problem.field)
