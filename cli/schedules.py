"""`schedctl add | get | list | delete | pause | resume | trigger | preview`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from msgspec import UNSET, Struct

from cli import summaries
from cli.connecting import Connection, connected
from cli.definitions import by_flags, checked_id, read_pairs, read_payload
from cli.files import Entry, load
from cli.output import (
    Column,
    Format,
    agreed,
    heading,
    instant,
    print_facts,
    print_json,
    print_list,
    print_table,
    say,
    shown_as,
    warn,
)
from scheduler.client import Client, first, preview_request, schedules_request, trigger_request
from scheduler.core.errors import Conflict, InvalidArgument, ScheddError, Unavailable
from scheduler.wire import api
from scheduler.wire.ids import check_schedule_id

T = TypeVar("T", bound=Struct)
NEXT_SHOWN = 5
EXAMPLE = "schedctl add hello --every 10s --queue default --type hello"

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the schedule.", show_default=False)]
OptionalId = Annotated[str | None, typer.Argument(metavar="ID", help="Id of the schedule.", show_default=False)]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of schedules.", show_default=False)]
File = Annotated[
    Path | None,
    typer.Option("-f", "--file", metavar="FILE", help="Definitions as YAML or JSON, each with an id; - is stdin."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Put these commands into `schedctl`."""
    for command in (add, get, list_schedules, delete, pause, resume, trigger, preview):
        app.command(command.__name__.removesuffix("_schedules"))(command)


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
    entries = _entries(schedule_id, fields, file)
    expected = None if replace else expected_revision or 0
    async with connection.client() as client:
        by_id = {entry.id: entry for entry in entries}
        await _each(list(by_id), lambda name: _put(client, by_id[name], expected), _tell_put, shown, "refused")


def _entries(schedule_id: str | None, fields: dict[str, Any], file: Path | None) -> Sequence[Entry]:
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


async def _each(
    ids: Sequence[str], change: Callable[[str], Awaitable[T]], tell: Callable[[T], None], shown: Format, failed: str
) -> None:
    """One after the other, and each gets its chance: the first failure decides the exit code. One alone answers with
    its own body, or its own error."""
    if len(ids) == 1:
        reply = await change(ids[0])
        print_json(api.encode(reply)) if shown.json else tell(reply)
        return
    replies: list[T] = []
    failures: list[ScheddError] = []
    for schedule_id in ids:
        try:
            replies.append(await change(schedule_id))
        except Unavailable:
            raise
        except ScheddError as problem:
            failures.append(problem)
            warn(f"{schedule_id}: {problem.message}")
            continue
        if not shown.json:
            tell(replies[-1])
    if shown.json:
        print_json(msgspec.json.encode(replies))
    if failures:
        raise type(failures[0])(f"{len(failures)} of {len(ids)} schedules were {failed}")


# --- reads


@connected
@shown_as("json")
async def get(connection: Connection, shown: Format, schedule_id: Id) -> None:
    """Show one schedule: definition, state, next fires, and what is wrong with it if it is invalid."""
    request = api.Id(id=check_schedule_id(schedule_id))
    async with connection.client() as client:
        body = await client.calls.fetch("schedule.get", request)
        if shown.json:
            print_json(body)
            return
        item = api.decode_reply(body, api.ScheduleItem)
        fires = await _next_fires(client, item)
    _show(item)
    if fires:
        heading("Next fires")
        _show_fires(fires)


async def _next_fires(client: Client, item: api.ScheduleItem) -> Sequence[api.Fire]:
    """For a look at a schedule a failing preview is no failure: what is wrong stands in its status."""
    if item.status.state not in {"active", "paused"}:
        return []
    try:
        return await client.schedules.preview(item.id, count=NEXT_SHOWN)
    except InvalidArgument:
        return []


def _show(item: api.ScheduleItem) -> None:
    definition, status = item.definition, item.status
    print_facts(
        [
            ("Id", item.id),
            ("Name", definition.get("name")),
            ("State", status.state),
            ("Error", status.error),
            ("Paused", summaries.pause(definition)),
            ("When", summaries.when(definition)),
            ("Queue", summaries.text(definition.get("queue"))),
            ("Type", summaries.text(definition.get("type"))),
            ("Next", instant(status.next_at)),
            ("Previous", instant(status.previous_at)),
            ("Last outcome", status.last_outcome),
            ("Running", ", ".join(status.active)),
            ("Revision", str(item.revision)),
        ]
    )
    heading("Definition")
    if item.raw_base64 is not None:
        say(f"no JSON; in base64: {item.raw_base64}")
    else:
        print_json(item.schedule)


LIST_COLUMNS: Sequence[Column[api.ScheduleItem]] = (
    Column("ID", lambda item: item.id),
    Column("WHEN", lambda item: summaries.when(item.definition)),
    Column("QUEUE", lambda item: summaries.text(item.definition.get("queue")), wide=True),
    Column("TYPE", lambda item: summaries.text(item.definition.get("type")), wide=True),
    Column("STATE", lambda item: item.status.state, rigid=True),
    Column("NEXT", lambda item: instant(item.status.next_at), rigid=True),
    Column("LAST", lambda item: item.status.last_outcome or "-", rigid=True),
)


@connected
@shown_as("json", "names")
async def list_schedules(
    connection: Connection,
    shown: Format,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="TEXT", help="Ids that begin so.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="With this label; may be repeated.")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="active, paused, invalid or exhausted.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most that many.")] = None,
) -> None:
    """List schedules, by id."""
    request = schedules_request(prefix=prefix, labels=read_pairs(label or [], "--label"), state=state)
    empty = "No schedule matches." if prefix or label or state else f"No schedules yet. Add one:  {EXAMPLE}"
    async with connection.client() as client:
        items = first(client.calls.pages("schedule.list", request), limit)
        await print_list(items, api.ScheduleItem, LIST_COLUMNS, shown, empty=empty)


# --- changes


@connected
@shown_as("json")
async def delete(connection: Connection, shown: Format, schedule_ids: Ids, yes: Yes = False) -> None:
    """Delete schedules. What runs already goes on; what is on record stays until its retention is over."""
    if not yes and not agreed(f"Delete {_listed(schedule_ids)}?"):
        warn("Nothing deleted.")
        raise typer.Exit(1)
    async with connection.client() as client:
        await _each(_checked(schedule_ids), client.schedules.delete, _tell("deleted"), shown, "not deleted")


def _checked(ids: Sequence[str]) -> Sequence[str]:
    """The ids, each once. Raises InvalidArgument before anything is done if one is none."""
    return list(dict.fromkeys(check_schedule_id(schedule_id) for schedule_id in ids))


def _tell(done: str) -> Callable[[api.Revision], None]:
    return lambda reply: say(f"{reply.id} {done}")


def _listed(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} schedules ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"


@connected
@shown_as("json")
async def pause(
    connection: Connection,
    shown: Format,
    schedule_ids: Ids,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why, for the others.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="INSTANT", help="Resume by itself, as 2026-11-21T08:00:00Z.")
    ] = None,
) -> None:
    """Pause schedules: nothing fires until they are resumed. What runs already goes on."""

    async def change(client: Client, schedule_id: str) -> api.Revision:
        return await client.schedules.pause(schedule_id, note=note, until=until)

    async with connection.client() as client:
        await _each(_checked(schedule_ids), lambda name: change(client, name), _tell("paused"), shown, "not paused")


@connected
@shown_as("json")
async def resume(connection: Connection, shown: Format, schedule_ids: Ids) -> None:
    """Resume paused schedules. Nothing is made up for: what fell into the pause does not fire."""
    async with connection.client() as client:
        await _each(_checked(schedule_ids), client.schedules.resume, _tell("resumed"), shown, "not resumed")


@connected
@shown_as("json")
async def trigger(
    connection: Connection,
    shown: Format,
    schedule_id: Id,
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
    """Run a schedule now, once, paused or not."""
    value = UNSET if payload is None else read_payload(payload)
    trigger_request(schedule_id, payload=value, nonce=nonce, overlap=overlap)  # refuse bad input before connecting
    async with connection.client() as client:
        reply = await client.schedules.trigger(schedule_id, payload=value, nonce=nonce, overlap=overlap)
    if shown.json:
        print_json(api.encode(reply))
    else:
        say(f"{reply.execution_id} {reply.state}")
        if reply.state == "skipped":
            warn("It did not run, another run is not over yet; --overlap allow runs it all the same.")


# --- preview


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
        entry = _only(_entries(schedule_id, fields, file), file)
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
    _show_fires(reply.fires)
    if not reply.fires:
        warn("It never fires.")


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


def _show_fires(fires: Sequence[api.Fire]) -> None:
    if fires:
        print_table(fires, FIRE_COLUMNS)
