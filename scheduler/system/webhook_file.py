"""The webhooks file: read once, at the start, with the secrets that it refers to. Whatever is wrong refuses the start.

YAML is read strictly: no aliases, no tags, no key twice. `{file: PATH}` is relative to the folder of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scheduler.core.errors import InvalidArgument
from scheduler.wire.webhooks import NO_WEBHOOKS, WebhookSettings, read_webhooks

FILE_MAX = 1_000_000
SECRET_MAX = 10_000
DEPTH_MAX = 20


def load_webhooks(path: str | None, env: Mapping[str, str]) -> WebhookSettings:
    """The webhooks of a file; none without one. Raises InvalidArgument, one sentence that names file and field."""
    if path is None:
        return NO_WEBHOOKS
    place = Path(path)

    def resolve(how: str, where: str) -> str:
        if how == "env":
            if where not in env:
                raise InvalidArgument(f"there is no environment variable {where}")
            return env[where]
        return _read(place.parent / where, SECRET_MAX)

    try:
        return read_webhooks(_parsed(_read(place, FILE_MAX)), resolve)
    except InvalidArgument as problem:
        raise InvalidArgument(f"webhooks file {place}: {problem.message}", field="webhooks") from None


def _read(path: Path, size_max: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(size_max + 1)
    except OSError as problem:
        raise InvalidArgument(f"cannot read {path}: {problem.strerror}") from None
    if len(content) > size_max:
        raise InvalidArgument(f"{path} is larger than {size_max} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidArgument(f"{path} is not UTF-8 text") from None


def _parsed(text: str) -> Any:
    try:
        _check(text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise InvalidArgument(f"not YAML: {_where(problem)}") from None


def _where(problem: Exception) -> str:
    """Line and complaint, never a part of the text: it may be a secret that somebody wrote there."""
    mark = getattr(problem, "problem_mark", None)
    told = getattr(problem, "problem", None) or "it cannot be read"
    return f"line {mark.line + 1}: {told}" if mark is not None else str(told)


def _check(text: str) -> None:
    """Refuse what could grow or hide something before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidArgument("aliases are refused")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise InvalidArgument(f"nested deeper than {DEPTH_MAX}")
    _check_keys(yaml.compose(text, Loader=yaml.SafeLoader))


def _check_keys(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise InvalidArgument(f"{str(key)[:60]!r} is given twice")
        for _, value in node.value:
            _check_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value)
