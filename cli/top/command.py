"""`schedctl top`: the options."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Annotated

import typer

from cli.connecting import Connection, connected
from cli.output import say, warn
from cli.top.looking import Looker
from cli.top.plain import print_look
from scheduler.core.errors import InvalidArgument, Unavailable
from scheduler.jetstream.connection import ConnectionSettings

INSTALL = "the live view needs textual: pip install 'schedd[tui]' (or `schedctl top --once` for one look as text)"


@connected
async def top(
    connection: Connection,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.2, help="Between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", metavar="", help="One look, as text.")] = False,
) -> None:
    """Watch the whole live: health, rates, queues, what runs and how far it is, what failed last."""
    if not once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidArgument("the live view needs a terminal; --once prints one look", field="once")
    if not once and not _has_textual():
        warn(f"schedctl: {INSTALL}")
        raise typer.Exit(1)
    async with connection.client() as client:
        settings = ConnectionSettings.from_environment(connection.nats, connection.context, connection.namespace)
        looker = Looker(client, settings.namespace)
        if once:
            look = await looker.look()
            if look.problem is not None:
                raise Unavailable(look.problem)
            print_look(look)
            return
        from cli.top.app import Top

        await looker.listen()
        screen = Top(looker.look, every_s=every)
        # Ended from outside, it gives the terminal back as well.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, screen.exit)
        await screen.run_async()
    say("")


def _has_textual() -> bool:
    try:
        import textual  # noqa: F401 - is it there?
    except ImportError:
        return False
    return True
