"""`schedctl action list | invoke`: what workers offer to do by hand for a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec import UNSET

from cli.connecting import Connection, connected, group
from cli.definitions import read_payload
from cli.output import Column, Format, clean_lines, print_json, print_list, say, shown_as, warn
from scheduler.client import action_request, actions_request
from scheduler.wire import api
from scheduler.wire.instants import parse_duration

EXAMPLE = '@worker.action("my-schedule", "Rebuild index")'

app = typer.Typer(no_args_is_help=True, help="What workers offer to do by hand for a schedule.")


@app.callback()
@group
def action(connection: Connection) -> None:
    """What workers offer to do by hand for a schedule."""


COLUMNS: Sequence[Column[api.ActionItem]] = (
    Column("SCHEDULE", lambda item: item.schedule),
    Column("ACTION", lambda item: item.action),
    Column("TITLE", lambda item: item.title),
    Column("WORKERS", lambda item: str(item.workers), rigid=True, right=True),
)


@app.command("list")
@connected
@shown_as("json", "names")
async def list_actions(
    connection: Connection,
    shown: Format,
    schedule: Annotated[str | None, typer.Option("--schedule", metavar="ID", help="Of this schedule only.")] = None,
) -> None:
    """List the actions that running workers offer."""
    async with connection.client() as client:
        items = client.calls.pages("action.list", actions_request(schedule=schedule))
        what = f"No running worker offers an action of {schedule}" if schedule else "No running worker offers an action"
        await print_list(items, api.ActionItem, COLUMNS, shown, empty=f"{what}. In its code:  {EXAMPLE}")


@app.command()
@connected
@shown_as("json")
async def invoke(
    connection: Connection,
    shown: Format,
    schedule: Annotated[str, typer.Argument(metavar="ID", help="Id of the schedule.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="ACTION", help="As `action list` shows it.", show_default=False)],
    payload: Annotated[str | None, typer.Option("--payload", metavar="JSON", help="For the action, or @FILE.")] = None,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long it may take, up to 5m.")] = "30s",
) -> None:
    """Have a worker carry out an action, and show its result; exit code 1 if it did not succeed."""
    value = UNSET if payload is None else read_payload(payload)
    limit = parse_duration(timeout, field="timeout")
    action_request(schedule, name, payload=value, timeout=limit)  # refuse bad input before connecting
    async with connection.client() as client:
        reply = await client.actions.invoke(schedule, name, value, timeout=limit)
    if shown.json:
        print_json(api.encode(reply))
    else:
        _tell(reply)
    if reply.outcome != "succeeded":
        raise typer.Exit(1)


def _tell(reply: api.ActionReply) -> None:
    say(f"{reply.outcome} in {reply.duration_s:.3f} s on {reply.worker}")
    if bytes(reply.result) != b"null":
        print_json(reply.result)
    if reply.error is not None:
        warn(clean_lines(f"{reply.error.type}: {reply.error.message}"))
