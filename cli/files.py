"""Definitions from a file: one, a list, or YAML documents; each is the schedule JSON plus a top-level `id`.

YAML is read as JSON with fewer quotes, and nothing more: numbers, true, false and null are the YAML 1.2 ones (so `no`,
`12:30` and `2026-11-21T08:00:00Z` are texts), and aliases, tags, duplicate keys and deep nesting are refused. JSON is
read as JSON. Every refusal names the file and, where there is one, the line.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml
from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.ids import check_schedule_id

SIZE_MAX = 1_000_000
DEPTH_MAX = 100
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Entry(Struct, frozen=True):
    """One definition of a file: its id and its schedule JSON, without the id."""

    id: str
    schedule: dict[str, Any]


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
    entries: dict[str, Entry] = {}
    problems: list[InvalidArgument] = []
    for place, value in _definitions(_parse(_read(path, name, size_max), name)):
        try:
            entry = _entry(value, place, name)
            if entry.id in entries:
                raise InvalidArgument(f"{name}: {entry.id} is defined twice", field="id")
            entries[entry.id] = entry
        except InvalidArgument as problem:
            problems.append(problem)
    if not entries and not problems:
        raise InvalidArgument(f"{name}: no definition in it", field="file")
    return list(entries.values()), problems


def _read(path: Path, name: str, size_max: int) -> str:
    try:
        if name == "stdin":
            content = sys.stdin.buffer.read(size_max + 1)
        else:
            with path.open("rb") as file:
                content = file.read(size_max + 1)
    except OSError as problem:
        raise InvalidArgument(f"cannot read {name}: {problem.strerror}", field="file") from None
    if len(content) > size_max:
        raise InvalidArgument(f"{name}: larger than {size_max // 1_000_000} MB", field="file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidArgument(f"{name}: not UTF-8 text", field="file") from None


def _parse(text: str, name: str) -> list[Any]:
    """The documents in it. What begins like JSON is read as JSON, unless it turns out to be YAML's own brackets."""
    if name.endswith(".json") or text.lstrip()[:1] in {"{", "["}:
        try:
            return [json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)]
        except (ValueError, RecursionError) as problem:
            if name.endswith(".json") or not isinstance(problem, json.JSONDecodeError):
                raise InvalidArgument(f"{name}: not JSON: {problem}", field="file") from None
    return _parse_yaml(text, name)


def _parse_yaml(text: str, name: str) -> list[Any]:
    try:
        _scan(text, name)
        return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.MarkedYAMLError as problem:
        raise InvalidArgument(_located(problem, name), field="file") from None
    except (yaml.YAMLError, ValueError) as problem:
        raise InvalidArgument(f"{name}: not YAML: {' '.join(str(problem).split())}", field="file") from None


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _scan(text: str, name: str) -> None:
    """Refuse what could grow (aliases) or break the stack (nesting), before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_Safe):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "aliases and anchors are refused (quote a cron expression that begins with *)"
        elif getattr(event, "tag", None) not in {None, "!", "tag:yaml.org,2002:str"}:
            problem = "tags are refused"
        else:
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            problem = f"nested deeper than {DEPTH_MAX}" if depth > DEPTH_MAX else ""
        if problem:
            raise InvalidArgument(f"{name}, line {_line(event)}: {problem}", field="file")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


class _Loader(_Safe):  # type: ignore[misc]  # which of the two loaders it is, only the installation knows
    """Scalars as YAML 1.2's core schema and JSON have them; mappings without repeated keys."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r}: a key must be text", key_node.start_mark)
            if key in found:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=True)
        return found


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _located(problem: yaml.MarkedYAMLError, name: str) -> str:
    mark = problem.problem_mark or problem.context_mark
    where = f"{name}, line {mark.line + 1}" if mark is not None else name
    hint = ""
    if "alias" in f"{problem.problem} {problem.context}" or "cannot start any token" in str(problem.problem):
        hint = " (quote a text that begins with * or @)"
    return f"{where}: {problem.problem or problem.context}{hint}"


def _definitions(documents: list[Any]) -> Iterator[tuple[int, Any]]:
    """Numbered from 1: a document is a definition or a list of them."""
    values = [value for document in documents for value in (document if isinstance(document, list) else [document])]
    return enumerate(values, start=1)


def _entry(value: Any, place: int, name: str) -> Entry:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{name}: definition {place} is no mapping of fields", field="file")
    if "id" not in value:
        raise InvalidArgument(f"{name}: definition {place} has no id", field="id")
    schedule_id = check_schedule_id(value["id"])
    return Entry(schedule_id, {key: field for key, field in value.items() if key != "id"})


def as_documents(entries: Iterable[Entry]) -> str:
    """Definitions as YAML documents, which `load` reads back to the same."""
    documents = [{"id": entry.id, **entry.schedule} for entry in entries]
    return str(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, explicit_start=True))
