"""`schedctl executions list | show | retry | cancel | logs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from msgspec import UNSET, Raw

from cli.choosing import OLDER, Chosen, Filter, check_choice, filtered
from cli.connecting import Connection, connected, group
from cli.definitions import read_payload
from cli.lines import print_lines
from cli.many import RATE_DEFAULT, DryRun, Rate, Verb, Way, Yes, for_each, tries
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
from scheduler.client import ListNotes, first, retry_request
from scheduler.client.calls import REPEATED
from scheduler.core.errors import InvalidArgument
from scheduler.core.lifecycle import TERMINAL
from scheduler.core.model.execution import State
from scheduler.wire import api
from scheduler.wire.lines import LEVELS
from scheduler.wire.record import HistoryLine, Record

TABLE_LIMIT = 100
DEAD_LETTERS = "failed,timed_out,lost"
OPEN = ",".join(state for state in State if state not in TERMINAL)

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
    Column("TRY", tries, rigid=True, right=True),
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
@filtered
async def list_executions(
    connection: Connection,
    shown: Format,
    wanted: Filter,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help=f"At most that many; default {TABLE_LIMIT} in a table."),
    ] = None,
) -> None:
    """List executions, newest first; without --schedule the recent ones only."""
    is_table = not (shown.json or shown.names)
    most = limit or (TABLE_LIMIT if is_table else None)
    empty = (
        "No execution matches; without these options all recent ones are shown."
        if wanted
        else "No executions yet, nothing has been due. What will be, and when:  schedctl list"
    )
    notes, request = ListNotes(), wanted.request()
    async with connection.client() as client:
        items = first(client.calls.pages("execution.list", request, notes), most)
        count = await print_list(items, Record, COLUMNS, shown, empty=empty)
    if is_table and limit is None and count == TABLE_LIMIT:
        warn(f"These are the newest {TABLE_LIMIT}; --limit N shows more.")
    elif notes.older and (most is None or count < most):
        warn(OLDER)


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


Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of executions.", show_default=False)]


@app.command("retry")
@connected
@shown_as("json")
@filtered
async def retry(
    connection: Connection,
    shown: Format,
    wanted: Filter,
    ids: Ids = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="In place of its own, or @FILE; with one ID only.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Rate = RATE_DEFAULT,
) -> None:
    """Carry out again what has ended: by ids, or what a filter finds (failed,timed_out,lost, if it names no state)."""
    ids, way = ids or [], Way(dry_run, yes, rate, shown)
    check_choice(ids, wanted, f"--state {DEAD_LETTERS}")
    if payload is not None and len(ids) != 1:
        raise InvalidArgument("--payload goes with one ID", field="payload")
    other = UNSET if payload is None else read_payload(payload)
    way.check(ids)

    async with connection.client() as client:

        async def act(each: Chosen) -> bytes:
            request = retry_request(each.id, each.drive, payload=other)
            body: bytes = await client.calls.fetch("execution.retry", request, REPEATED)
            return body

        if len(ids) == 1 and not dry_run:
            body = await client.calls.fetch("execution.get", api.Id(id=ids[0]))
            _tell(await act(api.decode_reply(body, Chosen)), shown, lambda record: f"retried, {record.state}")
        else:
            await for_each(client, Verb("retry", "retried", act), ids, wanted, DEAD_LETTERS, way)


@app.command("cancel")
@connected
@shown_as("json")
@filtered
async def cancel(
    connection: Connection,
    shown: Format,
    wanted: Filter,
    ids: Ids = None,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="DURATION", help="How long its worker may tidy up; 0s ends it at once."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Rate = RATE_DEFAULT,
) -> None:
    """End executions before they end by themselves: by ids, or all that a filter finds and that are not over."""
    ids, way = ids or [], Way(dry_run, yes, rate, shown)
    check_choice(ids, wanted, "--schedule ID")
    way.check(ids)

    async with connection.client() as client:

        async def act(each: Chosen) -> bytes:
            request = api.CancelExecution(id=each.id, grace=grace)
            body: bytes = await client.calls.fetch("execution.cancel", request)
            return body

        if len(ids) == 1 and not dry_run:
            _tell(await act(Chosen(ids[0], "")), shown, _cancelled)
        else:
            await for_each(client, Verb("cancel", "cancelled, or asked to end", act), ids, wanted, OPEN, way)


def _cancelled(record: Record) -> str:
    return "cancelled" if record.state == "cancelled" else f"{record.state}, and its worker is asked to end it"


def _tell(body: bytes, shown: Format, said: Callable[[Record], str]) -> None:
    if shown.json:
        print_json(body)
    else:
        record = api.decode_reply(body, Record)
        say(f"{record.id}: {said(record)}")


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
            ("Attempt", _attempt(record)),
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


def _attempt(record: Record) -> str:
    of = f"{record.attempt} of {record.attempts_before + record.max_tries}"
    return f"{of} ({record.attempts_before} before the retry, drive {record.drive})" if record.drive else of


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
