"""Flags that make a definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.definitions import FLAGS, fields_of, read_pairs, read_payload
from scheduler.core.errors import InvalidArgument
from scheduler.wire.schedule import FIELDS


def made(**values: Any) -> dict[str, Any]:
    by_name = {".".join(flag.path): flag for flag in FLAGS}
    return fields_of({by_name[name.replace("__", ".")]: value for name, value in values.items()})


def test_every_field_of_the_contract_has_a_flag() -> None:
    """No field of the schedule JSON is out of reach of `schedctl add`, and no flag fills a field that is none."""
    assert {flag.path[0] for flag in FLAGS} == FIELDS


def test_what_is_not_given_is_left_out() -> None:
    """None and empty lists are no fields; 0, false values given and empty texts are."""
    assert made(cron=[], every=None, max_running=0, name="") == {"max_running": 0, "name": ""}


def test_one_of_a_list_is_a_text() -> None:
    """One --cron is a text as people write it, several are a list; --exclude is always a list."""
    assert made(cron=["@daily"]) == {"cron": "@daily"}
    assert made(cron=["@daily", "@hourly"]) == {"cron": ["@daily", "@hourly"]}
    assert made(exclude=["x"]) == {"exclude": ["x"]}


def test_nested_fields() -> None:
    """--backoff-initial and its like go into their object."""
    assert made(backoff__initial="1s", backoff__factor=2.0, retention__age="1h") == {
        "backoff": {"initial": "1s", "factor": 2.0},
        "retention": {"age": "1h"},
    }


def test_a_payload_stays_byte_for_byte() -> None:
    """The daemon stores a payload as it was typed."""
    assert bytes(read_payload(' {"a" : 1.0} ')) == b'{"a" : 1.0}'
    assert bytes(read_payload("null")) == b"null"


def test_a_payload_from_a_file(tmp_path: Path) -> None:
    """@FILE reads JSON from a file of at most 1 MB."""
    file = tmp_path / "p.json"
    file.write_text("[1]\n")
    assert bytes(read_payload(f"@{file}")) == b"[1]"
    file.write_text(" " * 1_000_001)
    with pytest.raises(InvalidArgument, match="1 MB"):
        read_payload(f"@{file}")


@pytest.mark.parametrize("text", ["hello", "", "{", "\udcff", "[" * 100_000])
def test_a_payload_has_to_be_json(text: str) -> None:
    """A bare word is refused with a hint at its quotes."""
    with pytest.raises(InvalidArgument, match="quotes") as caught:
        read_payload(text)
    assert caught.value.field == "payload"


@pytest.mark.parametrize("texts", [["x"], ["=x"], ["a=1", "a=2"]])
def test_pairs_are_checked(texts: list[str]) -> None:
    """NAME=VALUE, each name once; a value may hold '=' and be empty."""
    with pytest.raises(InvalidArgument, match="--header"):
        read_pairs(texts, "--header")
    assert read_pairs(["a=b=c", "d="], "--header") == {"a": "b=c", "d": ""}
