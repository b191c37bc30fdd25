"""The events stream from any place on, in order and without a gap, for somebody who is far away and reconnects.

A consumer that keeps nothing delivers; the server numbers what it sends, so that a loss shows. It may sit on a follower
that lags, or vanish without a word: so whenever nothing has come for a while, the stream's leader is asked whether
there is more, and the consumer is made anew where there is, behind the last event that was handed over.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from nats.aio.msg import Msg

from scheduler.core.errors import Unavailable
from scheduler.jetstream.changes import create_ephemeral, forget_ephemeral, stored_message
from scheduler.jetstream.delivery import read_reply
from scheduler.jetstream.pulling import Puller
from scheduler.jetstream.requests import Requests, StoredMessage
from scheduler.wire.names import Names

BATCH = 256
FORGET_S = 30.0
_NS = 1_000_000_000


class EventReader:
    """Reads what stands under `subjects`, which may have wildcards and must not overlap. `at`: the place reached."""

    def __init__(self, requests: Requests, names: Names, subjects: Sequence[str]) -> None:
        self._requests, self._stream, self._subjects = requests, names.events, list(subjects)
        self._puller: Puller | None = None
        self._consumer = ""
        self._count = 0
        self.at = 0

    async def newest(self) -> int:
        """The place of the newest event of any kind. Raises Unsure, Unavailable."""
        return int((await self._requests.api(f"STREAM.INFO.{self._stream}"))["state"]["last_seq"])

    async def last(self) -> int:
        """The place of the newest event under the subjects; 0 if there is none. Raises Unsure, Unavailable."""
        queries = [{"last_by_subj": subject} for subject in self._subjects]
        found = await self._requests.stored_many(self._stream, queries)
        return max((message.seq for message in found if message is not None), default=0)

    async def before(self, at: datetime) -> int:
        """The place behind which everything was stored at `at` or later. Raises Unsure, Unavailable."""
        low, high = 1, await self.newest() + 1
        while low < high:
            middle = (low + high) // 2
            message = await self._requests.stored(self._stream, {"seq": middle, "next_by_subj": ">"})
            if message is not None and message.at < at:
                low = message.seq + 1
            else:
                high = middle
        return low - 1

    async def read(self, wait_s: float) -> list[StoredMessage]:
        """What follows; empty if nothing has come for that long, and the leader knows of nothing.

        Raises Unsure, Unavailable: then ask again.
        """
        puller = await self._opened()
        batch = await puller.pull(BATCH, wait_s)
        found = self._in_order(batch)
        if len(found) < len(batch):
            await self.close()
        if found:  # from here on nothing waits: a caller that is cancelled loses nothing
            self.at = found[-1].seq
        elif not batch and (puller.trouble or await self.has_more()):
            await self.close()
            raise Unavailable(f"{self._stream}: nothing is delivered {puller.trouble}".rstrip())
        return found

    async def has_more(self) -> bool:
        """Whether the leader has something behind the place reached. Raises Unsure, Unavailable."""
        queries = [{"seq": self.at + 1, "next_by_subj": subject} for subject in self._subjects]
        return any(await self._requests.stored_many(self._stream, queries))

    async def close(self) -> None:
        """Let go of the consumer; the next `read` makes one."""
        puller, self._puller = self._puller, None
        if puller is not None:
            with suppress(Exception):  # the connection may be gone, and the subscription with it
                await puller.close()
            await forget_ephemeral(self._requests, self._stream, self._consumer)

    async def _opened(self) -> Puller:
        if self._puller is None:
            if self.at > await self.newest():
                self.at = 0  # the stream was made anew: everything in it is new
            self._consumer, self._count = f"watch-{secrets.token_hex(6)}", 0
            more = {"filter_subjects": self._subjects, "inactive_threshold": int(FORGET_S * _NS)}
            await create_ephemeral(self._requests, self._stream, self._consumer, self.at, more)
            puller = Puller(self._requests.client, self._stream, self._consumer, hands_back=False)
            await puller.open()
            self._puller = puller
        return self._puller

    def _in_order(self, batch: Sequence[Msg]) -> list[StoredMessage]:
        """Those up to the first gap."""
        found: list[StoredMessage] = []
        for message in batch:
            if read_reply(message.reply).consumer_seq != self._count + 1:
                break
            self._count += 1
            found.append(stored_message(message))
        return found
