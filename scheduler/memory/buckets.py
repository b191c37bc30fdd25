"""Twin of a KV bucket: the same words, virtual time, faults on demand.

bucket = MemoryBucket(server, "schedd-schedules")
other = bucket.replica()                      # as another process sees it: same data, watches of its own
server.lose_ack_next()                        # the next write lands, and its writer hears nothing
bucket.fail_next(Unavailable("electing"))     # the next call, read or write, fails like this
bucket.stall_watches()                        # they deliver nothing more until somebody restarts them
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import takewhile

from scheduler.core.errors import ScheddError, Unavailable
from scheduler.memory.consumers import MemoryConsumer
from scheduler.memory.messages import Limits, Message
from scheduler.memory.messages import Write as StreamWrite
from scheduler.memory.server import MemoryServer
from scheduler.memory.streams import MemoryStream
from scheduler.ports.stores import Entry, Leaf, Watch, Write
from scheduler.wire import headers as h
from scheduler.wire.keys import check_key, check_ttl

RETRY_S = 1.0  # how soon a watch looks again after the server was down
BATCH = 100  # entries that a watch delivers at once
_DELETED = frozenset({"DEL", "PURGE"})


class MemoryBucket:
    """Implements `ports.stores.Bucket`. What the server's faults do to writes is told in `MemoryServer`."""

    def __init__(self, server: MemoryServer, bucket: str, *, stream: MemoryStream | None = None) -> None:
        self.name = bucket
        self.stream = stream or MemoryStream(f"KV_{bucket}", server.clock)
        self._server = server
        self._prefix = f"$KV.{bucket}."
        self._failures: deque[ScheddError] = deque()
        self._watches: list[MemoryWatch] = []

    def replica(self) -> MemoryBucket:
        """Another handle on the same data."""
        return MemoryBucket(self._server, self.name, stream=self.stream)

    # --- faults and foreign hands

    def fail_next(self, *problems: ScheddError) -> None:
        """The next calls through this handle raise these, one each; a write does not land."""
        self._failures.extend(problems)

    def stall_watches(self) -> None:
        """Watches of this handle fall silent without telling anybody, until they are restarted."""
        for watch in self._watches:
            watch.stalled = True

    def put_raw(self, key: str, value: bytes, headers: Mapping[str, str] | None = None) -> int:
        """What any NATS client may do, good keys or not; never fails."""
        write = StreamWrite(self._prefix + key, value, rollup=True, headers=dict(headers or {}))
        return self.stream.store([write])

    # --- the port

    async def get(self, key: str) -> Entry | None:
        (entry,) = await self.get_many([key])
        return entry

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        self._check()
        found = [self.stream.last_of(self._prefix + check_key(key, self.name)) for key in keys]
        return [None if message is None else self._entry(message) for message in found]

    async def put(self, key: str, value: bytes, *, expect: int | None = None, ttl_s: int | None = None) -> int:
        (result,) = await self.put_many([Write(key, value, expect, ttl_s)])
        if isinstance(result, ScheddError):
            raise result
        return result

    async def put_many(self, writes: Sequence[Write]) -> list[int | ScheddError]:
        return [self._put(write) for write in writes]

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        result = self._put(Write(key, b"", expect), {h.KV_OPERATION: "DEL"})
        if isinstance(result, ScheddError):
            raise result
        return result

    async def keys(self, pattern: str = ">") -> list[str]:
        self._check()
        return [subject.removeprefix(self._prefix) for subject in self.stream.subjects(self._prefix + pattern)]

    async def last_revision(self) -> int:
        self._check()
        return self.stream.last_seq

    async def changes_since(self, revision: int, until: int = 0) -> list[Entry]:
        self._check()
        if self.stream.last_seq < until:
            raise Unavailable(f"{self.name}: the past is told: revision {self.stream.last_seq}, and {until} was before")
        return [self._entry(message) for message in self.stream.after(revision)]

    async def leaf(self, after: int, most: int) -> Leaf:
        self._check()
        first = next(iter(self.stream.after(after)), None)
        if first is None:
            return Leaf()
        until = first.seq + most - 1
        found = takewhile(lambda message: message.seq <= until, self.stream.after(first.seq - 1))
        return Leaf(tuple(self._entry(message) for message in found), until)

    async def expire(self, revision: int) -> None:
        self._check()
        self.stream.delete(revision)

    def watch(self, revision: int, deliver: Callable[[Sequence[Entry]], None]) -> Watch:
        watch = MemoryWatch(self, self._server, revision, deliver)
        self._watches.append(watch)
        watch.wake()
        return watch

    # --- inside

    def entries_after(self, revision: int) -> list[Entry]:
        """For watches: without faults of calls."""
        return [self._entry(message) for message in self.stream.after(revision)]

    def forget(self, watch: MemoryWatch) -> None:
        self._watches = [other for other in self._watches if other is not watch]

    def _check(self) -> None:
        self._server.check()
        if self._failures:
            raise self._failures.popleft()

    def _put(self, write: Write, headers: Mapping[str, str] | None = None) -> int | ScheddError:
        try:
            self._check()
            stored = StreamWrite(
                self._prefix + check_key(write.key, self.name),
                write.value,
                expect=write.expect,
                rollup=True,  # history 1
                ttl_s=None if write.ttl_s is None else check_ttl(write.ttl_s, write.key),
                headers=dict(headers or {}),
            )
            return self._server.write(self.stream, [stored])
        except ScheddError as problem:
            return problem

    def _entry(self, message: Message) -> Entry:
        deleted = message.headers.get(h.KV_OPERATION) in _DELETED or h.MARKER_REASON in message.headers
        key = message.subject.removeprefix(self._prefix)
        return Entry(key, b"" if deleted else message.data, message.seq, message.at, deleted)


class MemoryWatch(MemoryConsumer):
    """Implements `ports.stores.Watch`: told by the stream of every write, it delivers in a later turn of the loop."""

    def __init__(
        self, bucket: MemoryBucket, server: MemoryServer, revision: int, deliver: Callable[[Sequence[Entry]], None]
    ) -> None:
        super().__init__(f"watch-{id(self)}", bucket.stream, ">", Limits())
        self.stalled = False
        self._bucket = bucket
        self._server = server
        self._revision = revision
        self._receive = deliver
        self._loop = asyncio.get_running_loop()
        bucket.stream.consumers[self.name] = self

    def wake(self) -> None:
        self._loop.call_soon(self._deliver_new)

    def restart(self, revision: int) -> None:
        self._revision = revision
        self.stalled = False
        self.wake()

    async def stop(self) -> None:
        self.stream.consumers.pop(self.name, None)
        self._bucket.forget(self)

    def _deliver_new(self) -> None:
        if self.stalled or self.name not in self.stream.consumers:
            return
        if self._server.down:
            clock = self._server.clock
            clock.call_at(clock.now() + timedelta(seconds=RETRY_S), self.wake)
            return
        entries = self._bucket.entries_after(self._revision)
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            self._revision = batch[-1].revision
            self._receive(batch)
