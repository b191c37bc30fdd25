"""Serve an ASGI app inside the daemon's event loop with uvicorn, which keeps its hands off our signals.

The socket is bound here, before uvicorn starts: so a taken port is one sentence, and port 0 is known at once.
Stopping is bounded: open requests get `grace_s`, then they are cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from scheduler.core.errors import Internal, InvalidArgument, PermissionDenied, ScheddError, Unavailable
from scheduler.wire.addresses import Address

GRACE_S = 3.0
START_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 256
HEADERS_MAX_BYTES = 16 * 1024
BACKLOG = 128
_log = logging.getLogger(__name__)


class _Embedded(uvicorn.Server):
    """uvicorn without its signal handlers, and with an event that says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()


class Serving:
    """A running server. `address` is where it really listens."""

    def __init__(self, server: _Embedded, task: asyncio.Task[None], address: Address) -> None:
        self._server = server
        self._task = task
        self.address = address

    @property
    def failed(self) -> bool:
        """Whether it ended though nobody asked it to."""
        return self._task.done() and not self._server.should_exit

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop listening, let open requests end within `grace_s` seconds, then cut them. Idempotent; never raises."""
        self._server.should_exit = True
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        done, _ = await asyncio.wait({self._task}, timeout=grace_s + 2.0)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1.0)
        if self._task.done() and not self._task.cancelled() and (problem := self._task.exception()):
            _log.error("the HTTP server broke", exc_info=problem, extra={"event": "http.broke"})


async def serve(app: ASGIApp, address: Address, *, name: str) -> Serving:
    """Serve `app` at `address` until `stop`. `name` is the flag that set it (`monitor`), for errors and logs.

    Raises Unavailable if the port is taken, PermissionDenied if it may not be bound, InvalidArgument if this machine
    has no such address.
    """
    listener = await _bind(address, name)
    bound = _bound(listener)
    server = _Embedded(_config(app))
    task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http {name}")
    await _wait_until_serving(server, task, listener, name)
    _log.info("%s listens on %s", name, bound, extra={"event": "http.listening", "server": name, "address": str(bound)})
    return Serving(server, task, bound)


async def _wait_until_serving(server: _Embedded, task: asyncio.Task[None], listener: socket.socket, name: str) -> None:
    serving = asyncio.create_task(server.serving.wait())
    try:
        await asyncio.wait({task, serving}, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        serving.cancel()
        if not server.serving.is_set() or task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
            listener.close()
    if task.done():
        problem = None if task.cancelled() else task.exception()
        raise Internal(f"the {name} HTTP server did not start") from problem


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        h11_max_incomplete_event_size=HEADERS_MAX_BYTES,
        timeout_graceful_shutdown=round(GRACE_S),
    )


async def _bind(address: Address, name: str) -> socket.socket:
    """A listening socket at `address`, or at any port of its host where that one is a wish and taken."""
    try:
        return await _bind_exactly(address, name)
    except Unavailable:
        if not address.or_any:
            raise
        return await _bind_exactly(Address(address.host, 0), name)


async def _bind_exactly(address: Address, name: str) -> socket.socket:
    """An empty host is every interface, IPv6 and IPv4 where the machine has both."""
    try:
        if address.host:
            found = await asyncio.get_running_loop().getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, _, _, _, place = found[0]
            return socket.create_server(place[:2], family=family, backlog=BACKLOG)
        return _bind_everywhere(address.port)
    except UnicodeError:  # the resolver's answer to names like a..b
        raise InvalidArgument(f"--{name}: {address.host!r} is not a host name", field=name) from None
    except OSError as problem:
        raise _refusal(problem, address, name) from None


def _bind_everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=BACKLOG)


def _refusal(problem: OSError, address: Address, name: str) -> ScheddError:
    if problem.errno == errno.EADDRINUSE:
        text = f"{address} is already in use: stop what listens there, or choose another --{name} address (or off)"
        return Unavailable(text, field=name)
    if problem.errno in {errno.EACCES, errno.EPERM}:
        return PermissionDenied(
            f"{address} may not be bound by this user: choose a --{name} port above 1023", field=name
        )
    reason = problem.strerror or str(problem)
    return InvalidArgument(f"--{name} cannot listen on {address}: {reason}", field=name)


def _bound(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return Address(host, port)
