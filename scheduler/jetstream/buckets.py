"""KV buckets on JetStream (ADR-8): implements `ports.stores.Bucket`.

Every read is answered by the stream's leader; direct gets are not used, since a follower answers those with the past.
A write is a publish to `$KV.<bucket>.<key>` that may expect a revision. A delete, ours or that of any other client,
and an expiry with a marker leave an entry that is read as `deleted`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from scheduler.core.errors import InvalidArgument, ScheddError, Unavailable
from scheduler.jetstream.changes import Changes
from scheduler.jetstream.errors import ApiError, InFlight, Place, check_led, from_api
from scheduler.jetstream.requests import Ack, Message, Requests, StoredMessage
from scheduler.jetstream.watching import BucketWatch
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Entry, Leaf, Watch, Write
from scheduler.wire import headers as h
from scheduler.wire.keys import check_key, check_ttl

CHUNK = 500  # requests under way at once
CHASES = 5  # how often `changes_since` looks for what was written while it read
IN_FLIGHT_PAUSES_S = (0.01, 0.03, 0.1, 0.2)
PAGE_OVERLAP = 1000
_DELETED = frozenset({"DEL", "PURGE"})
_DELETE_FAILED = 10057


class _State(Struct):
    last_seq: int = 0
    subjects: dict[str, int] | None = None


class _Info(Struct):
    """The part of a STREAM.INFO reply that is read here."""

    state: _State | None = None
    ts: datetime | None = None
    total: int = 0
    limit: int = 0
    cluster: Place | None = None
    error: ApiError | None = None


_INFO = msgspec.json.Decoder(_Info)


class NatsBucket:
    """One bucket. With a `clock`, every `last_revision` tells it the server's time."""

    def __init__(self, requests: Requests, bucket: str, *, clock: Clock | None = None) -> None:
        self.name = bucket
        self._requests = requests
        self._clock = clock
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._changes = Changes(requests, self._stream)

    async def get(self, key: str) -> Entry | None:
        (entry,) = await self.get_many([key])
        return entry

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        queries = [{"last_by_subj": self._subject(key)} for key in keys]
        found: list[Entry | None] = []
        for start in range(0, len(queries), CHUNK):
            messages = await self._requests.stored_many(self._stream, queries[start : start + CHUNK])
            found += [None if message is None else self._entry(message) for message in messages]
        return found

    async def put(self, key: str, value: bytes, *, expect: int | None = None, ttl_s: int | None = None) -> int:
        (result,) = await self.put_many([Write(key, value, expect, ttl_s)])
        if isinstance(result, ScheddError):
            raise result
        return result

    async def put_many(self, writes: Sequence[Write]) -> list[int | ScheddError]:
        results: list[int | ScheddError] = []
        for start in range(0, len(writes), CHUNK):
            results += await self._send([self._message(write) for write in writes[start : start + CHUNK]])
        return results

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        headers = {h.KV_OPERATION: "DEL"}
        if expect is not None:
            headers[h.EXPECTED_LAST_SUBJECT_SEQUENCE] = str(expect)
        (result,) = await self._send([Message(self._subject(key), b"", headers)])
        if isinstance(result, ScheddError):
            raise result
        return result

    async def keys(self, pattern: str = ">") -> list[str]:
        """Pages overlap and are sorted by the server, so a key that exists throughout is in one of them."""
        found: set[str] = set()
        offset = 0
        while True:
            info = await self._info({"subjects_filter": self._prefix + pattern, "offset": offset})
            page = (info.state.subjects if info.state else None) or {}
            fresh = page.keys() - found
            if page and found and len(fresh) == len(page):
                raise Unavailable(f"{self.name}: too many keys were removed while they were listed")
            found |= fresh
            if offset + len(page) >= info.total or not page:
                return [subject.removeprefix(self._prefix) for subject in found]
            offset = max(offset + 1, offset + len(page) - PAGE_OVERLAP)

    async def last_revision(self) -> int:
        sent_s = self._clock.boottime_s() if self._clock else 0.0
        info = await self._info()
        if self._clock is not None and info.ts is not None:
            self._clock.observe_server(info.ts, sent_s, self._clock.boottime_s())
        if info.state is None:
            raise Unavailable(f"{self.name}: NATS does not tell the state of the bucket")
        return info.state.last_seq

    async def changes_since(self, revision: int, until: int = 0) -> list[Entry]:
        """Complete up to the newest revision at the time of the call, whatever is written meanwhile."""
        found: dict[str, StoredMessage] = {}
        at = revision
        for _ in range(CHASES):
            newest = await self.last_revision()
            if newest < until:
                raise Unavailable(f"{self.name}: NATS tells the past: revision {newest}, and knew {until} before")
            if newest <= at:
                break
            messages, at = await self._changes.since(at, newest)
            found.update((message.subject, message) for message in messages)
        return [self._entry(message) for message in sorted(found.values(), key=lambda message: message.seq)]

    async def leaf(self, after: int, most: int) -> Leaf:
        """Sequence by sequence: only the leader knows what is there, and it has no other way to tell a part of it."""
        first = await self._requests.stored(self._stream, {"seq": after + 1, "next_by_subj": ">"})
        if first is None:
            return Leaf()
        found, until = [first], min(first.seq + most - 1, max(first.seq, await self.last_revision()))
        for start in range(first.seq + 1, until + 1, CHUNK):
            queries = [{"seq": seq} for seq in range(start, min(start + CHUNK, until + 1))]
            found += [each for each in await self._requests.stored_many(self._stream, queries) if each is not None]
        return Leaf(tuple(self._entry(message) for message in found), until)

    async def expire(self, revision: int) -> None:
        subject = f"$JS.API.STREAM.MSG.DELETE.{self._stream}"
        reply = await self._requests.call(subject, msgspec.json.encode({"seq": revision, "no_erase": True}))
        error = msgspec.json.decode(reply.data, type=_Info).error
        if error is None:
            return
        if error.err_code != _DELETE_FAILED or await self._requests.stored(self._stream, {"seq": revision}) is not None:
            raise from_api(error, f"{self.name}: removing revision {revision}")

    def watch(self, revision: int, deliver: Callable[[Sequence[Entry]], None]) -> Watch:
        def pass_on(messages: Sequence[StoredMessage]) -> None:
            deliver([self._entry(message) for message in messages])

        watch = BucketWatch(self._requests, self._stream, revision, pass_on)
        watch.start()
        return watch

    # --- inside

    async def _info(self, request: dict[str, Any] | None = None) -> _Info:
        subject = f"STREAM.INFO.{self._stream}"
        payload = b"" if request is None else msgspec.json.encode(request)
        info = _INFO.decode((await self._requests.call(f"$JS.API.{subject}", payload)).data)
        if info.error is not None:
            raise from_api(info.error, subject)
        check_led(info.cluster, subject)
        return info

    def _subject(self, key: str) -> str:
        return self._prefix + check_key(key, self.name)

    def _message(self, write: Write) -> Message | ScheddError:
        headers = {}
        try:
            if write.expect is not None:
                headers[h.EXPECTED_LAST_SUBJECT_SEQUENCE] = str(write.expect)
            if write.ttl_s is not None:
                headers[h.TTL] = f"{check_ttl(write.ttl_s, write.key)}s"
            return Message(self._subject(write.key), write.value, headers or None)
        except InvalidArgument as problem:
            return problem

    async def _send(self, messages: Sequence[Message | ScheddError]) -> list[int | ScheddError]:
        """Publish all; those that met a write in flight (10164: refused, not stored) are repeated a few times."""
        results: dict[int, int | ScheddError] = {}
        waiting: dict[int, Message] = {}
        for place, message in enumerate(messages):
            if isinstance(message, ScheddError):
                results[place] = message
            else:
                waiting[place] = message
        for pause_s in (*IN_FLIGHT_PAUSES_S, 0.0):
            acks = await self._requests.publish_many(list(waiting.values()))
            results.update((place, _revision(ack)) for place, ack in zip(waiting, acks, strict=True))
            waiting = {place: waiting[place] for place in waiting if isinstance(results[place], InFlight)}
            if not waiting:
                break
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads writers, guards nothing
        return [results[place] for place in range(len(messages))]

    def _entry(self, message: StoredMessage) -> Entry:
        deleted = is_marker(message)
        key = message.subject.removeprefix(self._prefix)
        return Entry(key, b"" if deleted else message.data, message.seq, message.at, deleted)


def is_marker(message: StoredMessage) -> bool:
    """Whether it stands for the absence of a value: deleted or purged by a client, or expired."""
    return message.headers.get(h.KV_OPERATION) in _DELETED or h.MARKER_REASON in message.headers


def _revision(ack: Ack | ScheddError) -> int | ScheddError:
    return ack if isinstance(ack, ScheddError) else ack.seq
