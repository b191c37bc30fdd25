"""`schedd`: the daemon. `run` is a replica, `dev` brings its own NATS server, `demo` shows it all at work."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connecting import Connection, group, placed
from cli.examples import give
from cli.options import Command, expand, option
from cli.running import program
from cli.running import run as run_command
from cli.versions import show_version

NAME = "schedd"

app = program()
FLAGS = (
    option("monitor", str | None, "--monitor", metavar="ADDR", text="Where /metrics, /healthz and /readyz are, or off; "
           "default :8080. $SCHEDD_MONITOR"),
    option("admin", str | None, "--admin", metavar="ADDR", text="Where the Admin center is, or off; default "
           "127.0.0.1:8088. $SCHEDD_ADMIN"),
    option("stream_replicas", str | None, "--stream-replicas", metavar="1|3|5", text="Copies of every stream and "
           "bucket; default 1. $SCHEDD_STREAM_REPLICAS"),
    option("replica", str | None, "--replica", metavar="LABEL", text="Name of this replica; default: of this host. "
           "$SCHEDD_REPLICA"),
    option("horizon", str | None, "--horizon", metavar="SPAN", text="How far ahead occurrences are armed; default "
           "120s. $SCHEDD_HORIZON"),
    option("webhooks", str | None, "--webhooks", metavar="FILE", text="Endpoints that get events, as YAML or JSON. "
           "$SCHEDD_WEBHOOKS"),
    option("log_format", str | None, "--log-format", metavar="text|json", text="Of the log on standard error; default "
           "text. $SCHEDD_LOG_FORMAT"),
)  # fmt: skip


def with_flags(function: Command) -> Command:
    """Give a command the flags of a replica; it gets those that were given as `flags`."""

    def given(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    return expand(function, "flags", FLAGS, given)


@app.callback()
@group
def schedd(
    connection: Connection,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", is_eager=True, callback=show_version(NAME), help="Show the version."),
    ] = False,
) -> None:
    """A distributed scheduler on NATS JetStream."""


@app.command("run")
@placed
@with_flags
def run(connection: Connection, flags: dict[str, Any]) -> None:
    """Run a replica until SIGTERM or Ctrl-C. Start as many as you like: one of them leads."""
    from scheduler.config import Settings
    from scheduler.daemon import run as run_daemon

    settings = Settings.load({**connection.given(), **flags}, os.environ)
    raise typer.Exit(run_daemon(settings))


@app.command("dev")
@placed
@with_flags
def dev(
    connection: Connection,
    flags: dict[str, Any],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Keep the data here; default: a temporary folder.")
    ] = None,
) -> None:
    """Run a NATS server and a replica on this machine, for development; prints NATS_URL=... when it is ready."""
    from cli.developing import develop

    raise typer.Exit(develop(data, connection, flags, os.environ))


@app.command("demo")
def demo(
    duration: Annotated[str, typer.Option("--for", metavar="SPAN", help="How long.")] = "15s",
) -> None:
    """See it work: a server, a replica, some schedules and a worker, all in this process and gone afterwards."""
    from cli.demo import show

    raise typer.Exit(show(duration))


@app.command("webhooks")
def webhooks(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The file; default: $SCHEDD_WEBHOOKS.", show_default=False)
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", metavar="NAME", help="Send one test event to this webhook.")
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", metavar="NAME", help="That the event is of.")] = "schedd",
) -> None:
    """Check a webhooks file, secrets included, and show what it asks for; or send a test event. Needs no NATS."""
    from cli.webhooks import check

    raise typer.Exit(check(file or os.environ.get("SCHEDD_WEBHOOKS") or None, test, namespace, os.environ))


def main(arguments: Sequence[str] | None = None) -> None:
    give(app, NAME)
    sys.exit(run_command(app, NAME, arguments))


if __name__ == "__main__":
    main()
