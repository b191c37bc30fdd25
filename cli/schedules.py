"""`schedctl add | delete | pause | resume | trigger`: what changes schedules; reads are in `showing`, `previewing`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import UNSET

from cli import summaries
from cli.connecting import Connection, connected
from cli.definitions import by_flags, checked_id, read_payload
from cli.files import Entry, load
from cli.output import Format, agreed, instant, say, shown_as, warn
from cli.selecting import Selection, Verb, by_selection, do_each, each_of, only
from scheduler.client import Client, trigger_request
from scheduler.core.errors import Conflict, InvalidArgument
from scheduler.core.model.status import ScheduleState
from scheduler.wire import api

OptionalId = Annotated[str | None, typer.Argument(metavar="ID", help="Id of the schedule.", show_default=False)]
File = Annotated[
    Path | None,
    typer.Option("-f", "--file", metavar="FILE", help="Definitions as YAML or JSON, each with an id; - is stdin."),
]


def register(app: typer.Typer) -> None:
    """Put these commands into `schedctl`."""
    for command in (add, delete, pause, resume, trigger):
        app.command(command.__name__)(command)


# --- add


@connected
@shown_as("json")
@by_flags()
async def add(
    connection: Connection,
    shown: Format,
    fields: dict[str, Any],
    schedule_id: OptionalId = None,
    file: File = None,
    replace: Annotated[bool, typer.Option("--replace", metavar="", help="Overwrite a schedule that exists.")] = False,
    expected_revision: Annotated[
        int | None, typer.Option("--expected-revision", metavar="N", min=0, help="Overwrite exactly this revision.")
    ] = None,
) -> None:
    """Add a schedule, by flags or from a file; one that exists is left alone unless --replace is given."""
    if replace and expected_revision is not None:
        raise InvalidArgument("--replace and --expected-revision exclude each other", field="expected_revision")
    entries = entries_of(schedule_id, fields, file)
    expected = None if replace else expected_revision or 0
    by_id = {entry.id: entry for entry in entries}
    async with connection.client() as client:

        async def put(schedule_id: str) -> api.PutReply:
            return await _put(client, by_id[schedule_id], expected)

        if len(entries) == 1:
            await only(lambda: put(entries[0].id), _tell_put, shown)
        else:
            await each_of(list(by_id), put, _tell_put, shown, title="Adding", what="refused")


def entries_of(schedule_id: str | None, fields: dict[str, Any], file: Path | None) -> Sequence[Entry]:
    if file is None:
        return [Entry(checked_id(schedule_id), fields)]
    if fields:
        raise InvalidArgument("give the definition with -f or with flags, not both", field="file")
    entries = load(file)
    chosen = [entry for entry in entries if schedule_id in {None, entry.id}]
    if not chosen:
        raise InvalidArgument(f"{file}: no definition of {schedule_id}", field="id")
    return chosen


async def _put(client: Client, entry: Entry, expected_revision: int | None) -> api.PutReply:
    try:
        return await client.schedules.put(entry.id, entry.schedule, expected_revision=expected_revision)
    except Conflict as problem:
        if expected_revision != 0:
            raise
        raise Conflict(f"{problem.message} (--replace overwrites it)") from None


def _tell_put(reply: api.PutReply) -> None:
    for warning in reply.warnings:
        warn(f"warning: {warning}")
    following = f"next {instant(reply.next[0])}" if reply.next else "no fire ahead"
    say(f"{reply.id} stored as revision {reply.revision}, {following}")


# --- changes


@connected
@shown_as("json")
@by_selection()
async def delete(connection: Connection, shown: Format, selection: Selection) -> None:
    """Delete schedules. What runs already goes on; what is on record stays until its retention is over."""
    ids = selection.ids
    if ids and not selection.yes and not selection.dry_run and not agreed(f"Delete {_listed(ids)}?"):
        warn("Nothing deleted.")
        raise typer.Exit(1)
    async with connection.client() as client:

        async def change(schedule_id: str, revision: int | None) -> api.Revision:
            reply: api.Revision = await client.schedules.delete(schedule_id, expected_revision=revision)
            return reply

        await do_each(client, selection, Verb("delete", "deleted"), change, _tell("deleted"), shown)


def _tell(done: str) -> Callable[[api.Revision], None]:
    return lambda reply: say(f"{reply.id} {done}")


def _listed(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} schedules ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"


@connected
@shown_as("json")
@by_selection()
async def pause(
    connection: Connection,
    shown: Format,
    selection: Selection,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why, for the others.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="INSTANT", help="Resume by itself, as 2026-11-21T08:00:00Z.")
    ] = None,
) -> None:
    """Pause schedules: nothing fires until they are resumed. What runs already goes on.

    A selector leaves those alone that are paused already, with their notes.
    """
    verb = Verb("pause", "paused", lambda item: item.status.state != ScheduleState.PAUSED, "paused already")
    async with connection.client() as client:

        async def change(schedule_id: str, _: int | None) -> api.Revision:
            reply: api.Revision = await client.schedules.pause(schedule_id, note=note, until=until)
            return reply

        await do_each(client, selection, verb, change, _tell("paused"), shown)


@connected
@shown_as("json")
@by_selection()
async def resume(connection: Connection, shown: Format, selection: Selection) -> None:
    """Resume paused schedules. Nothing is made up for: what fell into the pause does not fire."""
    verb = Verb("resume", "resumed", _is_paused, "not paused")
    async with connection.client() as client:

        async def change(schedule_id: str, _: int | None) -> api.Revision:
            reply: api.Revision = await client.schedules.resume(schedule_id)
            return reply

        await do_each(client, selection, verb, change, _tell("resumed"), shown)


def _is_paused(item: api.ScheduleItem) -> bool:
    """Also one that is invalid, and paused beside."""
    return item.status.state == ScheduleState.PAUSED or summaries.pause(item.definition) is not None


@connected
@shown_as("json")
@by_selection(all_too=False)
async def trigger(
    connection: Connection,
    shown: Format,
    selection: Selection,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="In place of the schedule's own, or @FILE.")
    ] = None,
    nonce: Annotated[
        str | None, typer.Option("--nonce", metavar="WORD", help="Repeating it does not run it again.")
    ] = None,
    overlap: Annotated[
        str | None, typer.Option("--overlap", metavar="POLICY", help="In place of the schedule's own policy.")
    ] = None,
) -> None:
    """Run schedules now, once, paused or not."""
    value = UNSET if payload is None else read_payload(payload)
    for schedule_id in selection.ids or ("any",):  # refuse bad input before connecting
        trigger_request(schedule_id, payload=value, nonce=nonce, overlap=overlap)
    async with connection.client() as client:

        async def change(schedule_id: str, _: int | None) -> api.TriggerReply:
            reply: api.TriggerReply = await client.schedules.trigger(
                schedule_id, payload=value, nonce=nonce, overlap=overlap
            )
            return reply

        await do_each(client, selection, Verb("trigger", "triggered"), change, _tell_run, shown)


def _tell_run(reply: api.TriggerReply) -> None:
    say(f"{reply.execution_id} {reply.state}")
    if reply.state == "skipped":
        warn("It did not run, another run is not over yet; --overlap allow runs it all the same.")
