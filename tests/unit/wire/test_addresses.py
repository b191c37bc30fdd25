"""Addresses to listen on, as people write them."""

from __future__ import annotations

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.wire.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":8080", Address("", 8080)),
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:9000", Address("::1", 9000)),
        ("localhost:1", Address("localhost", 1)),
        ("127.0.0.1:8080?", Address("127.0.0.1", 8080, or_any=True)),
        ("off", None),
    ],
)
def test_forms(text: str, expected: Address | None) -> None:
    """Every documented form is read, and shown as it was written."""
    assert parse_address(text, field="monitor") == expected
    if expected:
        assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":",
        ":65536",
        ":-1",
        "::1:80",
        "[::1]",
        "[nonsense]:80",
        "a b:80",
        "http://x:80",
        ":80\n",
        ":80??",
        "off?",
        "OFF",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """With the rule and the name of the field."""
    with pytest.raises(InvalidArgument, match="is not an address: write HOST:PORT") as refused:
        parse_address(text, field="monitor")
    assert refused.value.field == "monitor"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")],
        *[(host, False) for host in ("", "0.0.0.0", "::", "10.0.0.1", "localhost.example.com")],
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    """What only this machine can reach."""
    assert Address(host, 80).is_loopback is loopback
