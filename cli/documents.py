"""Text to values with the lines they stand in, and back.

YAML is read as JSON with fewer quotes, and nothing more: numbers, true, false and null are the YAML 1.2 ones (so `no`,
`12:30` and `2026-11-21T08:00:00Z` are texts), and aliases, tags, duplicate keys and deep nesting are refused. JSON is
read as JSON, several values one after the other included. Every refusal names the file and, where there is one, the
line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import yaml

from scheduler.core.errors import InvalidArgument
from scheduler.wire.nesting import is_too_deep

DEPTH_MAX = 100
_SPACE = re.compile(r"[ \t\r\n]*")
_Loads: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumps: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Placed(NamedTuple):
    """A value of a file: the line it begins in (from 1), and the lines of its fields where they are known."""

    value: Any
    line: int
    lines: Mapping[str, int]


def read_values(text: str, name: str) -> list[Placed]:
    """The values in it; a list at the top is the values in it. Raises InvalidArgument.

    What begins like JSON is read as JSON, unless it turns out to be YAML's own brackets.
    """
    is_json = name.endswith(".json")
    if is_json or text.lstrip()[:1] in {"{", "["}:
        try:
            return list(_json_values(text))
        except (ValueError, RecursionError) as problem:
            if is_json or not isinstance(problem, json.JSONDecodeError):
                where = f", line {problem.lineno}" if isinstance(problem, json.JSONDecodeError) else ""
                told = problem.msg if isinstance(problem, json.JSONDecodeError) else str(problem)
                raise InvalidArgument(f"{name}{where}: not JSON: {told}", field="file") from None
    try:
        _refuse_tricks(text, name)
        return list(_yaml_values(text))
    except yaml.MarkedYAMLError as problem:
        raise InvalidArgument(_located(problem, name, text), field="file") from None
    except (yaml.YAMLError, ValueError) as problem:
        raise InvalidArgument(f"{name}: not YAML: {_unreadable(problem)}", field="file") from None


# --- JSON


def _json_values(text: str) -> Iterator[Placed]:
    if is_too_deep(text.encode("utf-8", "surrogatepass")):
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    decoder = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    place = _past_space(text, 0)
    while place < len(text):
        if text[place] == "[":
            place = yield from _json_elements(text, place + 1, decoder)
        else:
            line = _line_at(text, place)
            value, place = decoder.raw_decode(text, place)
            yield Placed(value, line, {})
        place = _past_space(text, place)


def _json_elements(text: str, place: int, decoder: json.JSONDecoder) -> Generator[Placed, None, int]:
    """The elements of a list whose bracket is behind us; returns where it ends."""
    place = _past_space(text, place)
    if text[place : place + 1] == "]":
        return place + 1
    line, counted = _line_at(text, place), place
    while True:
        line, counted = line + text.count("\n", counted, place), place
        value, place = decoder.raw_decode(text, place)
        yield Placed(value, line, {})
        place = _past_space(text, place)
        sign = text[place : place + 1]
        if sign == "]":
            return place + 1
        if sign != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
        place = _past_space(text, place + 1)


def _past_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def _line_at(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


# --- YAML


def _refuse_tricks(text: str, name: str) -> None:
    """Refuse what could grow (aliases) or break the stack (nesting), before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loads):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "aliases and anchors are refused (quote a cron expression that begins with *)"
        elif getattr(event, "tag", None) not in {None, "!", "tag:yaml.org,2002:str"}:
            problem = "tags are refused"
        else:
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            problem = f"nested deeper than {DEPTH_MAX}" if depth > DEPTH_MAX else ""
        if problem:
            raise InvalidArgument(f"{name}, line {_line_of(event)}: {problem}", field="file")


def _line_of(node: yaml.Event | yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark is not None else 0


def _yaml_values(text: str) -> Iterator[Placed]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            document = loader.get_node()
            for node in document.value if isinstance(document, yaml.SequenceNode) else [document]:
                value = loader.construct_document(node)
                if value is not None or node is not document:
                    yield Placed(value, _line_of(node), _lines(node))
    finally:
        loader.dispose()


def _lines(node: yaml.Node) -> dict[str, int]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): _line_of(key) for key, _ in node.value}


class _Loader(_Loads):  # type: ignore[misc]  # which of the two loaders it is, only the installation knows
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


class _Dumper(_Dumps):  # type: ignore[misc]  # as above
    """Quotes every text that YAML 1.1 or 1.2 would read as something else; never writes an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
):
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _located(problem: yaml.MarkedYAMLError, name: str, text: str) -> str:
    mark = problem.problem_mark or problem.context_mark
    where = f"{name}, line {mark.line + 1}" if mark is not None else name
    told = str(problem.problem or problem.context)
    line = text.splitlines()[mark.line] if mark is not None and mark.line < text.count("\n") else ""
    return f"{where}: {told}{_hint(f'{told} {problem.context}', line)}"


def _hint(told: str, line: str) -> str:
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return " (indent with blanks: YAML knows no tabs there)"
    if "alias" in told or "cannot start any token" in told:
        return " (quote a text that begins with *, @, % or a back quote)"
    if "mapping values are not allowed" in told:
        return " (quote a text with a colon and a blank in it)"
    return ""


def _unreadable(problem: Exception) -> str:
    if isinstance(problem, yaml.reader.ReaderError):
        return f"a character that no text has ({problem.character!r}, at position {problem.position})"
    return " ".join(str(problem).split())


# --- writing


def as_yaml(documents: Iterable[Mapping[str, Any]]) -> str:
    """YAML documents, which `read_values` reads back to the same. Raises InvalidArgument for what YAML cannot say."""
    plain = [dict(document) for document in documents]
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "explicit_start": True, "width": 10_000}
    try:
        text = str(yaml.dump_all(plain, Dumper=_Dumper, **options))
        text.encode()
    except (yaml.YAMLError, UnicodeEncodeError, RecursionError) as problem:
        raise InvalidArgument(f"cannot be written as YAML: {' '.join(str(problem).split())[:120]}") from None
    return text
