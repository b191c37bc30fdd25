"""`schedctl worker run`: serve queues with the functions of a Python module."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.connecting import Connection, group, placed
from scheduler.core.errors import InvalidArgument

if TYPE_CHECKING:
    from scheduler.worker import Worker

app = typer.Typer(no_args_is_help=True, help="Workers: who carries out the tasks.")


@app.callback()
@group
def workers(connection: Connection) -> None:
    """Workers: who carries out the tasks."""


@app.command("run")
@placed
def run(
    connection: Connection,
    target: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="Where the Worker is.", show_default=False)],
    log_format: Annotated[str, typer.Option("--log-format", metavar="text|json", help="Of the log.")] = "text",
) -> None:
    """Serve until Ctrl-C or SIGTERM; what runs then may finish. The module is looked for here first."""
    from scheduler.telemetry.logging import configure_logging

    configure_logging(log_format)
    _export(connection)
    load_worker(target).run()


def _export(connection: Connection) -> None:
    """The worker connects as its environment says: let the options be that environment."""
    if connection.nats or connection.context:
        os.environ.pop("NATS_URL", None)
        os.environ.pop("NATS_CONTEXT", None)
    given = {
        "NATS_URL": connection.nats,
        "NATS_CONTEXT": connection.context,
        "SCHEDD_NAMESPACE": connection.namespace,
    }
    os.environ.update({name: value for name, value in given.items() if value})


def load_worker(target: str) -> Worker:
    """The Worker that `module:name` names; modules of the working directory come first. Raises InvalidArgument."""
    from scheduler.worker import Worker

    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise InvalidArgument(f"{target!r:.80}: write MODULE:NAME, as in tasks:worker", field="target")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as problem:
        raise InvalidArgument(f"cannot import {module_name}: {_cause(problem)}", field="target") from None
    found = getattr(module, name, None)
    if not isinstance(found, Worker):
        what = "has no such name" if found is None else f"is a {type(found).__name__}, not a Worker"
        raise InvalidArgument(f"{target}: {name} {what}", field="target")
    return found


def _cause(problem: Exception) -> str:
    """What went wrong in the module, and where: the user's own code, so the place matters."""
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if "importlib" not in frame.filename]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(problem).__name__}: {problem}{where}"
