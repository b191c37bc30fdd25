"""`schedctl completion bash|zsh|fish`: a script for the shell, which then asks `schedctl` itself what may follow.

Subcommands and flags come from the commands as they are; ids, queues, calendars and states by what a parameter is,
which its metavar and its help tell: so every command completes, whoever adds it. Values are asked from the daemon
within `ASK_S`; whoever cannot be asked offers nothing, and says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, get_args

import msgspec
import typer
from msgspec import Struct

from cli.connecting import Connection
from cli.output import say
from scheduler.core.model.execution import State
from scheduler.core.model.status import ScheduleState
from scheduler.wire import api

VARIABLE = "_SCHEDCTL_COMPLETE"  # typer's name for the request, made from the command's
ASK_S = 1.5
OFFERED_MAX = 200

Offer = Callable[[typer.Context, str], list[str]]


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Your shell.", show_default=False)],
) -> None:
    """Print what lets your shell complete schedctl: `source <(schedctl completion bash)`; for fish, `| source`.

    In bash, zsh: put that line into ~/.bashrc, or ~/.zshrc after compinit. In fish: `schedctl completion fish >
    ~/.config/fish/completions/schedctl.fish`.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # its home is private

    say(get_completion_script(prog_name="schedctl", complete_var=VARIABLE, shell=shell.value))


def prepare(app: typer.Typer) -> None:
    """If a shell asks (and only then), let every parameter of `app` know what to offer."""
    if VARIABLE not in os.environ:
        return
    from typer.completion import completion_init  # type: ignore[attr-defined]  # its home is private

    completion_init()
    for parameter in _parameters(app):
        parameter.autocompletion = _offer_of(parameter) or parameter.autocompletion


def _parameters(app: typer.Typer) -> Iterator[Any]:
    """What typer knows of each parameter: its `ArgumentInfo` or `OptionInfo`."""
    for command in app.registered_commands:
        for parameter in inspect.signature(command.callback or print).parameters.values():
            yield from (info for info in get_args(parameter.annotation)[1:] if hasattr(info, "autocompletion"))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _parameters(group.typer_instance)


def _offer_of(parameter: Any) -> Offer | None:
    """By what it is called in the help: `ID` of a schedule, `QUEUE`, ..."""
    kind = str(parameter.metavar or "").strip("[]").removesuffix("...")
    told = str(parameter.help or "").lower()
    if kind == "ID":
        nouns = {"execution": _executions, "schedule": _schedules}
        return next((offer for noun, offer in nouns.items() if noun in told), None)
    if kind == "NAME" and "calendar" in told:
        return _calendars
    if kind == "STATE":
        states = [state.value for state in ScheduleState] if "paused" in told else [state.value for state in State]
        return lambda ctx, incomplete: [state for state in states if state.startswith(incomplete)]
    return _queues if kind == "QUEUE" else None


# --- what the daemon knows


class _Id(Struct):
    id: str


class _Page(Struct):
    items: list[_Id]


def _schedules(ctx: typer.Context, incomplete: str) -> list[str]:
    return _asked(ctx, incomplete, "schedule.list", api.ListSchedules(prefix=incomplete or None, limit=OFFERED_MAX))


def _executions(ctx: typer.Context, incomplete: str) -> list[str]:
    return _asked(ctx, incomplete, "execution.list", api.ListExecutions(limit=OFFERED_MAX))


def _calendars(ctx: typer.Context, incomplete: str) -> list[str]:
    return _asked(ctx, incomplete, "calendar.list", api.ListCalendars(prefix=incomplete or None, limit=OFFERED_MAX))


def _queues(ctx: typer.Context, incomplete: str) -> list[str]:
    body = _fetched(ctx, "status.health", api.Nothing())
    checks = msgspec.json.decode(body, type=api.HealthReply).checks if body else []
    return [
        each.of for each in checks if each.name == "queue" and each.of is not None and each.of.startswith(incomplete)
    ]


def _asked(ctx: typer.Context, incomplete: str, endpoint: str, request: api.Request) -> list[str]:
    body = _fetched(ctx, endpoint, request)
    items = msgspec.json.decode(body, type=_Page).items if body else []
    return [item.id for item in items if item.id.startswith(incomplete)]


def _fetched(ctx: typer.Context, endpoint: str, request: api.Request) -> bytes:
    """The answer; empty if there is none in time, whatever the reason: a prompt is no place for errors."""
    with contextlib.suppress(Exception):
        return asyncio.run(_fetch(_connection(ctx), endpoint, request))
    return b""


async def _fetch(connection: Connection, endpoint: str, request: api.Request) -> bytes:
    async with asyncio.timeout(ASK_S), connection.client() as client:
        return bytes(await client.calls.fetch(endpoint, request))
    raise AssertionError("a timeout raises")


def _connection(ctx: typer.Context) -> Connection:
    """The connection options typed so far, the innermost first."""
    found: dict[str, Any] = {}
    place: Any = ctx
    while place is not None:
        given: Mapping[str, Any] = place.params
        for name in ("nats", "context", "namespace"):
            if given.get(name) is not None:
                found.setdefault(name, given[name])
        place = place.parent
    return Connection(**found)
