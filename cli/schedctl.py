"""`schedctl`: look at schedules and executions, and change them. Talks to the daemon's API over NATS."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import (
    actions,
    applying,
    auditing,
    backfills,
    backups,
    calendars,
    editing,
    events,
    executions,
    importing,
    previewing,
    queues,
    schedules,
    showing,
    simulations,
    status,
    workers,
)
from cli.completing import completion, prepare
from cli.connecting import Connection, group
from cli.examples import give
from cli.running import program, run
from cli.top.command import top
from cli.versions import show_version

NAME = "schedctl"

app = program()


@app.callback()
@group
def schedctl(
    connection: Connection,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", is_eager=True, callback=show_version(NAME), help="Show the version."),
    ] = False,
) -> None:
    """Look at schedules and executions, and change them."""


schedules.register(app)
app.command("get")(showing.get)
app.command("list")(showing.list_schedules)
app.command("preview")(previewing.preview)
app.command("apply")(applying.apply)
app.command("diff")(applying.diff)
app.command("edit")(editing.edit)
app.command("backfill")(backfills.backfill)
app.command("audit")(auditing.audit)
app.command("simulate")(simulations.simulate)
app.command("export")(backups.export)
app.command("status")(status.status)
app.command("top")(top)
app.command("events")(events.events)
app.command("completion")(completion)
app.add_typer(executions.app, name="executions")
app.add_typer(queues.app, name="queue")
app.add_typer(calendars.app, name="calendar")
app.add_typer(importing.app, name="import")
app.add_typer(workers.app, name="worker")
app.add_typer(actions.app, name="action")


def main(arguments: Sequence[str] | None = None) -> None:
    prepare(app)
    give(app, NAME)
    sys.exit(run(app, NAME, arguments))


if __name__ == "__main__":
    main()
