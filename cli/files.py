"""Definitions from files: a file holds one, a list, or several documents; each is the schedule JSON plus an `id`.

A directory stands for every *.yaml, *.yml and *.json in it and below; names that begin with a dot are left out, links
are followed, no directory twice. Every refusal names the file and the line, and how to mend it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from cli.documents import Placed, as_yaml, read_values
from scheduler.core.errors import InvalidArgument
from scheduler.wire.ids import check_schedule_id

SIZE_MAX = 1_000_000
FILES_MAX = 100_000
SUFFIXES = (".yaml", ".yml", ".json")
_BOMS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


class Entry(Struct, frozen=True):
    """One definition of a file: its id and its schedule JSON, without the id."""

    id: str
    schedule: dict[str, Any]


class Found(NamedTuple):
    """A definition and where it stands: the file, the line it begins in, the lines of its fields."""

    entry: Entry
    file: str
    line: int
    lines: Mapping[str, int]

    def place(self, field: str | None = None) -> str:
        """`crm.yaml, line 12`: the line of the field, if it is known."""
        return f"{self.file}, line {self.lines.get((field or '').partition('.')[0], self.line)}"


class Findings(NamedTuple):
    """The definitions that have an id of their own, and what is wrong with the others, and with files."""

    found: list[Found]
    problems: list[InvalidArgument]


def load(path: Path) -> list[Entry]:
    """Every definition in the file, in order; `-` is stdin. Raises InvalidArgument if one of them is none."""
    entries, problems = load_good(path)
    if problems:
        raise problems[0]
    return entries


def load_good(path: Path, *, size_max: int = SIZE_MAX) -> tuple[list[Entry], list[InvalidArgument]]:
    """The definitions in the file that have an id of their own, and what is wrong with the others.

    Raises InvalidArgument if the file cannot be read at all, or holds nothing.
    """
    name = "stdin" if str(path) == "-" else str(path)
    found, problems = _unique(_definitions(read_values(read_text(path, size_max), name), name))
    if not found and not problems:
        raise InvalidArgument(f"{name}: no definition in it", field="file")
    return [each.entry for each in found], problems


def gather(paths: Sequence[Path], *, size_max: int) -> Findings:
    """The definitions in all these files, directories and stdin (`-`), which together may hold `size_max` bytes.

    An id is defined once. Everything that is wrong is found, file by file; nothing is raised.
    """
    places: list[Found | InvalidArgument] = []
    left = size_max
    for path in _files(paths, places):
        name = "stdin" if str(path) == "-" else str(path)
        try:
            text = read_text(path, size_max, left=left)
            left -= len(text)
            values = read_values(text, name)
            if not values and path in paths:
                raise InvalidArgument(f"{name}: no definition in it", field="file")
            places += _definitions(values, name)
        except InvalidArgument as problem:
            places.append(problem)
    return _unique(places)


def _unique(places: Iterable[Found | InvalidArgument]) -> Findings:
    first: dict[str, Found] = {}
    problems: list[InvalidArgument] = []
    for each in places:
        if isinstance(each, InvalidArgument):
            problems.append(each)
        elif each.entry.id in first:
            told = f"{each.entry.id} is defined twice, first in {first[each.entry.id].place('id')}"
            problems.append(InvalidArgument(f"{each.place('id')}: {told}", field="id"))
        else:
            first[each.entry.id] = each
    return Findings(list(first.values()), problems)


def _definitions(values: Iterable[Placed], name: str) -> Iterator[Found | InvalidArgument]:
    for number, value in enumerate(values, start=1):
        try:
            yield _found(value, number, name)
        except InvalidArgument as problem:
            yield problem


def _found(placed: Placed, number: int, name: str) -> Found:
    value, line, lines = placed
    where = f"{name}, line {line}: definition {number}"
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where} is no mapping of fields", field="file")
    if "id" not in value:
        raise InvalidArgument(f"{where} has no id", field="id")
    try:
        schedule_id = check_schedule_id(value["id"])
    except InvalidArgument as problem:
        raise InvalidArgument(f"{name}, line {lines.get('id', line)}: {problem.message}", field="id") from None
    entry = Entry(schedule_id, {key: field for key, field in value.items() if key != "id"})
    return Found(entry, name, line, lines)


# --- reading


def read_text(path: Path, size_max: int = SIZE_MAX, *, left: int | None = None) -> str:
    """The text of a file, or of stdin (`-`). Raises InvalidArgument if it cannot be read or is none."""
    name = "stdin" if str(path) == "-" else str(path)
    most = size_max if left is None else max(0, left)
    try:
        if name == "stdin":
            content = sys.stdin.buffer.read(most + 1)
        else:
            with path.open("rb") as file:
                content = file.read(most + 1)
    except OSError as problem:
        raise InvalidArgument(f"cannot read {name}: {problem.strerror}", field="file") from None
    if len(content) > most:
        what = "larger than" if left is None or left == size_max else "all files together are larger than"
        raise InvalidArgument(f"{name}: {what} {size_max // 1_000_000} MB", field="file")
    return _decoded(content, name)


def _decoded(content: bytes, name: str) -> str:
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            raise InvalidArgument(f"{name}: {encoding} text: save it as UTF-8", field="file")
    if b"\0" in content:
        raise InvalidArgument(f"{name}: binary, not UTF-8 text", field="file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise InvalidArgument(f"{name}, line {line}: not UTF-8 text: save it as UTF-8", field="file") from None


def _files(paths: Iterable[Path], places: list[Found | InvalidArgument]) -> Iterator[Path]:
    """Each file once, however it is reached; what is wrong with directories goes to `places`."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        if str(path) == "-":
            yield path
            continue
        try:
            status = path.stat()
            files = _walk(path, seen, places) if stat.S_ISDIR(status.st_mode) else [path]
            found = False
            for file in files:
                found = True
                if _is_new(file, seen):
                    yield file
        except OSError as problem:
            places.append(InvalidArgument(f"cannot read {path}: {problem.strerror}", field="file"))
            continue
        if not found and stat.S_ISDIR(status.st_mode):
            names = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
            places.append(InvalidArgument(f"{path}: no definition in it: there is no {names} below it", field="file"))


def _is_new(path: Path, seen: set[tuple[int, int]]) -> bool:
    """Raises OSError, as for a link that leads nowhere."""
    status = path.stat()
    key = status.st_dev, status.st_ino
    if key in seen:
        return False
    seen.add(key)
    return True


def _walk(
    folder: Path, seen: set[tuple[int, int]], places: list[Found | InvalidArgument], count: int = 0
) -> Iterator[Path]:
    """Files by name, then directories by name; a link to a directory above it leads nowhere new."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            if not _is_new(here, seen):
                continue
            children = sorted(os.scandir(here), key=lambda child: child.name)
            names = [child for child in children if not child.name.startswith(".")]
            waiting += [Path(child.path) for child in reversed(names) if child.is_dir()]
        except OSError as problem:
            places.append(InvalidArgument(f"cannot read {here}: {problem.strerror}", field="file"))
            continue
        for child in names:
            if not child.name.endswith(SUFFIXES) or child.is_dir():
                continue
            count += 1
            if count > FILES_MAX:
                raise OSError(0, f"more than {FILES_MAX} files")
            if (reason := _irregular(child)) is not None:
                places.append(InvalidArgument(f"cannot read {child.path}: {reason}", field="file"))
            else:
                yield Path(child.path)


def _irregular(child: os.DirEntry[str]) -> str | None:
    """Why a directory's entry is no file to read: reading a pipe would wait for ever."""
    try:
        return None if stat.S_ISREG(child.stat().st_mode) else "it is not a regular file"
    except OSError as problem:
        return str(problem.strerror)


# --- writing


def as_documents(entries: Iterable[Entry]) -> str:
    """Definitions as YAML documents, which `load` reads back to the same."""
    return as_yaml({"id": entry.id, **entry.schedule} for entry in entries)


def keep(path: Path, entries: Sequence[Entry]) -> None:
    """Write definitions to a new file before they are deleted. Raises InvalidArgument if they cannot be kept."""
    text = as_documents(entries)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        text = f"cannot write {path}: {problem.strerror}; nothing was deleted"
        raise InvalidArgument(text, field="export") from None
