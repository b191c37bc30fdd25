"""A TCP proxy between replicas and NATS that loses everything, cuts connections, or is far away and loses packets."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Self
from urllib.parse import urlsplit

from msgspec import Struct

from tests import deeds

CHUNK = 65_536
CHUNKS_MAX = 1000  # on their way at once, in each direction of a connection
PACKET = 1448  # bytes of a stream in one packet of an Ethernet
WAIT_MORE_S = 0.2  # Linux waits a round trip and at least this long until it sends a lost packet again


class Distance(Struct):
    """How far apart the ends are: `way_s` each way, and the share of packets that is lost. Made as TCP makes it: what
    was lost is sent again after a round trip and some, each time after twice that (RFC 6298, 5.5), and what came after
    it has to wait, since a stream keeps its order."""

    way_s: float
    lost: float
    dice: random.Random
    worst_s: float = 0.0
    """What the unluckiest packet so far took."""
    again: int = 0
    """How many packets were sent again."""

    def takes_s(self, size: int) -> float:
        """How long that many bytes take, when nothing is on its way before them."""
        slowest_s = max(self._packet_s() for _ in range(max(1, -(-size // PACKET))))
        self.worst_s = max(self.worst_s, slowest_s)
        return slowest_s

    def _packet_s(self) -> float:
        taken_s, wait_s = self.way_s, 2 * self.way_s + WAIT_MORE_S
        while self.dice.random() < self.lost:
            self.again += 1
            taken_s, wait_s = taken_s + wait_s, 2 * wait_s
        return taken_s


class Proxy:
    """`async with Proxy(url) as proxy`: connect to `proxy.url`. Silenced, it holds what is sent either way."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 4222)
        self._open = asyncio.Event()
        self._open.set()
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.distance: Distance | None = None
        """From now on; what is on its way already arrives when it would have."""
        self.accepted = 0
        """Connections so far."""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._on_client, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        with deeds.quietly():
            self.cut()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    @property
    def is_used(self) -> bool:
        """Somebody is connected through it."""
        return bool(self._links)

    def silence(self) -> None:
        """From now on everything waits, as behind a dead switch; connections stay."""
        if self.is_used:
            deeds.note("a link silenced")
        self._open.clear()

    def heal(self) -> None:
        """What waited goes on its way."""
        self._open.set()

    def cut(self) -> None:
        """Break every connection."""
        if self.is_used:
            deeds.note("a link cut")
        for writer in self._writers:
            writer.transport.abort()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self.accepted += 1
        self._writers.add(writer)
        try:
            await self._open.wait()
            there, back = await asyncio.open_connection(self._host, self._port)
            self._writers.add(back)
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                back.close()
                self._writers.discard(back)
        except (OSError, asyncio.CancelledError):  # at the end: only a callback waits for this task, and complains
            return
        finally:
            writer.close()
            self._writers.discard(writer)
            self._links.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What comes goes on in its order; while some of it is on its way, more may come."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=CHUNKS_MAX)
        receiving = asyncio.create_task(self._receive(reader, under_way))
        try:
            with contextlib.suppress(OSError):
                while chunk := await self._arrived(under_way):
                    writer.write(chunk)
                    await writer.drain()
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            writer.close()

    async def _receive(self, reader: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Each chunk, and when it is due; an empty one at the end."""
        clock, due_s, chunk = asyncio.get_running_loop().time, 0.0, b"-"
        while chunk:
            try:
                chunk = await reader.read(CHUNK)
            except OSError:
                chunk = b""
            await self._open.wait()
            takes_s = self.distance.takes_s(len(chunk)) if self.distance else 0.0
            due_s = max(due_s, clock() + takes_s)
            await under_way.put((due_s, chunk))

    async def _arrived(self, under_way: asyncio.Queue[tuple[float, bytes]]) -> bytes:
        """The next chunk, once it is due and nothing is silenced."""
        due_s, chunk = await under_way.get()
        left_s = due_s - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)
        await self._open.wait()
        return chunk
