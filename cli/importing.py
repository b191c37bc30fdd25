"""`schedctl import ...`: what comes from elsewhere."""

from __future__ import annotations

import typer

from cli.backups import import_backup
from cli.connecting import Connection, group
from cli.migrating import cronjobs, crontab

app = typer.Typer(no_args_is_help=True, help="Take over what comes from elsewhere.")


@app.callback()
@group
def importing(connection: Connection) -> None:
    """Take over what comes from elsewhere."""


app.command("backup")(import_backup)
app.command("crontab")(crontab)
app.command("cronjobs")(cronjobs)
