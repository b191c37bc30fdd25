"""The connection options, the same for every command, before or after the subcommand; the inner one wins."""

from __future__ import annotations

import asyncio
import functools
import getpass
import inspect
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import typer
from msgspec import Struct
from msgspec.structs import asdict

from cli.errors import ReaderGone
from cli.options import Command, expand, option
from scheduler.core.errors import NotFound

PANEL = "Connection"
OPTIONS = (
    option(
        "nats", str | None, "--nats", metavar="URL[,URL]", rich_help_panel=PANEL,
        text="NATS servers; else $NATS_URL, else the context, else 127.0.0.1:4222.",
    ),
    option(
        "context", str | None, "--context", metavar="NAME", rich_help_panel=PANEL,
        text="Context of the nats command line tool; else $NATS_CONTEXT, else the selected one.",
    ),
    option(
        "namespace", str | None, "--namespace", metavar="NAME", rich_help_panel=PANEL,
        text="Namespace of the daemon; else $SCHEDD_NAMESPACE, else schedd.",
    ),
)  # fmt: skip
_CONTEXT = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


class Connection(Struct, frozen=True):
    """What was given on the command line; None: not given, the environment decides."""

    nats: str | None = None
    context: str | None = None
    namespace: str | None = None

    def over(self, outer: Connection) -> Connection:
        """This one, completed by what was given further left."""
        return Connection(**{**asdict(outer), **self.given()})

    def given(self) -> dict[str, str]:
        """Only what was given, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """A connected `scheduler.client.Client`. Raises Unavailable, InvalidArgument."""
        from scheduler.client import Client

        async with Client.connect(self.nats, self.context, self.namespace, name=f"schedctl {_user()}") as client:
            yield client


def _user() -> str:
    """Whoever types, for the events that tell who did what."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # no name for this number
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def _collect(values: Mapping[str, Any]) -> Connection:
    ctx = values["ctx"]
    found = Connection(values["nats"], values["context"], values["namespace"]).over(ctx.obj or Connection())
    ctx.obj = found
    return found


def group(function: Command) -> Command:
    """A callback of an app or of a noun: it takes the options and remembers them for the subcommand."""
    return placed(function)


def placed(function: Command) -> Command:
    """A command that takes the options, and connects (or not) by itself."""
    return expand(function, "connection", (_CONTEXT, *OPTIONS), _collect)


async def _suggesting(function: Command, given: dict[str, Any]) -> None:
    try:
        await function(**given)
    except NotFound as problem:
        from cli.suggesting import with_suggestion

        raise await with_suggestion(given["connection"], problem) from None


def connected(function: Command) -> Command:
    """A command from `async def command(connection, ...)`."""

    @functools.wraps(function)
    def run(**given: Any) -> None:
        try:
            asyncio.run(_suggesting(function, given))
        except BrokenPipeError:
            raise ReaderGone from None

    return placed(run)
