"""Our quick headers against nats-py's own: the same bytes out, the same dictionary in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client as NatsClient
from nats.js.api import Header

from scheduler.jetstream.client import ToughClient, encode_headers, parse_headers

names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=40)


class Sent(NatsClient):
    """nats-py's client, its commands caught instead of sent."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[bytes] = []

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        self.commands.append(bytes(cmd))


class ToughSent(ToughClient, Sent):
    """Ours, its commands caught as well."""


async def command_of(client: Sent, headers: dict[str, Any]) -> bytes:
    await client._send_publish("a.b", "r", b"payload", 7, headers)
    return client.commands[-1]


@given(headers=st.dictionaries(names, values, min_size=1, max_size=6))
async def test_the_bytes_are_those_of_nats_py(headers: dict[str, str]) -> None:
    """Whatever the values: the command on the wire is the one that the library would have sent."""
    assert await command_of(ToughSent(), dict(headers)) == await command_of(Sent(), dict(headers))


async def test_names_that_nats_py_sends_itself_are_whole() -> None:
    """Its KV client expects revisions under names of an enum: an expectation misspelt would be none."""
    sent = await command_of(ToughSent(), {Header.EXPECTED_LAST_SUBJECT_SEQUENCE: "0"})
    assert b"Nats-Expected-Last-Subject-Sequence: 0" in sent


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb"])
async def test_a_line_break_in_a_value_goes_the_way_of_the_library(value: str) -> None:
    """No value can begin a header of its own."""
    headers = {"User": value, "Other": "x"}
    assert encode_headers(headers) is None
    sent = await command_of(ToughSent(), dict(headers))
    assert sent == await command_of(Sent(), dict(headers))
    assert b"\r\nEvil:" not in sent


@pytest.mark.parametrize("name", ["", "a b", "a:b", "Ä", "a\r\nb"])
def test_an_unusual_name_goes_the_way_of_the_library(name: str) -> None:
    """We judge only what is plain."""
    assert encode_headers({name: "x"}) is None


@given(headers=st.dictionaries(names, values, min_size=1, max_size=6))
def test_a_block_is_read_as_nats_py_reads_it(headers: dict[str, str]) -> None:
    """In and out agree with the library and with each other."""
    block = encode_headers(headers)
    assert block is not None
    raw = block.removeprefix(b"NATS/1.0\r\n")
    assert parse_headers(raw) == NatsClient._parse_header_lines(raw)
    assert parse_headers(raw) == {name: value.strip() for name, value in headers.items()}


@given(raw=st.binary(max_size=200))
def test_garbage_is_never_raised_through(raw: bytes) -> None:
    """A header block is foreign input."""
    assert isinstance(parse_headers(raw), dict)


class Ending:
    """A transport that is closed while somebody else, who is cancelled, waits for its end as well."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self.ended.cancel)

    async def wait_closed(self) -> None:
        await self.ended


async def test_who_closes_is_not_cancelled() -> None:
    """Unless somebody does cancel him: and whoever wants to know of the end is told."""
    client, told = ToughClient(), asyncio.Event()

    async def closed() -> None:
        told.set()

    client._closed_cb, client._transport, client._flush_queue = closed, Ending(), asyncio.Queue()  # type: ignore[assignment]
    await client.close()
    assert client.is_closed
    assert told.is_set()


async def test_who_is_cancelled_while_he_closes() -> None:
    """It is passed on."""
    client = ToughClient()
    client._transport, client._flush_queue = Ending(), asyncio.Queue()  # type: ignore[assignment]
    client._transport.close = lambda: None  # type: ignore[method-assign,union-attr]
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0.01)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
