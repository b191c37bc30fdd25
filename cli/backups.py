"""`schedctl export` and `schedctl import backup`: everything into one file, and back."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from cli.connecting import Connection, connected
from cli.output import agreed, say, warn
from scheduler.core.errors import Conflict, InvalidArgument, ScheddError, Unavailable
from scheduler.system.clock import SystemClock
from scheduler.wire.backup import LINE_MAX, Backup, Part, encode_header, read_backup

PROBLEMS_SHOWN = 10
_WORDS = {
    "created": "created",
    "overwritten": "overwritten",
    "unchanged": "as it is already",
    "differs": "different here, left alone",
    "spent": "without an occurrence left, left out",
    "failed": "not restored",
}

Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Into this file; default: stdout.")]
History = Annotated[bool, typer.Option("--history", metavar="", help="With the executions that are kept; to read.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="What `schedctl export` wrote; - is stdin.")]
DryRun = Annotated[bool, typer.Option("--dry-run", metavar="", help="Only say what would be done.")]
Force = Annotated[bool, typer.Option("--force", metavar="", help="Overwrite what is different here.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]


@connected
async def export(connection: Connection, output: Output = None, history: History = False) -> None:
    """Write schedules, calendars and queues into a file, as JSON lines: a backup."""
    from scheduler.client.backups import export as lines_of

    counts: Counter[str] = Counter()
    async with connection.client() as client:
        with _written(output) as file:
            file.write(encode_header(client.calls.names.namespace, SystemClock().now()) + b"\n")
            async for kind, line in lines_of(client, history=history):
                counts[kind] += 1
                file.write(line + b"\n")
    if output is not None:
        say(f"{output}: {_counted(counts)}")


def _counted(counts: Counter[str]) -> str:
    kinds = [(part.value, counts[part]) for part in (Part.SCHEDULE, Part.CALENDAR, Part.QUEUE, Part.EXECUTION)]
    return ", ".join(
        f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in kinds if count or kind != "execution"
    )


@contextmanager
def _written(output: Path | None) -> Iterator[IO[bytes]]:
    """stdout, or a file that appears when all of it is there; its owner's alone, for payloads may be secret."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        if output.exists() and not output.is_file():  # a pipe or /dev/null: nothing takes its place
            with output.open("wb") as file:
                yield file
        else:
            with _replacing(output) as file:
                yield file
    except OSError as problem:
        raise InvalidArgument(f"cannot write {output}: {problem.strerror}", field="output") from None


@contextmanager
def _replacing(output: Path) -> Iterator[IO[bytes]]:
    place = output.resolve()
    part = place.with_name(place.name + ".part")
    try:
        part.touch(mode=0o600)
        with part.open("wb") as file:
            yield file
        part.replace(place)
    finally:
        with suppress(OSError):
            part.unlink()


@connected
async def import_backup(
    connection: Connection, file: File, dry_run: DryRun = False, force: Force = False, yes: Yes = False
) -> None:
    """Restore a backup: what is missing is made, what is equal or different is left alone; pauses come back."""
    from scheduler.client.backups import Fate, Step, plan, restore

    backup = _read(file)
    async with connection.client() as client:
        steps = await plan(client, backup, force=force)
        over = sum(step.fate is Fate.OVERWRITTEN for step in steps)
        if over and not dry_run and not yes and not _may_overwrite(over):
            warn("Nothing restored.")
            raise typer.Exit(1)
        try:
            results: list[Step] = steps if dry_run else await restore(client, steps)
        except Unavailable as problem:
            raise Unavailable(f"{problem.message}; do it again: what is restored already is left alone") from None
    _report(results, backup, dry_run=dry_run)


def _may_overwrite(count: int) -> bool:
    if not sys.stdin.isatty():
        raise InvalidArgument(f"{count} would be overwritten: say --yes, or look with --dry-run", field="yes")
    return agreed(f"Overwrite {count}?")


def _read(file: Path) -> Backup:
    name = "stdin" if str(file) == "-" else str(file)
    try:
        if name == "stdin":
            return read_backup(_lines(sys.stdin.buffer))
        with file.open("rb") as opened:
            return read_backup(_lines(opened))
    except OSError as problem:
        raise InvalidArgument(f"cannot read {name}: {problem.strerror}", field="file") from None
    except InvalidArgument as problem:
        raise InvalidArgument(f"{name}: {problem.message}", field="file") from None


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(LINE_MAX + 1):
        if len(line) > LINE_MAX:
            raise InvalidArgument(f"a line of more than {LINE_MAX // 1_000_000} MB", field="file")
        yield line


def _report(results: list[Any], backup: Backup, *, dry_run: bool) -> None:
    """Counts for each kind; what is different or failed by name. Raises what the exit code says."""
    for part in Part:
        counts = Counter(step.fate for step in results if step.line.kind == part)
        if counts:
            told = ", ".join(f"{count} {_WORDS[fate]}" for fate, count in sorted(counts.items()))
            say(f"{'would be: ' if dry_run else ''}{part}s: {told}")
    if backup.histories:
        say(f"executions: {backup.histories} are history, which is not restored")
    _name([f"{step.line.kind} {step.line.id}" for step in results if step.fate == "differs"], "different here")
    failed = [f"{step.line.kind} {step.line.id}: {step.problem}" for step in results if step.fate == "failed"]
    _name(failed, "not restored")
    raised = _raised(len(failed), sum(step.fate == "differs" for step in results))
    if raised is not None:
        raise raised


def _name(things: list[str], why: str) -> None:
    for thing in things[:PROBLEMS_SHOWN]:
        warn(f"{why}: {thing}")
    if len(things) > PROBLEMS_SHOWN:
        warn(f"{why}: {len(things) - PROBLEMS_SHOWN} more")


def _raised(failed: int, different: int) -> ScheddError | None:
    if failed:
        return InvalidArgument(f"{failed} of the backup cannot be restored")
    if different:
        return Conflict(f"{different} are different here and were left alone: --force overwrites them")
    return None
