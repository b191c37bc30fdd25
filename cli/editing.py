"""`schedctl edit ID`: a stored definition in your editor, checked and written back if it was changed.

What is wrong with it stands on top when the editor opens again; saving that as it is gives up. Nobody's text is lost:
where it could not be written (somebody else was faster, the daemon went away) the file is kept and named.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from cli.checking import calendars_for, check
from cli.connecting import Connection, connected
from cli.documents import as_yaml, read_values
from cli.files import Entry, Found, read_text
from cli.output import clean, say, warn
from cli.planned import Foresight, show
from cli.showing import document_of
from scheduler.client import Client
from scheduler.core.errors import Conflict, InvalidArgument, ScheddError
from scheduler.system.clock import SystemClock
from scheduler.wire import api
from scheduler.wire.applying import Change, Kind, Stored, change_of
from scheduler.wire.ids import check_schedule_id
from scheduler.wire.schedule_json import STATE_FIELDS

HEADER = """\
# {id}, revision {revision}, {state}. Lines that begin with # are left out.
# Saved without a change, or empty, it stays as it is. A mistake opens the editor again.
#{told}
"""


class Opened(Struct, frozen=True):
    """What is edited: the id, the revision it had, and its definition then."""

    id: str
    revision: int
    document: dict[str, Any]
    state: str


@connected
async def edit(
    connection: Connection,
    schedule_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the schedule.", show_default=False)],
) -> None:
    """Change a stored schedule in your editor: $VISUAL, else $EDITOR, else vi."""
    check_schedule_id(schedule_id)
    editor = _editor()
    async with connection.client() as client:
        item = await client.schedules.get(schedule_id)
    document = document_of(item)
    del document["id"]
    opened = Opened(schedule_id, item.revision, document, item.status.state)
    path = _new_file(opened)
    kept = False
    try:
        await _until_right(connection, editor, opened, path)
    except (ScheddError, asyncio.CancelledError):
        kept = _body(_read(path)) not in {"", _definition(opened)}
        raise
    finally:
        _leave(path, kept=kept)


async def _until_right(connection: Connection, editor: list[str], opened: Opened, path: Path) -> None:
    """Edit until it can be written, or nothing is to be. Raises InvalidArgument if it was given up, Conflict."""
    seen, problem = _definition(opened), None
    while True:
        await _run(editor, path)
        text = read_text(path)
        if _body(text).strip() in {"", seen.strip()}:
            if problem is not None:
                raise InvalidArgument(f"nothing written: {problem.sentence}", field=problem.field)
            say(f"{opened.id} unchanged")
            return
        seen = _body(text)
        try:
            await _write(connection, opened, text, path.name)
            return
        except InvalidArgument as mistake:
            problem = mistake
            _save(path, opened, seen, mistake.sentence)


async def _write(connection: Connection, opened: Opened, text: str, name: str) -> None:
    """Raises InvalidArgument if the text is no definition of it, Conflict if somebody else was faster."""
    found = _found(opened, text, name)
    change = change_of(opened.id, found.entry.schedule, Stored(opened.revision, opened.document))
    if change.kind is Kind.UNCHANGED:
        say(f"{opened.id} unchanged")
        return
    async with connection.client() as client:
        await _put(client, change, found)


def _found(opened: Opened, text: str, name: str) -> Found:
    """The definition in the text. Whoever takes out the lines of a pause ends it."""
    values = read_values(text, name)
    if len(values) != 1 or not isinstance(values[0].value, dict):
        raise InvalidArgument(f"it has to be one definition, not {len(values)}", field="file")
    value, line, lines = values[0]
    if value.get("id") != opened.id:
        told = "the id cannot be changed: save it under another name, apply that, and delete this one"
        raise InvalidArgument(told, field="id")
    wanted = {name: field for name, field in value.items() if name != "id"}
    if any(name in opened.document for name in STATE_FIELDS) and not any(name in wanted for name in STATE_FIELDS):
        wanted["paused"] = False  # a put that says nothing of it would keep the pause
    return Found(Entry(opened.id, wanted), name, line, lines)


async def _put(client: Client, change: Change, found: Found) -> None:
    calendar_of = await calendars_for(client, [change.wanted or {}, change.before or {}])
    problems = await check(client, [found], calendar_of)
    if problems:
        raise problems[0]
    try:
        reply: api.PutReply = await client.schedules.put(
            change.id, change.wanted or {}, expected_revision=change.revision
        )
    except Conflict as problem:
        raise Conflict(f"{problem.message}: somebody changed it while you did; nothing written") from None
    show([Foresight(SystemClock().now(), calendar_of).planned(change)])
    for warning in reply.warnings:
        warn(f"warning: {clean(warning)}")
    say(f"{reply.id} stored as revision {reply.revision}")


# --- the file


def _new_file(opened: Opened) -> Path:
    handle, name = tempfile.mkstemp(prefix=f"{opened.id[:40]}-", suffix=".yaml")
    os.close(handle)
    _save(Path(name), opened, _definition(opened), "")
    return Path(name)


def _save(path: Path, opened: Opened, definition: str, problem: str) -> None:
    """The header, which has as many lines with a problem as without one, so that lines can be named."""
    told = f" Not written: {clean(problem)}" if problem else ""
    header = HEADER.format(id=opened.id, revision=opened.revision, state=opened.state, told=told)
    path.write_text(header + definition, encoding="utf-8")


def _definition(opened: Opened) -> str:
    return as_yaml([{"id": opened.id, **opened.document}]).removeprefix("---\n")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _leave(path: Path, *, kept: bool) -> None:
    if kept:
        warn(f"Your text is kept in {path}; `schedctl apply -f {path}` applies it.")
    else:
        path.unlink(missing_ok=True)


def _body(text: str) -> str:
    """The text without the comments on top."""
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    return "".join(lines)


# --- the editor


def _editor() -> list[str]:
    """The command of the editor. Raises InvalidArgument if there is none."""
    given = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    try:
        words = shlex.split(given or "vi")
    except ValueError:
        raise InvalidArgument(f"$EDITOR {given!r:.60}: quotes that do not end", field="editor") from None
    if not words or shutil.which(words[0]) is None:
        raise InvalidArgument(f"there is no editor {' '.join(words)!r:.60}: set $EDITOR", field="editor")
    return words


async def _run(editor: list[str], path: Path) -> None:
    process = await asyncio.create_subprocess_exec(*editor, str(path))
    code = await process.wait()
    if code != 0:
        raise InvalidArgument(f"the editor ended with {code}: nothing written", field="editor")
