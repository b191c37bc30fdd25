"""The client has all that the API has."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import scheduler.client
from scheduler.client import Client, ScheddError
from scheduler.core import errors
from scheduler.services.api.endpoint import names_of
from scheduler.services.api.nouns import NOUNS

SOURCES = Path(scheduler.client.__file__).parent.glob("*.py")
TEXTS = {
    node.value
    for source in SOURCES
    for node in ast.walk(ast.parse(source.read_text()))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}


@pytest.mark.parametrize("endpoint", sorted(name for noun in NOUNS for name in names_of(noun)))
def test_every_endpoint_is_asked_by_some_method(endpoint: str) -> None:
    """What the daemon answers, Python programs can ask."""
    assert endpoint in TEXTS


def test_every_error_stands_beside_the_client() -> None:
    """Users import what they catch from where they import the client."""
    raised = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ScheddError)}
    assert raised - set(scheduler.client.__all__) == {"Fenced"}


def test_the_docstring_names_every_method() -> None:
    """The list at the top of the package is what the client has."""
    told = {
        noun: set(re.findall(r"\w+", methods))
        for noun, methods in re.findall(r"^    client\.(\w+)\.(.*)$", scheduler.client.__doc__ or "", re.MULTILINE)
    }
    connection: Any = SimpleNamespace(options={})
    nouns = {name: noun for name, noun in vars(Client(connection)).items() if hasattr(noun, "_calls")}
    assert told == {name: _public(type(noun)) - BODIES for name, noun in nouns.items()}
    own = set(
        re.findall(
            r"\w+", " ".join(re.findall(r"^    client\.(\w+(?:, .*)?)$", scheduler.client.__doc__ or "", re.MULTILINE))
        )
    )
    assert own == _public(Client) - {"connect"}


BODIES = {"raw_logs", "audit_body", "purge_body"}  # what commands print as it came


def _public(kind: type) -> set[str]:
    return {name for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}
