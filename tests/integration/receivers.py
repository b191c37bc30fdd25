"""Receivers of webhooks for tests: real HTTP servers that answer, or do something worse."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import NamedTuple, Self


class Received(NamedTuple):
    """One request: its line, its headers by small names, its body."""

    line: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """`answer` makes the raw answer to the n-th request (from 0); None: never answers; b"": closes without one.

    async with Receiver(lambda number: OK if number else ERROR) as receiver: ...
    """

    def __init__(
        self,
        answer: Callable[[int], bytes | None],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        slow_s: float = 0.0,
    ) -> None:
        self._answer, self._wanted, self._tls, self._slow_s = answer, port, tls, slow_s
        self.received: list[Received] = []
        self.port = 0
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}/hook"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", self._wanted, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="receiver")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = self._answer(await self._read(reader))
            if answer is None:
                await asyncio.sleep(3600)
                return
            for byte in answer if self._slow_s else ():
                writer.write(bytes([byte]))
                await asyncio.sleep(self._slow_s)
            if not self._slow_s:
                writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> int:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append(Received(head[0], headers, body))
        return len(self.received) - 1


def answer(status: str, *headers: str, body: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


OK = answer("200 OK", body="thanks")
