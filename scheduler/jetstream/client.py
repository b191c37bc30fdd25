"""The NATS client that schedd connects with: nats-py 2.16, with its faults repaired and its headers made quick.

A message that nats-py cannot decode ends its read loop, and with it the whole connection; a server passes on any
subject and any header block, so anybody who may publish could do that to us. A reconnect that is refused leaves its
socket open, and closing a connection that is just lost may cancel whoever closes it. And `tls://` is spoken in the
clear to a server that does not insist on TLS, passwords included.

Credentials and certificates are replaced while we run. nats-py reads some of their files once, gives up for good when
the server says that ours are no longer good, and stops trying, without a word, over a file that is half written. Here
every attempt reads all files anew, and only `close` ends them.

Headers are most of what a dispatch costs: a task has a dozen, and nats-py checks each name and value by itself. Here a
name is checked once and remembered, and a block as a whole; what is unusual goes the library's way.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.errors import Error
from nats.protocol.command import hpub_cmd

log = logging.getLogger(__name__)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)  # what may be sent (RFC 9110, 5.6.2)
_COME_AGAIN = re.compile(r"'?((user |account )?auth(entication|orization) |maximum .*connections)", re.IGNORECASE)
_NAME = re.compile(r"[!-9;-~]+", re.ASCII)  # what may be received: printable, without the colon (RFC 5322, 3.6.8)


class ToughClient(NatsClient):
    """Overrides private methods of nats-py; the lock pins it, `tests/unit/jetstream/test_client.py` compares."""

    renew_tls: Callable[[], ssl.SSLContext] | None = None

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """By the files as they are now. Raises OSError, of which ssl.SSLError is one: it is tried again."""
        return self.renew_tls() if self.renew_tls else super().ssl_context

    def _connect_command(self) -> bytes:
        """Signs in by the files as they are now. What is wrong with one ends this attempt, not all attempts."""
        try:
            if self._nkeys_seed:
                self._setup_nkeys_seed_connect()
            return super()._connect_command()
        except Exception as problem:
            if self._reconnection_task is None or isinstance(problem, OSError):
                raise
            raise Error(f"the credentials cannot be used: {problem or type(problem).__name__}") from None

    async def _process_err(self, err_msg: str) -> None:
        """A server that no longer takes us is tried again, as one that is away."""
        if not self.is_connected or not _COME_AGAIN.match(err_msg):
            await super()._process_err(err_msg)
            return
        problem = Error(f"nats: {err_msg}")
        await self._error_cb(problem)
        await self._process_op_err(problem)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Its reader waits for the end of the transport as well, and is cancelled over it: to whoever closes that must
        not look as if he were."""
        transport: Any = self._transport
        if transport is not None:
            transport.wait_closed = _to_the_end(transport.wait_closed)
        await super()._close(status, do_cbs)

    async def _connect_to_server(self, s: Any) -> None:
        old: Any = self._transport
        if old:
            old.close()
        await super()._connect_to_server(s)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """nats-py leaves it to the server whether a connection is encrypted, whatever the URL says."""
        if initial_connection and self._wants_tls() and not info.get("tls_required"):
            raise Error("the server offers no TLS, and tls:// or TLS files ask for it")
        await super()._process_info(info, initial_connection)

    def _wants_tls(self) -> bool:
        scheme = self._current_server.uri.scheme if self._current_server else ""
        return scheme == "tls" or (scheme == "nats" and "tls" in self.options)  # of ws and wss the transport takes care

    # --- in

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return self.msg_class(
            subject=subject.decode("utf-8", "replace"),
            reply=reply.decode("utf-8", "replace"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except (ValueError, IndexError) as problem:
            log.warning("unreadable headers ignored: %s", problem, extra={"event": "nats_bad_headers"})
            return None

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return parse_headers(raw)

    # --- out

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        block = encode_headers(headers) if headers and subject else None
        if block is None:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        await self._send_command(hpub_cmd(subject, reply, block, payload))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()


def encode_headers(headers: Mapping[str, str]) -> bytes | None:
    """The header block, as nats-py writes it; None for one with anything unusual, which nats-py shall judge."""
    # concatenated, not formatted: names that nats-py itself sends are members of an enum, whose format is not its value
    lines = [name + ": " + value.strip() for name, value in headers.items() if is_token(name)]
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    if len(lines) != len(headers) or text.count("\n") != breaks or text.count("\r") != breaks:
        return None
    return f"NATS/1.0\r\n{text}\r\n\r\n".encode()


def parse_headers(raw: bytes) -> dict[str, str]:
    """The lines of a block, without its first; lines that are no header are left out."""
    found: dict[str, str] = {}
    for line in raw.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and is_name(name := name.strip()):
            found[name] = value.strip()
    return found


def _to_the_end(wait: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def waited() -> None:
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        try:
            await wait()
        except asyncio.CancelledError:
            if task is None or task.cancelling() > before:
                raise

    return waited


@lru_cache(maxsize=1024)  # users choose some of the names: what is remembered is bounded
def is_token(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None


@lru_cache(maxsize=1024)
def is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None
