"""Serving inside our own loop: real sockets on loopback, ports the system picks."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from scheduler.core.errors import Internal, InvalidArgument, Unavailable
from scheduler.web.serving import Serving, serve
from scheduler.wire.addresses import Address

ANY = Address("127.0.0.1", 0)


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


def app(*routes: Route) -> Starlette:
    return Starlette(routes=[Route("/", hello), *routes])


async def get(address: Address, path: str = "/", *, host: str | None = None) -> str:
    reader, writer = await asyncio.open_connection(host or address.host, address.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        return (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    serving = await serve(app(), ANY, name="monitor")
    yield serving
    await serving.stop()


async def test_port_0_picks_one_and_tells(serving: Serving) -> None:
    """The address is the real one, at once, and answers."""
    assert serving.address.port > 0
    answer = await get(serving.address)
    assert answer.startswith("HTTP/1.1 200")
    assert answer.endswith("hello")
    assert not serving.failed


async def test_a_taken_port_is_one_sentence(serving: Serving) -> None:
    """Whose flag it is and what to do, and exit code 5."""
    with pytest.raises(Unavailable) as refused:
        await serve(app(), serving.address, name="monitor")
    assert refused.value.exit_code == 5
    assert refused.value.field == "monitor"
    assert refused.value.message == (
        f"{serving.address} is already in use: stop what listens there, or choose another --monitor address (or off)"
    )


async def test_a_taken_port_that_was_a_wish(serving: Serving) -> None:
    """Two that wish for one port at the same time both serve: the later one elsewhere, told at once."""
    wish = Address(serving.address.host, serving.address.port, or_any=True)
    other = await serve(app(), wish, name="monitor")
    try:
        assert other.address.port != serving.address.port
        assert "hello" in await get(other.address)
    finally:
        await other.stop()


@pytest.mark.parametrize("host", ["203.0.113.1", "a..b"])
async def test_an_address_of_another_machine_is_refused(host: str) -> None:
    """An address or name that is not here is the caller's mistake."""
    with pytest.raises(InvalidArgument, match=r"--monitor.*(cannot listen on|not a host name)"):
        await serve(app(), Address(host, 0), name="monitor")


async def test_every_interface() -> None:
    """An empty host listens on IPv4 as well."""
    serving = await serve(app(), Address("", 0), name="monitor")
    try:
        assert "hello" in await get(serving.address, host="127.0.0.1")
    finally:
        await serving.stop()


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_ipv6_loopback() -> None:
    """`[::1]:0` works and is shown in brackets."""
    try:
        serving = await serve(app(), Address("::1", 0), name="monitor")
    except InvalidArgument:
        pytest.skip("this machine has no IPv6 loopback address")
    try:
        assert str(serving.address).startswith("[::1]:")
        assert "hello" in await get(serving.address)
    finally:
        await serving.stop()


async def test_signals_stay_ours() -> None:
    """uvicorn takes no signal handler away, neither while serving nor afterwards."""
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    serving = await serve(app(), ANY, name="monitor")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    await serving.stop()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_stopped_server_frees_its_port(serving: Serving) -> None:
    """The port can be bound again at once; stopping twice is harmless."""
    await serving.stop()
    await serving.stop()
    assert not serving.failed
    again = await serve(app(), serving.address, name="monitor")
    await again.stop()


async def test_a_request_that_never_ends_is_cut() -> None:
    """Stopping is bounded though a request hangs."""
    entered = asyncio.Event()

    async def hang(_: Request) -> Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    serving = await serve(app(Route("/hang", hang)), ANY, name="monitor")
    request = asyncio.create_task(get(serving.address, "/hang"))
    await entered.wait()
    async with asyncio.timeout(5):
        await serving.stop(grace_s=1)
    request.cancel()
    await asyncio.wait({request})


async def test_a_server_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error inside uvicorn's start is ours to report, with its cause, and the port is free again."""

    async def broken(*_: object) -> None:
        raise RuntimeError("no protocol")

    monkeypatch.setattr(uvicorn.Server, "startup", broken)
    with pytest.raises(Internal, match="did not start") as failed:
        await serve(app(), ANY, name="monitor")
    assert str(failed.value.__cause__) == "no protocol"
