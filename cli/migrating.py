"""`schedctl import crontab | cronjobs`: schedules of other schedulers as definitions, printed or applied."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.applying import apply_found
from cli.connecting import Connection, connected
from cli.definitions import read_pairs
from cli.documents import as_yaml, read_values
from cli.files import Entry, Found, read_text
from cli.options import Command, expand, option
from cli.output import Format, clean, say, warn
from scheduler.core.errors import InvalidArgument
from scheduler.core.zones import zone_of
from scheduler.wire.cron_jobs import read_cron_jobs
from scheduler.wire.crontab import read_crontab
from scheduler.wire.ids import check_queue, check_type
from scheduler.wire.imports import Import, Terms

SIZE_MAX = 16_000_000
SYSTEM_CRONTABS = ("/etc/crontab", "/etc/cron.d/")

Source = Annotated[Path, typer.Argument(metavar="FILE", help="The file; - is stdin.", show_default=False)]
Apply = Annotated[bool, typer.Option("--apply", metavar="", help="Create them, instead of printing YAML.")]


def terms_for(task_type: str) -> Callable[[Command], Command]:
    """Give a command what an import needs to know; it gets them as `terms`."""
    parameters: list[inspect.Parameter] = [
        option("queue", str, "--queue", metavar="NAME", default="cron", text="Queue of their tasks."),
        option("task_type", str, "--type", metavar="TYPE", default=task_type, text="Type of their tasks."),
        option("timezone", str | None, "--timezone", metavar="ZONE", text="Where the source names none; else UTC."),
        option("prefix", str, "--prefix", metavar="TEXT", default="", show_default=False, text="In front of each id."),
        option("label", list[str] | None, "--label", metavar="NAME=VALUE", text="For each; may be repeated."),
    ]

    def collect(values: Mapping[str, Any]) -> Terms:
        if values["timezone"] is not None:
            zone_of(values["timezone"])
        labels = read_pairs(values["label"] or [], "--label")
        return Terms(
            check_queue(values["queue"]), check_type(values["task_type"]), values["timezone"], values["prefix"], labels
        )

    return lambda function: expand(function, "terms", parameters, collect)


@connected
@terms_for("command")
async def crontab(
    connection: Connection,
    terms: Terms,
    file: Source,
    is_system: Annotated[
        bool | None,
        typer.Option("--system/--user", help="Whether lines name a user; /etc/crontab and /etc/cron.d do."),
    ] = None,
    apply: Apply = False,
) -> None:
    """Read a crontab: times, CRON_TZ, variables, % and what follows it. The command goes into the payload."""
    if is_system is None:
        is_system = str(file.absolute()).startswith(SYSTEM_CRONTABS)
    found = read_crontab(read_text(file, SIZE_MAX), terms, is_system=is_system)
    await _finish(connection, found, _name(file), apply=apply)


@connected
@terms_for("container")
async def cronjobs(connection: Connection, terms: Terms, file: Source, apply: Apply = False) -> None:
    """Read CronJobs: manifests, or what `kubectl get cronjobs -o yaml` prints. The container goes into the payload."""
    values = read_values(read_text(file, SIZE_MAX), _name(file))
    found = read_cron_jobs(((each.value, each.line) for each in values), terms)
    await _finish(connection, found, _name(file), apply=apply)


def _name(file: Path) -> str:
    return "stdin" if str(file) == "-" else str(file)


async def _finish(connection: Connection, found: Import, name: str, *, apply: bool) -> None:
    """Tell what could not be carried over; then YAML, or an apply. Raises InvalidArgument if nothing was found."""
    for line, sentence in sorted(found.notes):
        warn(f"warning: {_place(name, line)}: {clean(sentence)}")
    for line, sentence in found.left_out:
        warn(f"left out: {_place(name, line)}: {clean(sentence)}")
    if not found.found:
        raise InvalidArgument(f"{name}: nothing to import in it", field="file")
    for each in found.found if apply else ():
        for note in each.notes:
            warn(f"warning: {_place(name, each.line)}: {each.id}: {clean(note)}")
    if apply:
        entries = [Found(Entry(each.id, dict(each.document)), name, each.line, {}) for each in found.found]
        async with connection.client() as client:
            await apply_found(client, entries, Format())
        return
    say("\n".join(_documents(found, name)))
    left = f", {len(found.left_out)} left out" if found.left_out else ""
    warn(
        f"{len(found.found)} imported{left}; `schedctl apply -f FILE` stores them, `schedctl diff -f FILE` looks first"
    )


def _place(name: str, line: int) -> str:
    return f"{name}, line {line}" if line else name


def _documents(found: Import, name: str) -> Sequence[str]:
    """YAML documents, each with its place and what is not as it was in comments."""
    texts = []
    for each in found.found:
        comments = [f"# {clean(text)}" for text in (_place(name, each.line), *each.notes)]
        body = as_yaml([{"id": each.id, **each.document}]).removeprefix("---\n").rstrip("\n")
        texts.append("\n".join(["---", *comments, body]))
    return texts
