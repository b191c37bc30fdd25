"""`schedctl worker list | run | exec | prune`: who works; serve queues by a module or a program; tidy up after it."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.connecting import Connection, connected, group, placed
from cli.files import Entry, keep
from cli.output import Column, Format, agreed, instant, print_list, say, seconds, shown_as, warn
from cli.programs.command import exec_program
from scheduler.client import workers_request
from scheduler.core.errors import InvalidArgument
from scheduler.system.clock import SystemClock
from scheduler.wire import api
from scheduler.wire.instants import parse_instant

if TYPE_CHECKING:
    from scheduler.worker import Worker

app = typer.Typer(no_args_is_help=True, help="Workers: who carries out the tasks.")


@app.callback()
@group
def workers(connection: Connection) -> None:
    """Workers: who carries out the tasks."""


@app.command("list")
@connected
@shown_as("json", "names")
async def list_workers(
    connection: Connection,
    shown: Format,
    queue: Annotated[str | None, typer.Option("--queue", metavar="QUEUE", help="Who serves this queue.")] = None,
) -> None:
    """List who works: SDK workers, and others that write a row. Workers that only pull and ack are not known."""
    async with connection.client() as client:
        items = client.calls.pages("worker.list", workers_request(queue=queue))
        empty = "Nobody gives signs of life" + (f" for queue {queue}" if queue else "")
        await print_list(items, api.WorkerItem, _columns(SystemClock().now()), shown, empty=f"{empty}. {NEXT}")


NEXT = "Start one:  schedctl worker run MODULE:NAME  (workers that only pull and ack are not listed)"


def _columns(now: datetime) -> Sequence[Column[api.WorkerItem]]:
    def seen(worker: api.WorkerItem) -> str:
        ago_s = (now - parse_instant(worker.at)).total_seconds() if worker.at else None
        return "-" if ago_s is None else f"{seconds(max(0.0, ago_s))} ago"

    return (
        Column("WORKER", lambda worker: worker.worker),
        Column("QUEUES", lambda worker: ", ".join(worker.queues) or "-"),
        Column("RUNNING", lambda worker: f"{len(worker.running)}/{worker.concurrency or '?'}", rigid=True, right=True),
        Column("SINCE", lambda worker: instant(worker.started_at), rigid=True),
        Column("SEEN", seen, rigid=True, right=True),
        Column("VERSION", lambda worker: worker.version or "-"),
        Column("TYPES", lambda worker: ", ".join(worker.types) or "-"),
        Column("HOST", lambda worker: f"{worker.host}:{worker.pid}" if worker.host else "-", wide=True),
    )


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


app.command("exec", context_settings={"allow_interspersed_args": False})(exec_program)


@app.command("prune")
@connected
async def prune(
    connection: Connection,
    target: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="Where the Worker is.", show_default=False)],
    export: Annotated[
        Path, typer.Option("--export", metavar="FILE", help="Where their definitions are kept; must not exist.")
    ] = Path("pruned-schedules.yaml"),
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only say which.")] = False,
) -> None:
    """Delete the schedules that this worker once declared and does no more; they are exported first."""
    from scheduler.wire.applying import OWNER_LABEL
    from scheduler.worker.declaring import orphans

    worker = load_worker(target)
    if worker.name is None:
        raise InvalidArgument(f'{target} has no name, so nothing is marked as its own: Worker(..., name="...")')
    declared = worker.declared()
    async with connection.client() as client:
        owned = {item.id: item async for item in client.schedules.list(labels={OWNER_LABEL: worker.name})}
        gone = orphans(declared, owned)
        if not gone or dry_run:
            say(
                "\n".join(gone)
                or f"Nothing to prune: the code of {worker.name} declares all that is stored as its own."
            )
            return
        say("\n".join(gone))
        if not yes and not agreed(f"Delete {len(gone)} schedules?"):
            warn("Nothing deleted.")
            raise typer.Exit(1)
        keep(export, [Entry(schedule_id, msgspec.json.decode(owned[schedule_id].schedule)) for schedule_id in gone])
        for schedule_id in gone:
            await client.schedules.delete(schedule_id)
            say(f"{schedule_id} deleted")
    say(f"Their definitions are in {export}; `schedctl add -f {export}` brings them back.")


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
        what = f"{name} is a {type(found).__name__}, not a Worker"
        what = f"{module_name} has no such name" if found is None else what
        raise InvalidArgument(f"{target}: {what}", field="target")
    return found


def _cause(problem: Exception) -> str:
    """What went wrong in the module, and where: the user's own code, so the place matters."""
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if "importlib" not in frame.filename]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(problem).__name__}: {problem}{where}"
