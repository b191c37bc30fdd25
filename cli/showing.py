"""`schedctl get | list`: schedules for people, and as definitions that `apply -f` reads back to the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import msgspec
import typer
from msgspec import Raw

from cli import summaries
from cli.bulk import carry_out, tell_failures
from cli.connecting import Connection, connected
from cli.definitions import read_pairs
from cli.documents import as_yaml
from cli.output import (
    Column,
    Format,
    clean,
    heading,
    instant,
    print_facts,
    print_json,
    print_list,
    say,
    shown_as,
    warn,
)
from cli.previewing import show_fires
from cli.selecting import Selectors, joined
from scheduler.client import Client, first, schedules_request
from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.wire import api
from scheduler.wire.ids import check_schedule_id

NEXT_SHOWN = 5
EXAMPLE = "schedctl add hello --every 10s --queue default --type hello"

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Ids of schedules.", show_default=False)]
Output = Annotated[
    str | None, typer.Option("-o", "--output", metavar="yaml|json", help="Definitions, as `apply -f` takes them.")
]


@connected
@shown_as("json")
async def get(
    connection: Connection, shown: Format, schedule_ids: Ids = None, selector: Selectors = None, output: Output = None
) -> None:
    """Show schedules: definition, state, next fires, and what is wrong with it if one is invalid."""
    wanted, ids = joined(selector), list(dict.fromkeys(check_schedule_id(each) for each in schedule_ids or ()))
    if bool(ids) == bool(wanted):
        raise InvalidArgument("give the ID of a schedule, or several, or -l team=crm", field="id")
    _check_output(output, shown)
    async with connection.client() as client:
        if len(ids) == 1:
            body = await client.calls.fetch("schedule.get", api.Id(id=ids[0]))
            await _show_one(client, body, shown, output)
            return
        failures: list[tuple[str, ScheddError]] = []
        items = (
            _found(client, ids, failures)
            if ids
            else client.calls.pages("schedule.list", schedules_request(selector=wanted))
        )
        await _print(items, shown, output, empty=f"No schedule matches {wanted}." if wanted else "")
    tell_failures(failures, total=len(ids), tried=len(ids), what="not found")


async def _found(client: Client, ids: Sequence[str], failures: list[tuple[str, ScheddError]]) -> AsyncIterator[Raw]:
    """The bodies of those that are there; of the others, why not goes to `failures`."""

    async def fetch(schedule_id: str) -> bytes:
        return await client.calls.fetch("schedule.get", api.Id(id=schedule_id))

    async for schedule_id, outcome in carry_out(ids, fetch, title="Reading"):
        if isinstance(outcome, ScheddError):
            failures.append((schedule_id, outcome))
        else:
            yield Raw(outcome)


async def _show_one(client: Client, body: bytes, shown: Format, output: str | None) -> None:
    if shown.json:
        print_json(body)
        return
    item = api.decode_reply(body, api.ScheduleItem)
    if output is not None:
        document = document_of(item)
        say(_written(document, output))
        return
    fires = await _next_fires(client, item)
    _show(item)
    if fires:
        heading("Next fires")
        show_fires(fires)


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


# --- as definitions


def _check_output(output: str | None, shown: Format) -> None:
    """Raises InvalidArgument."""
    if output not in {None, "yaml", "json"}:
        raise InvalidArgument(f"-o {output!r:.40}: use yaml or json", field="output")
    if output is not None and (shown.json or shown.names):
        raise InvalidArgument("-o and --json (or --names) exclude each other", field="output")


def document_of(item: api.ScheduleItem) -> dict[str, object]:
    """The definition with its id, as files have it. Raises InvalidArgument for a value that is no JSON object."""
    stored = None if item.raw_base64 is not None else json.loads(bytes(item.schedule))
    if not isinstance(stored, dict):
        raise InvalidArgument(f"{item.id}: its value is no JSON object, so it has no definition", field="id")
    if "id" in stored:
        raise InvalidArgument(f"{item.id}: its value has a field `id`, which a definition cannot have", field="id")
    return {"id": item.id, **stored}


def _written(document: dict[str, object], output: str) -> str:
    if output == "yaml":
        return as_yaml([document]).rstrip("\n")
    return json.dumps(document, indent=2, ensure_ascii=False)


async def _print(items: AsyncIterator[Raw], shown: Format, output: str | None, *, empty: str) -> None:
    """Several schedules: a table, the bodies of the API, or their definitions."""
    if output is None:
        await print_list(items, api.ScheduleItem, LIST_COLUMNS, shown, empty=empty)
        return
    count = 0
    async for raw in items:
        item = msgspec.json.decode(raw, type=api.ScheduleItem)
        try:
            document = document_of(item)
            text = _written(document, output)
        except InvalidArgument as problem:
            warn(f"warning: left out: {clean(problem.sentence)}")
            continue
        say(text if output == "yaml" else f"{'[' if not count else ','}\n{text}")
        count += 1
    if output == "json":
        say("\n]" if count else "[]")
    elif not count:
        warn(empty)


# --- list


@connected
@shown_as("json", "names")
async def list_schedules(
    connection: Connection,
    shown: Format,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="TEXT", help="Ids that begin so.")] = None,
    selector: Selectors = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="With this label; may be repeated.")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="active, paused, invalid or exhausted.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most that many.")] = None,
    output: Output = None,
) -> None:
    """List schedules, by id."""
    _check_output(output, shown)
    labels = read_pairs(label or [], "--label")
    request = schedules_request(prefix=prefix, labels=labels, selector=joined(selector), state=state)
    is_filtered = prefix or label or state or selector
    empty = "None matches; `schedctl list` shows all." if is_filtered else f"No schedules yet. Add one:  {EXAMPLE}"
    async with connection.client() as client:
        items = first(client.calls.pages("schedule.list", request), limit)
        await _print(items, shown, output, empty=empty)
