"""`schedctl queue put | get | list | pause | resume | purge | delete`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cli.connecting import Connection, connected, group
from cli.output import (
    Column,
    Format,
    agreed,
    instant,
    print_facts,
    print_json,
    print_list,
    say,
    seconds,
    shown_as,
    warn,
)
from scheduler.client import Client, first
from scheduler.client.requests import named_queue, put_queue_request
from scheduler.core.errors import InvalidArgument
from scheduler.wire import api
from scheduler.wire.queue import changes_of_document

DEFAULT = "default"
EXAMPLE = "schedctl queue put EMAIL --max-ack-pending 10"

app = typer.Typer(no_args_is_help=True, help="Where tasks wait for their workers: limits, pauses, what is in them.")

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]


@app.callback()
@group
def queue(connection: Connection) -> None:
    """Where tasks wait for their workers: limits, pauses, what is in them."""


# --- writes


@app.command()
@connected
@shown_as("json")
async def put(
    connection: Connection,
    shown: Format,
    name: Name,
    ack_wait: Annotated[
        str | None,
        typer.Option("--ack-wait", metavar="DURATION", help="How long a worker may be silent about a task."),
    ] = None,
    max_ack_pending: Annotated[
        str | None,
        typer.Option("--max-ack-pending", metavar="N", help="Tasks in the hands of all its workers at once."),
    ] = None,
    max_deliver: Annotated[
        str | None, typer.Option("--max-deliver", metavar="N", help="How often one task is delivered at most.")
    ] = None,
    max_pending: Annotated[
        str | None,
        typer.Option("--max-pending", metavar="N", help="Tasks waiting; above, occurrences are skipped."),
    ] = None,
    backoff: Annotated[
        list[str] | None,
        typer.Option("--backoff", metavar="DURATION", help="Ack wait of the 1st, 2nd ... delivery; to be repeated."),
    ] = None,
) -> None:
    """Set what is given, keep the rest; the queue is made if there is none. The word default takes a setting back."""
    numbers = {"max_ack_pending": max_ack_pending, "max_deliver": max_deliver, "max_pending": max_pending}
    settings: dict[str, Any] = {field: _number(field, text) for field, text in numbers.items() if text is not None}
    if ack_wait is not None:
        settings["ack_wait"] = None if ack_wait == DEFAULT else ack_wait
    if backoff:
        settings["backoff"] = None if backoff == [DEFAULT] else backoff
    await _put(connection, name, settings, shown)


def _number(field: str, text: str) -> int | None:
    if text == DEFAULT:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidArgument(f"{field} must be a whole number or the word {DEFAULT}, not {text[:40]!r}", field=field)
    return int(text)


async def _put(connection: Connection, name: str, settings: dict[str, Any], shown: Format) -> None:
    request = put_queue_request(name, settings)
    async with connection.client() as client:
        body = api.encode(await client.queues.put(request.id, settings))
    _show(body, shown)


@app.command()
@connected
@shown_as("json")
async def pause(
    connection: Connection,
    shown: Format,
    name: Name,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="INSTANT", help="When it ends by itself.")] = None,
) -> None:
    """Deliver nothing until resume; what workers have in hand goes on, and what comes due is queued."""
    changes_of_document({"pause_note": note, "paused_until": until})
    async with connection.client() as client:
        item = await client.queues.pause(name, note=note, until=until)
    if shown.json:
        print_json(api.encode(item))
        return
    end = f" until {instant(item.settings['paused_until'])}" if item.settings["paused_until"] else ""
    say(f"{item.id} paused{end}, {_tasks(item.status.pending)} waiting")


@app.command()
@connected
@shown_as("json")
async def resume(connection: Connection, shown: Format, name: Name) -> None:
    """End a pause now."""
    named_queue(name)
    async with connection.client() as client:
        item = await client.queues.resume(name)
    print_json(api.encode(item)) if shown.json else say(f"{item.id} resumed, {_tasks(item.status.pending)} waiting")


@app.command()
@connected
@shown_as("json")
async def purge(
    connection: Connection,
    shown: Format,
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only count.")] = False,
    yes: Yes = False,
) -> None:
    """Cancel every execution whose task waits in the queue; what runs goes on."""
    named_queue(name)
    async with connection.client() as client:
        planned = await client.queues.purge(name, dry_run=True)
        if dry_run:
            print_json(api.encode(planned)) if shown.json else say(_told(planned, f"{name} would be purged of"))
            return
        _confirm(f"Purge {name} of {_tasks(planned.purged)}?", "purged", yes=yes)
        done = await _purge_all(client, name)
    print_json(api.encode(done)) if shown.json else say(_told(done, f"{name} purged of"))


async def _purge_all(client: Client, name: str) -> api.PurgeReply:
    """Call after call, as long as one gets something out."""
    total = 0
    while True:
        reply = await client.queues.purge(name)
        total, is_done = total + reply.purged, not reply.purged or reply.remaining <= reply.running
        if is_done:
            reply.purged = total
            return reply


def _told(reply: api.PurgeReply, begin: str) -> str:
    running = f"; {_tasks(reply.running)} running" if reply.running else ""
    left = "" if reply.dry_run or not reply.remaining else f"; {_tasks(reply.remaining)} left in it"
    return f"{begin} {_tasks(reply.purged)}{running}{left}"


@app.command()
@connected
@shown_as("json")
async def delete(connection: Connection, shown: Format, name: Name, yes: Yes = False) -> None:
    """Delete a queue that no schedule uses and that is empty; its settings go with it."""
    named_queue(name)
    async with connection.client() as client:
        _confirm(f"Delete {name}?", "deleted", yes=yes)
        reply = await client.queues.delete(name)
    print_json(api.encode(reply)) if shown.json else say(f"{reply.id} deleted")


def _confirm(question: str, done: str, *, yes: bool) -> None:
    """Raises InvalidArgument where nobody can be asked, Exit where somebody says no."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidArgument("there is no terminal to ask on: --yes does it without asking", field="yes")
    if not agreed(question):
        warn(f"Nothing {done}.")
        raise typer.Exit(1)


# --- reads


@app.command()
@connected
@shown_as("json")
async def get(connection: Connection, shown: Format, name: Name) -> None:
    """Show one queue: what it is set to, and how it stands."""
    async with connection.client() as client:
        body = await client.calls.fetch("queue.get", named_queue(name))
    _show(body, shown)


def _show(body: bytes, shown: Format) -> None:
    if shown.json:
        print_json(body)
        return
    item = api.decode_reply(body, api.QueueItem)
    settings, status = item.settings, item.status
    print_facts(
        [
            ("Queue", item.id),
            ("Paused", _pause(settings)),
            ("Waiting", _waiting(status)),
            ("In hand", str(status.ack_pending)),
            ("Schedules", ", ".join(status.schedules) or "none"),
            ("Ack wait", settings["ack_wait"]),
            ("Backoff", ", ".join(settings["backoff"])),
            ("Max ack pending", str(settings["max_ack_pending"])),
            ("Max deliver", str(settings["max_deliver"])),
            ("Max pending", str(settings["max_pending"])),
        ]
    )


def _pause(settings: dict[str, Any]) -> str | None:
    if not settings["paused"]:
        return None
    until = f"until {instant(settings['paused_until'])}" if settings["paused_until"] else "until it is resumed"
    return f"{until}: {settings['pause_note']}" if settings["pause_note"] else until


def _waiting(status: api.QueueStatus) -> str:
    since = f", the oldest for {seconds(status.oldest_s)}" if status.oldest_s is not None else ""
    return f"{status.pending}{since}"


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


COLUMNS: Sequence[Column[api.QueueItem]] = (
    Column("QUEUE", lambda item: item.id),
    Column("STATE", lambda item: "paused" if item.status.paused else "active", rigid=True),
    Column("WAITING", lambda item: str(item.status.pending), rigid=True, right=True),
    Column("OLDEST", lambda item: seconds(item.status.oldest_s), rigid=True, right=True),
    Column("IN HAND", lambda item: str(item.status.ack_pending), rigid=True, right=True),
    Column("AT ONCE", lambda item: str(item.settings["max_ack_pending"]), rigid=True, right=True),
    Column("ACK WAIT", lambda item: str(item.settings["ack_wait"]), rigid=True, right=True, wide=True),
    Column("SCHEDULES", lambda item: str(len(item.status.schedules)), rigid=True, right=True),
    Column("NOTE", lambda item: item.settings["pause_note"] or ""),
)


@app.command("list")
@connected
@shown_as("json", "names")
async def list_queues(
    connection: Connection,
    shown: Format,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="TEXT", help="Names that begin so.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most that many.")] = None,
) -> None:
    """List queues, by name."""
    empty = (
        "No queue matches." if prefix else f"No queues yet. The first schedule that names one makes it, or:  {EXAMPLE}"
    )
    async with connection.client() as client:
        items = first(client.calls.pages("queue.list", api.ListQueues(prefix=prefix)), limit)
        await print_list(items, api.QueueItem, COLUMNS, shown, empty=empty)
