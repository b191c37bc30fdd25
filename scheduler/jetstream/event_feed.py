"""The events stream in order, for one reader who may be far away: a consumer that keeps nothing, made anew in doubt.

The server numbers what it sends, so that a loss shows; what a reconnect may have lost is read again, since no event may
follow for hours. The consumer may sit on a follower that lags, or vanish without a word: so whenever nothing has come
for a while, the stream's leader is asked whether there is more. Whoever reads keeps its place by itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from nats.aio.msg import Msg

from scheduler.core.errors import InvalidArgument, ScheddError, Unavailable
from scheduler.jetstream.delivery import read_reply
from scheduler.jetstream.ephemeral import create_ephemeral, forget_ephemeral
from scheduler.jetstream.errors import from_exception
from scheduler.jetstream.pulling import Puller
from scheduler.jetstream.requests import Requests
from scheduler.ports.feeds import Page, Told
from scheduler.wire.events import Event, decode_event
from scheduler.wire.names import Names

FORGET_S = 60.0
LAG_S = 1.0  # how long what the leader has may take to come
_NS = 1_000_000_000


class NatsEventFeed:
    """Implements `ports.feeds.EventFeed`. Needs to create and delete consumers of the stream, to pull from them, and to
    read the stream and its messages; nothing else."""

    def __init__(self, requests: Requests, names: Names) -> None:
        self._requests, self._names, self._stream = requests, names, names.events
        self._consumer = ""
        self._puller: Puller | None = None
        self._at: tuple[int, list[str]] | None = None
        self._count = self._pending = self._reconnects = 0
        self._pulled_at_s = 0.0

    async def newest(self) -> int:
        return int((await self._requests.api(f"STREAM.INFO.{self._stream}"))["state"]["last_seq"])

    async def last(self, kinds: Sequence[str], schedule: str | None = None) -> int:
        queries = [{"last_by_subj": subject} for subject in self._names.event_subjects(kinds, schedule)]
        found = await self._requests.stored_many(self._stream, queries)
        return max((message.seq for message in found if message is not None), default=0)

    async def before(self, at: datetime) -> int:
        low, high = 1, await self.newest() + 1
        while low < high:
            middle = (low + high) // 2
            message = await self._requests.stored(self._stream, {"seq": middle, "next_by_subj": ">"})
            if message is not None and message.at < at:
                low = message.seq + 1
            else:
                high = middle
        return low - 1

    async def read(
        self, after: int, kinds: Sequence[str], schedule: str | None = None, *, most: int, wait_s: float
    ) -> Page:
        subjects = self._names.event_subjects(kinds, schedule)
        puller = self._puller
        if puller is None or self._at != (after, subjects) or self._has_reconnected() or self._is_forgotten():
            puller = await self._begin(after, subjects)
        batch = await puller.pull(most, wait_s)
        self._pulled_at_s = asyncio.get_running_loop().time()
        has_more = False
        if not batch and (has_more := await self._has_more(after, subjects)):
            batch = await puller.pull(most, LAG_S)
        items = self._in_order(batch)
        if items:
            self._at = (items[-1].seq, subjects)
        if len(items) < len(batch):
            await self.close()
        if not items and (batch or has_more or puller.trouble):
            await self.close()
            raise Unavailable(f"{self._stream}: nothing is delivered {puller.trouble}".rstrip())
        return Page(items, self._pending)

    async def pending(self) -> int:
        if self._puller is not None:
            with suppress(ScheddError):
                info = await self._requests.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
                self._pending = int(info.get("num_pending", 0))
        return self._pending

    async def close(self) -> None:
        puller, self._puller = self._puller, None
        if puller is not None:
            with suppress(Exception):  # the connection may be gone, and the subscription with it
                await puller.close()
            await forget_ephemeral(self._requests, self._stream, self._consumer)

    def _has_reconnected(self) -> bool:
        return bool(self._requests.client.stats["reconnects"] != self._reconnects)

    def _is_forgotten(self) -> bool:
        """Whether it was read so long ago that the server may have removed the consumer, or is about to."""
        return asyncio.get_running_loop().time() - self._pulled_at_s > FORGET_S / 2

    async def _has_more(self, after: int, subjects: Sequence[str]) -> bool:
        """Whether the leader has something behind that place."""
        queries = [{"seq": after + 1, "next_by_subj": subject} for subject in subjects]
        return any(await self._requests.stored_many(self._stream, queries))

    async def _begin(self, after: int, subjects: list[str]) -> Puller:
        await self.close()
        behind = after if after <= await self.newest() else 0  # the stream was made anew: everything in it is new
        self._consumer, self._reconnects = f"feed-{secrets.token_hex(6)}", self._requests.client.stats["reconnects"]
        more = {"filter_subjects": subjects, "inactive_threshold": int(FORGET_S * _NS)}
        created = await create_ephemeral(self._requests, self._stream, self._consumer, behind, more)
        self._pending = int(created.get("num_pending", 0))
        self._count, self._at = 0, (after, subjects)
        puller = Puller(self._requests.client, self._stream, self._consumer, hands_back=False)
        try:
            await puller.open()
        except Exception as problem:
            raise from_exception(problem, self._stream) from None
        self._puller = puller
        return puller

    def _in_order(self, batch: Sequence[Msg]) -> list[Told]:
        """Those up to the first gap."""
        items: list[Told] = []
        for message in batch:
            delivery = read_reply(message.reply)
            if delivery.consumer_seq != self._count + 1:
                break
            self._count, self._pending = delivery.consumer_seq, delivery.pending
            items.append(Told(delivery.seq, message.data, _event(message.data)))
        return items


def _event(body: bytes) -> Event | None:
    try:
        return decode_event(body)
    except InvalidArgument:
        return None
