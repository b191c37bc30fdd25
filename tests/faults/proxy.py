"""A TCP proxy between a replica and NATS that can be made to lose everything, to cut its connections, or to be slow."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

CHUNK = 65_536
CHUNKS_MAX = 1000
AGAIN_S = 0.2
"""What TCP waits at least until it sends a lost packet again (RFC 6298 says a second, Linux 200 ms)."""


class Proxy:
    """`async with Proxy(url) as proxy`: connect to `proxy.url`. Silenced, it holds what is sent either way."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 4222)
        self._open = asyncio.Event()
        self._open.set()
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._late_s, self._lost, self._dice = 0.0, 0.0, random.Random(0)
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._on_client, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def silence(self) -> None:
        """From now on everything waits, as behind a dead switch; connections stay."""
        self._open.clear()

    def heal(self) -> None:
        """What waited goes on its way."""
        self._open.set()

    def slow_down(self, late_s: float, lost: float, dice: random.Random) -> None:
        """From now on everything takes so long each way, and that share of it is lost once and sent again."""
        self._late_s, self._lost, self._dice = late_s, lost, dice

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self._writers.add(writer)
        try:
            await self._open.wait()
            there, back = await asyncio.open_connection(self._host, self._port)
            self._writers.add(back)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except OSError:
            return
        finally:
            writer.close()
            self._links.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What comes goes on in its order; while some of it is on its way, more may come."""
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=CHUNKS_MAX)
        receiving = asyncio.create_task(self._receive(reader, on_its_way))
        clock = asyncio.get_running_loop().time
        try:
            with contextlib.suppress(OSError):
                while chunk := await self._arrived(on_its_way, clock):
                    writer.write(chunk)
                    await writer.drain()
        finally:
            receiving.cancel()
            writer.close()

    async def _arrived(self, on_its_way: asyncio.Queue[tuple[float, bytes]], clock: Callable[[], float]) -> bytes:
        """The next chunk, when it is due and nothing is silenced; empty at the end."""
        due, chunk = await on_its_way.get()
        if (left_s := due - clock()) > 0:
            await asyncio.sleep(left_s)
        if chunk:
            await self._open.wait()
        return chunk

    async def _receive(self, reader: asyncio.StreamReader, on_its_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        clock, chunk = asyncio.get_running_loop().time, b"-"
        while chunk:
            try:
                chunk = await reader.read(CHUNK)
            except OSError:
                chunk = b""
            if chunk:
                await self._open.wait()
            again_s = AGAIN_S if self._dice.random() < self._lost else 0.0
            await on_its_way.put((clock() + self._late_s + again_s, chunk))
