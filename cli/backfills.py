"""`schedctl backfill`: show what a range of the past would run, then run it; list backfills, cancel one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.connecting import Connection, connected
from cli.output import Column, Format, instant, print_json, print_list, say, shown_as, warn
from scheduler.client import Client, backfill_request, backfills_request
from scheduler.core.backfilling import RATE_DEFAULT
from scheduler.core.errors import InvalidArgument
from scheduler.wire import api
from scheduler.wire.ids import check_backfill_id, check_schedule_id

EMPTY = "No backfill is kept. See what one would run:  schedctl backfill ID --from INSTANT --to INSTANT --dry-run"
SHOWN_MAX = 1_000  # nominal times shown in full; of more the first and the last of these

COLUMNS: Sequence[Column[api.BackfillItem]] = (
    Column("ID", lambda item: item.id, rigid=True),
    Column("SCHEDULE", lambda item: item.schedule),
    Column("STATE", lambda item: item.state, rigid=True),
    Column("STARTED", lambda item: f"{item.started} of {item.count}", rigid=True, right=True),
    Column("FROM", lambda item: instant(item.start), rigid=True, wide=True),
    Column("TO", lambda item: instant(item.end), rigid=True, wide=True),
    Column("CREATED", lambda item: instant(item.created_at), rigid=True),
)


@connected
@shown_as("json")
async def backfill(
    connection: Connection,
    shown: Format,
    schedule_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Id of the schedule.", show_default=False)
    ] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="INSTANT", help="The first nominal time.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="INSTANT", help="Nominal times before this one.")] = None,
    most: Annotated[int | None, typer.Option("--max", metavar="N", min=1, help="Only the first so many.")] = None,
    rate: Annotated[float, typer.Option("--rate", metavar="N", help="Starts per second.")] = RATE_DEFAULT,
    overlap: Annotated[
        str | None,
        typer.Option("--overlap", metavar="POLICY", help="Default: nothing is dropped, one after the other."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Show what would run, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")] = False,
    backfill_id: Annotated[
        str | None, typer.Option("--backfill-id", metavar="WORD", help="Repeating it does not run it again.")
    ] = None,
    cancel: Annotated[
        str | None, typer.Option("--cancel", metavar="BACKFILL", help="Start nothing more of this backfill.")
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", metavar="", help="List backfills, newest first.")] = False,
) -> None:
    """Run what a schedule would have fired in a range of the past: first the exact list, then, if agreed, the runs."""
    if cancel is not None and show_list:
        raise InvalidArgument("--cancel and --list exclude each other", field="cancel")
    if cancel is not None:
        await _cancel(connection, check_backfill_id(cancel, field="cancel"), shown)
    elif show_list:
        await _list(connection, schedule_id, shown)
    else:
        if schedule_id is None or start is None or end is None:
            raise InvalidArgument("give the id of a schedule, --from and --to (or --list, or --cancel BACKFILL)")
        request = backfill_request(
            check_schedule_id(schedule_id), start, end, dry_run=True, max_count=most, rate=rate, overlap=overlap,
            backfill_id=backfill_id,
        )  # fmt: skip
        if not (dry_run or yes or _is_terminal()):
            raise InvalidArgument(
                "nobody to ask: give --yes to run it, or --dry-run to see what would run", field="yes"
            )
        async with connection.client() as client:
            await _run(client, request, shown, dry_run=dry_run, yes=yes)


async def _run(client: Client, request: api.BackfillSchedule, shown: Format, *, dry_run: bool, yes: bool) -> None:
    """The list by a dry run; the runs by the same request and the same backfill id."""
    reply = await client.calls.call("schedule.backfill", request, api.BackfillReply)
    if shown.json and dry_run:
        print_json(api.encode(reply))
        return
    if not shown.json:
        _show(reply)
    if dry_run or not reply.nominals:
        return
    if not yes and not typer.confirm(f"Run {_runs(len(reply.nominals))} of {request.id}?", err=shown.json):
        warn("Nothing started.")
        raise typer.Exit(1)
    done = await client.schedules.backfill(
        request.id, request.start, request.end, dry_run=False, max_count=request.max, rate=request.rate,
        overlap=request.overlap, backfill_id=reply.backfill_id,
    )  # fmt: skip
    if shown.json:
        print_json(api.encode(done))
    else:
        runs = _runs(len(done.nominals))
        say(f"backfill {done.backfill_id}: {runs} of {request.id}, {request.rate:g} a second at most")


def _show(reply: api.BackfillReply) -> None:
    names = reply.nominals
    if not names:
        warn("The schedule has no nominal time in this range.")
    for at in names if len(names) <= SHOWN_MAX else names[: SHOWN_MAX // 2]:
        say(instant(at))
    if len(names) > SHOWN_MAX:
        say(f"... {len(names) - SHOWN_MAX:,} more (--json shows all) ...")
        for at in names[-SHOWN_MAX // 2 :]:
            say(instant(at))


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


async def _cancel(connection: Connection, backfill_id: str, shown: Format) -> None:
    async with connection.client() as client:
        item = await client.backfills.cancel(backfill_id)
    if shown.json:
        print_json(api.encode(item))
    else:
        say(f"backfill {item.id} {item.state}, {item.started} of {item.count} started")


async def _list(connection: Connection, schedule_id: str | None, shown: Format) -> None:
    request = backfills_request(schedule=schedule_id)
    async with connection.client() as client:
        items = client.calls.pages("backfill.list", request)
        await print_list(items, api.BackfillItem, COLUMNS, shown, empty=EMPTY)
