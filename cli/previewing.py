"""`schedctl preview`: when a schedule will fire, stored or not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connecting import Connection, connected
from cli.definitions import by_flags
from cli.files import Entry
from cli.output import Column, Format, instant, print_json, print_table, say, shown_as, warn
from cli.schedules import File, OptionalId, entries_of
from scheduler.client import preview_request
from scheduler.core.errors import InvalidArgument
from scheduler.wire import api


@connected
@shown_as("json")
@by_flags(without="after")
async def preview(
    connection: Connection,
    shown: Format,
    fields: dict[str, Any],
    schedule_id: OptionalId = None,
    file: File = None,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, max=api.LIMIT_MAX, help="How many.")] = 10,
    after: Annotated[
        str | None, typer.Option("--after", metavar="INSTANT", help="Fires after this instant; default now.")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=0, max=api.LIMIT_MAX, help="And what became of the last N.")
    ] = 0,
) -> None:
    """Show when a schedule will fire: a stored one by its id, or any other by flags or a file."""
    if file is not None:
        entry = _only(entries_of(schedule_id, fields, file), file)
        schedule_id, fields = entry.id, entry.schedule
    request = preview_request(schedule_id, fields or None, after=after, count=count, last=last)
    async with connection.client() as client:
        body = await client.calls.fetch("schedule.preview", request)
    if shown.json:
        print_json(body)
        return
    reply = api.decode_reply(body, api.PreviewReply)
    if reply.past:
        print_table(reply.past, PAST_COLUMNS)
        say()
    show_fires(reply.fires)
    if not reply.fires:
        warn("It never fires.")
    elif schedule_id is None and _is_hashed(fields):
        warn("warning: H and jitter are hashed from the id: name it, and these are the times that it will have")


def _is_hashed(fields: Mapping[str, Any]) -> bool:
    """Whether the id decides when it fires."""
    expressions = fields.get("cron") or ()
    cron = " ".join([expressions] if isinstance(expressions, str) else map(str, expressions))
    return "jitter" in fields or re.search(r"(^|[\s,])H", cron) is not None


def _only(entries: Sequence[Entry], file: Path) -> Entry:
    if len(entries) > 1:
        raise InvalidArgument(f"{file} holds {len(entries)} definitions: name the id of the one to preview", field="id")
    return entries[0]


FIRE_COLUMNS: Sequence[Column[api.Fire]] = (
    Column("FIRES AT", lambda fire: instant(fire.fire_at), rigid=True),
    Column("LOCAL", lambda fire: instant(fire.local), rigid=True),
    Column("NOMINAL", lambda fire: instant(fire.nominal_at), rigid=True, wide=True),
    Column("NOTES", lambda fire: ", ".join(fire.notes)),
)


PAST_COLUMNS: Sequence[Column[api.Past]] = (
    Column("FIRED AT", lambda past: instant(past.fire_at), rigid=True),
    Column("LOCAL", lambda past: instant(past.local), rigid=True),
    Column("VERDICT", lambda past: past.verdict, rigid=True),
    Column("REASON", lambda past: past.reason or ""),
    Column("EXECUTION", lambda past: past.execution_id or "", wide=True),
    Column("NOTES", lambda past: ", ".join(past.notes)),
)


def show_fires(fires: Sequence[api.Fire]) -> None:
    if fires:
        print_table(fires, FIRE_COLUMNS)
