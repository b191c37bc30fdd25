"""`schedctl executions list | show | cancel | logs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec import UNSET, Raw

from cli.connecting import Connection, connected, group
from cli.lines import print_lines
from cli.output import (
    Column,
    Format,
    clean_lines,
    heading,
    instant,
    print_array,
    print_facts,
    print_json,
    print_json_lines,
    print_list,
    print_table,
    say,
    seconds,
    shown_as,
    warn,
)
from scheduler.client import executions_request, first
from scheduler.wire import api
from scheduler.wire.lines import LEVELS
from scheduler.wire.record import HistoryLine, Record

TABLE_LIMIT = 100

app = typer.Typer(no_args_is_help=True, help="What became of each occurrence.")


@app.callback()
@group
def executions(connection: Connection) -> None:
    """What became of each occurrence."""


def reason(record: Record) -> str:
    """Why it is where it is: the daemon's reason, else the first words of the worker's error."""
    if record.reason:
        return record.reason
    if record.error is None:
        return ""
    return f"{record.error.type}: {record.error.message}"[:60]


COLUMNS: Sequence[Column[Record]] = (
    Column("ID", lambda record: record.id),
    Column("STATE", lambda record: record.state, rigid=True),
    Column("TRY", lambda record: f"{record.attempt}/{record.max_tries}", rigid=True, right=True),
    Column("LATE", lambda record: seconds(record.lateness_s), rigid=True, right=True),
    Column("TOOK", lambda record: seconds(record.duration_s), rigid=True, right=True),
    Column("QUEUE", lambda record: record.queue, wide=True),
    Column("TYPE", lambda record: record.type, wide=True),
    Column("WORKER", lambda record: record.worker or "-", wide=True),
    Column("REASON", reason),
)


@app.command("list")
@connected
@shown_as("json", "names")
async def list_executions(
    connection: Connection,
    shown: Format,
    schedule: Annotated[str | None, typer.Option("--schedule", metavar="ID", help="Of this schedule.")] = None,
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help="In this state.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", metavar="QUEUE", help="In this queue.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="INSTANT", help="Nominal time from this instant on.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="INSTANT", help="And before this one.")] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help=f"At most that many; default {TABLE_LIMIT} in a table."),
    ] = None,
) -> None:
    """List executions, newest first."""
    request = executions_request(schedule=schedule, state=state, queue=queue, since=since, until=until)
    is_table = not (shown.json or shown.names)
    most = limit or (TABLE_LIMIT if is_table else None)
    narrowed = any((schedule, state, queue, since, until))
    empty = (
        "No execution matches."
        if narrowed
        else "No executions yet, nothing has been due. What will be, and when:  schedctl list"
    )
    async with connection.client() as client:
        items = first(client.calls.pages("execution.list", request), most)
        count = await print_list(items, Record, COLUMNS, shown, empty=empty)
    if is_table and limit is None and count == TABLE_LIMIT:
        warn(f"These are the newest {TABLE_LIMIT}; --limit N shows more.")


@app.command("show")
@connected
@shown_as("json")
async def show(
    connection: Connection,
    shown: Format,
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the execution.", show_default=False)],
) -> None:
    """Show one execution: its history, its result or its error."""
    async with connection.client() as client:
        body = await client.calls.fetch("execution.get", api.Id(id=execution_id))
    if shown.json:
        print_json(body)
    else:
        _show(api.decode_reply(body, Record))


@app.command("cancel")
@connected
@shown_as("json")
async def cancel(
    connection: Connection,
    shown: Format,
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the execution.", show_default=False)],
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="DURATION", help="How long its worker may tidy up; 0s ends it at once."),
    ] = None,
) -> None:
    """End an execution before it ends by itself."""
    async with connection.client() as client:
        body = await client.calls.fetch("execution.cancel", api.CancelExecution(id=execution_id, grace=grace))
    if shown.json:
        print_json(body)
        return
    record = api.decode_reply(body, Record)
    asked = f"{record.state}, and its worker is asked to end it" if record.state != "cancelled" else "cancelled"
    say(f"{record.id}: {asked}")


@app.command("logs")
@connected
@shown_as("json")
async def logs(
    connection: Connection,
    shown: Format,
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the execution.", show_default=False)],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", metavar="", help="Go on with what comes, until the execution is over.")
    ] = False,
    attempt: Annotated[int | None, typer.Option("--attempt", metavar="N", min=1, help="Of this attempt.")] = None,
    level: Annotated[
        str | None, typer.Option("--level", metavar="LEVEL", help=f"At least: {', '.join(LEVELS)}.")
    ] = None,
) -> None:
    """Show what an execution logged. With `--json -f` each line is one line."""
    async with connection.client() as client:
        items = client.executions.raw_logs(execution_id, attempt=attempt, level=level, follow=follow)
        if shown.json:
            await (print_json_lines(items) if follow else print_array(items))
        elif not await print_lines(items):
            narrowed = attempt is not None or level is not None
            warn("No line matches." if narrowed else "It logged nothing. Functions of the SDK do by ctx.log.info(...).")


def _show(record: Record) -> None:
    print_facts(
        [
            ("Id", record.id),
            ("State", record.state),
            ("Reason", record.reason),
            ("Schedule", record.schedule),
            ("Queue", record.queue),
            ("Type", record.type),
            ("Kind", record.kind),
            ("Attempt", f"{record.attempt} of {record.max_tries}"),
            ("Worker", record.worker),
            ("Nominal", instant(record.nominal_at)),
            ("Fire", instant(record.fire_at)),
            ("Queued", _queued(record)),
            ("Started", instant(record.started_at)),
            ("Finished", _finished(record)),
        ]
    )
    if record.payload is not UNSET:
        _show_json("Payload", record.payload)
    _show_json("Result", record.result)
    if record.error is not None:
        heading("Error")
        say(clean_lines(record.error.traceback or f"{record.error.type}: {record.error.message}"))
    if record.history:
        heading("History")
        print_table(record.history, HISTORY_COLUMNS)


HISTORY_COLUMNS: Sequence[Column[HistoryLine]] = (
    Column("AT", lambda entry: instant(entry.at), rigid=True),
    Column("STATE", lambda entry: entry.state, rigid=True),
    Column("NOTE", lambda entry: entry.note or ""),
)


def _queued(record: Record) -> str:
    late = f" ({seconds(record.lateness_s)} after its fire time)" if record.lateness_s is not None else ""
    return instant(record.queued_at) + late


def _finished(record: Record) -> str:
    took = f" (took {seconds(record.duration_s)})" if record.duration_s is not None else ""
    return instant(record.finished_at) + took


def _show_json(title: str, value: Raw) -> None:
    if bytes(value) != b"null":
        heading(title)
        print_json(value)
