"""`schedctl audit`: what became of every nominal time of a schedule; exit code 1 if one of them is unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
import typer

from cli.connecting import Connection, connected
from cli.output import Column, Format, instant, print_json, print_table, say, shown_as, warn
from cli.spans import METAVAR, instant_of
from scheduler.client import Client, audit_request
from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.core.zones import zone_of
from scheduler.system.clock import SystemClock
from scheduler.wire import api
from scheduler.wire.instants import parse_instant

_MILLISECOND = timedelta(milliseconds=1)
_STRETCH = 8  # how much longer the next piece is where there is little


class _Row(msgspec.Struct):
    told: api.Verdict
    local: str


COLUMNS: Sequence[Column[_Row]] = (
    Column("NOMINAL", lambda row: instant(row.told.nominal_at), rigid=True),
    Column("LOCAL", lambda row: instant(row.local), rigid=True),
    Column("VERDICT", lambda row: row.told.verdict, rigid=True),
    Column("REASON", lambda row: row.told.reason or ""),
    Column("EXECUTION", lambda row: row.told.execution_id or "", wide=True),
)


@connected
@shown_as("json")
async def audit(
    connection: Connection,
    shown: Format,
    schedule_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the schedule.", show_default=False)],
    since: Annotated[
        str, typer.Option("--since", metavar=METAVAR, help="From so long ago (24h), or from this instant on.")
    ] = "24h",
    until: Annotated[
        str | None, typer.Option("--until", metavar="INSTANT", help="Up to before this instant; default now.")
    ] = None,
    verdict: Annotated[
        list[str] | None,
        typer.Option("--verdict", metavar="WORD", help="Show only these (unexplained, missed, ...); may be repeated."),
    ] = None,
) -> None:
    """Show what became of every nominal time: 100 % of them have a verdict, or the exit code is 1."""
    request = audit_request(schedule_id, since=instant_of(since, field="since"), until=until)
    async with connection.client() as client:
        if shown.json:
            body = await client.schedules.audit_body(request)
            reply = api.decode_reply(body, api.AuditReply)
            print_json(body)
        else:
            reply = await client.schedules.audit(request.id, since=request.since, until=request.until)
            await _show(client, request, reply, verdict or [])
    if reply.unexplained:
        raise typer.Exit(1)


async def _show(client: Client, request: api.AuditSchedule, reply: api.AuditReply, only: Sequence[str]) -> None:
    local = await _local(client, request.id)
    shown = 0
    for page in [reply, *await _rest(client, request, reply)]:
        rows = [_Row(each, local(each.nominal_at)) for each in page.occurrences if not only or each.verdict in only]
        shown += len(rows)
        if rows:
            print_table(rows, COLUMNS)
    if shown:
        say()
    elif not reply.expected:
        warn("Nothing was due in this time.")
    counts = (f"{word} {count:,}" for word, count in sorted(reply.verdicts.items(), key=lambda item: -item[1]))
    say(" · ".join([f"expected {reply.expected:,}", *counts, f"unexplained {reply.unexplained:,}"]))


async def _rest(client: Client, request: api.AuditSchedule, reply: api.AuditReply) -> list[api.AuditReply]:
    """What did not fit into the first answer, in pieces about as long as what did: a daemon judges all that it is asked
    for, not only what fits."""
    pages: list[api.AuditReply] = []
    since = parse_instant(request.since)
    end = SystemClock().now() if request.until is None else parse_instant(request.until)
    until, fit = end, len(reply.occurrences)
    while True:
        if reply.truncated and reply.occurrences:
            reached = parse_instant(reply.occurrences[-1].nominal_at) + _MILLISECOND
            length = reached - since
        else:
            is_sparse = len(reply.occurrences) * _STRETCH < fit
            reached, length = until, (until - since) * (_STRETCH if is_sparse else 1)
        if reached >= end:
            return pages
        since, until = reached, min(end, reached + length)
        asked = request.until if until == end else until
        reply = await client.schedules.audit(request.id, since=since, until=asked)
        pages.append(reply)


async def _local(client: Client, schedule_id: str) -> Any:
    """How the schedule's own clocks show an instant; of one that is gone, UTC."""
    try:
        name = (await client.schedules.get(schedule_id)).definition.get("timezone", "UTC")
        zone = zone_of(name)
    except (NotFound, InvalidArgument):
        zone = zone_of("UTC")

    def local(nominal_at: str) -> str:
        at: datetime = parse_instant(nominal_at)
        return zone.local(at).isoformat(timespec="milliseconds" if at.microsecond else "seconds")

    return local
