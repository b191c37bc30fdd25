"""A durable pull consumer of a stream in memory: explicit acks, redelivery, limits, a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from scheduler.core.errors import Unavailable
from scheduler.memory.clock import wake
from scheduler.memory.messages import Delivery, Limits, matches
from scheduler.wire.instants import cut

if TYPE_CHECKING:
    from scheduler.memory.streams import MemoryStream


class MemoryConsumer:
    """A durable pull consumer with explicit acks.

    `on_outcome` hears (kind, sequence, deliveries, reason); the kinds are those of `wire.advisories`.
    """

    def __init__(self, name: str, stream: MemoryStream, pattern: str, limits: Limits) -> None:
        self.name = name
        self.stream = stream
        self.pattern = pattern
        self.limits = limits
        self.on_outcome: Callable[[str, int, int, str], None] = lambda *_: None
        self.made_at = stream.clock.now()
        self.paused_until: datetime | None = None
        self._seen = 0  # nothing up to this sequence is new
        self._deliveries: dict[int, int] = {}
        self._pending: dict[int, datetime] = {}  # delivered, not acknowledged: until when
        self._again: dict[int, None] = {}
        self._waiting: dict[asyncio.Future[None], None] = {}  # in the order of their pulls

    # --- state

    @property
    def ack_pending(self) -> int:
        """Delivered and neither acknowledged nor given up; what waits for another delivery counts."""
        return len(self._pending) + len(self._again)

    @property
    def pending(self) -> int:
        """Never delivered yet."""
        return sum(matches(message.subject, self.pattern) for message in self.stream.after(self._seen))

    @property
    def delivered_seq(self) -> int:
        """Nothing up to this sequence waits for its first delivery."""
        return self._seen

    @property
    def is_paused(self) -> bool:
        return self.paused_until is not None and self.paused_until > self.stream.clock.now()

    def pause(self, until: datetime | None) -> None:
        """Deliver nothing before that instant; None: go on."""
        self.paused_until = until
        if self.is_paused and until is not None:
            self.stream.clock.call_at(until, self.wake)
        self.wake()

    def set_limits(self, limits: Limits) -> None:
        """A changed ack wait holds for what is delivered already, from its delivery (or last sign) on."""
        before, self.limits = self.limits, limits
        for seq, until in list(self._pending.items()):
            count = self._deliveries[seq]
            left = until - self.stream.clock.now()
            self._hold(seq, left.total_seconds() + limits.ack_wait_of(count) - before.ack_wait_of(count))
        self.wake()

    @property
    def ack_floor(self) -> int:
        """Everything up to this sequence was delivered and acknowledged."""
        return min([*self._pending, *self._again], default=self._seen + 1) - 1

    # --- pulling

    async def pull(self, batch: int, expires_s: float) -> list[Delivery]:
        clock = self.stream.clock
        until = clock.now() + timedelta(seconds=expires_s)
        clock.call_at(until, self.wake)
        while not (taken := self.take(batch)) and clock.now() < until:
            await self._woken()
        return taken

    async def _woken(self) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[woken] = None
        try:
            await woken
        finally:
            self._waiting.pop(woken, None)

    def wake(self) -> None:
        for woken in self._waiting:
            wake(woken)

    def take(self, batch: int) -> list[Delivery]:
        """What can be delivered at this moment."""
        taken: list[Delivery] = []
        if self.is_paused:
            return taken
        for seq in list(self._again):
            if len(taken) < batch:
                del self._again[seq]
                taken += self._deliver(seq)
        for message in self.stream.after(self._seen):
            ours = matches(message.subject, self.pattern)
            if ours and (len(taken) >= batch or self.ack_pending >= self.limits.max_ack_pending):
                break
            self._seen = message.seq
            if ours:
                taken += self._deliver(message.seq)
        return taken

    def _deliver(self, seq: int) -> list[Delivery]:
        message = self.stream.messages.get(seq)
        count = self._deliveries.get(seq, 0) + 1
        if message is None:
            self._forget(seq)
            return []
        if self.limits.max_deliver and count > self.limits.max_deliver:
            self.on_outcome("max_deliveries", seq, count - 1, "")
            return []
        self._deliveries[seq] = count
        self._hold(seq, self.limits.ack_wait_of(count))
        return [Delivery(message, count, f"{self.name}.{count}.{seq}")]

    # --- the server goes away, and comes back

    def cut_off(self) -> None:
        """Whoever waits for messages learns that nothing comes. Raises Unavailable there."""
        for woken in self._waiting:
            if not woken.done():
                woken.set_exception(Unavailable("the server went away"))

    def redeliver_all(self) -> int:
        """What was not answered comes again as if for the first time: deliveries were counted in memory only."""
        again = list(self._pending)
        self._pending.clear()
        self._deliveries = dict.fromkeys(self._deliveries, 0)
        self._again |= dict.fromkeys(again)
        self.wake()
        return len(again)

    def reset(self, seq: int) -> None:
        """As if nothing from there on had ever been delivered. Answers to earlier deliveries count for nothing."""
        self._seen = seq - 1
        for held in (self._deliveries, self._pending, self._again):
            held.clear()
        self.wake()

    # --- answering

    def ack(self, token: str) -> None:
        seq = _seq_of(token)
        if not self._is_open(seq):
            return
        self.on_outcome("ack", seq, self._deliveries[seq], "")
        self._settle(seq)

    def term(self, token: str, reason: str = "") -> None:
        seq = _seq_of(token)
        if self._is_open(seq):
            self.on_outcome("term", seq, self._deliveries[seq], reason)
            self._settle(seq)

    def nak(self, token: str, delay_s: float = 0.0) -> None:
        seq = _seq_of(token)
        if seq not in self._pending:
            return
        self.on_outcome("nak", seq, self._deliveries[seq], "")
        self._hold(seq, delay_s)
        if delay_s <= 0:
            self._expire(seq)

    def working(self, token: str) -> None:
        seq = _seq_of(token)
        if seq in self._pending:
            self._hold(seq, self.limits.ack_wait_of(self._deliveries[seq]))

    def removed(self, seq: int, reason: str) -> None:
        """The message was deleted from its stream; heard of only if it was delivered."""
        if self._is_open(seq):
            self.on_outcome("term", seq, self._deliveries[seq], reason)
            self._forget(seq)

    def _is_open(self, seq: int) -> bool:
        return seq in self._pending or seq in self._again

    def _settle(self, seq: int) -> None:
        self._forget(seq)
        if self.stream.work_queue:
            self.stream.delete(seq)
        self.wake()  # there may be room for more now

    def _forget(self, seq: int) -> None:
        self._pending.pop(seq, None)
        self._again.pop(seq, None)
        self._deliveries.pop(seq, None)

    def _hold(self, seq: int, seconds: float) -> None:
        until = cut(self.stream.clock.now() + timedelta(seconds=seconds))  # what the clock will say then
        self._pending[seq] = until
        self.stream.clock.call_at(until, lambda: self._expire(seq))

    def _expire(self, seq: int) -> None:
        until = self._pending.get(seq)
        if until is not None and until <= self.stream.clock.now():
            del self._pending[seq]
            self._again[seq] = None
            self.wake()


def _seq_of(token: str) -> int:
    return int(token.rpartition(".")[2])
