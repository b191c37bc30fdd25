"""The events stream in order, for one reader: a consumer that keeps nothing, and is replaced when there is doubt.

The server numbers what it sends, so a loss is noticed with the next event; what a reconnect may have lost is read
again, since no event may follow for hours. Whoever reads keeps its place by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress

from nats.aio.msg import Msg

from scheduler.core.errors import InvalidArgument, ScheddError, Unavailable
from scheduler.jetstream.changes import create_ephemeral, forget_ephemeral
from scheduler.jetstream.delivery import read_reply
from scheduler.jetstream.pulling import Puller
from scheduler.jetstream.requests import Requests
from scheduler.ports.webhooks import Page, Told
from scheduler.wire.events import Event, decode_event
from scheduler.wire.names import Names

FORGET_S = 300.0
_NS = 1_000_000_000


class NatsEventFeed:
    """Implements `ports.webhooks.EventFeed`."""

    def __init__(self, requests: Requests, names: Names) -> None:
        self._requests, self._names = requests, names
        self._consumer = ""
        self._puller: Puller | None = None
        self._at: tuple[int, tuple[str, ...]] | None = None
        self._count = 0
        self._pending = 0
        self._reconnects = 0

    async def newest(self) -> int:
        return int((await self._requests.api(f"STREAM.INFO.{self._names.events}"))["state"]["last_seq"])

    async def read(self, after: int, kinds: Sequence[str], *, most: int, wait_s: float) -> Page:
        if self._puller is None or self._at != (after, tuple(kinds)) or self._has_reconnected():
            await self._begin(after, tuple(kinds))
        puller = self._puller
        assert puller is not None
        batch = await puller.pull(most, wait_s)
        if puller.trouble:
            await self.close()
            raise Unavailable(f"{self._names.events}: nothing is delivered ({puller.trouble})")
        items = self._in_order(batch)
        if items:
            self._at = (items[-1].seq, tuple(kinds))
        if len(items) < len(batch):
            await self.close()
        return Page(items, self._pending)

    async def pending(self) -> int:
        if self._puller is not None:
            with suppress(ScheddError):
                info = await self._requests.api(f"CONSUMER.INFO.{self._names.events}.{self._consumer}")
                self._pending = int(info.get("num_pending", 0))
        return self._pending

    async def close(self) -> None:
        puller, self._puller = self._puller, None
        if puller is not None:
            with suppress(Exception):  # the connection may be gone, and the subscription with it
                await puller.close()
            await forget_ephemeral(self._requests, self._names.events, self._consumer)

    def _has_reconnected(self) -> bool:
        return bool(self._requests.client.stats["reconnects"] != self._reconnects)

    async def _begin(self, after: int, kinds: tuple[str, ...]) -> None:
        await self.close()
        self._consumer, self._reconnects = f"feed-{secrets.token_hex(6)}", self._requests.client.stats["reconnects"]
        subjects = [self._names.events_of(kind) for kind in kinds]
        more = {"filter_subjects": subjects, "inactive_threshold": int(FORGET_S * _NS)}
        created = await create_ephemeral(self._requests, self._names.events, self._consumer, after, more)
        self._pending = int(created.get("num_pending", 0))
        self._count, self._at = 0, (after, kinds)
        puller = Puller(self._requests.client, self._names.events, self._consumer)
        await puller.open()
        self._puller = puller

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
