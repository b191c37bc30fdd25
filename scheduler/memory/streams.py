"""A stream and its consumers in memory, with what schedd relies on of JetStream and nothing else.

Expectations on last sequences, atomic batches, roll-up, TTL, message schedules (with the server's floor of 250 ms),
limits and work-queue retention, explicit acks with redelivery. Measured facts in notes/nats.md; the contract tests hold
this twin to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from msgspec import Struct

from scheduler.core.errors import Conflict, InvalidArgument, Unavailable
from scheduler.memory.clock import VirtualClock, wake
from scheduler.wire.instants import cut

FIRE_FLOOR = timedelta(milliseconds=250)
BATCH_MAX = 1000


class Write(Struct, frozen=True):
    """One message to store. `expect`: the last sequence on `expect_on` (default: its own subject), 0 for none.

    With `fire_at` it is a schedule: it replaces what stands on its subject, and at that instant moves to `target`.
    """

    subject: str
    data: bytes = b""
    expect: int | None = None
    expect_on: str | None = None
    rollup: bool = False
    ttl_s: float | None = None
    fire_at: datetime | None = None
    target: str = ""
    headers: dict[str, str] = {}


class Message(Struct, frozen=True):
    """A stored message; `at` is when it was stored, `mortal` one with a TTL."""

    subject: str
    data: bytes
    seq: int
    at: datetime
    headers: dict[str, str]
    target: str = ""
    mortal: bool = False


class MemoryStream:
    """One stream. Writes are synchronous; who writes through a network does so by `MemoryServer`."""

    def __init__(self, name: str, clock: VirtualClock, *, work_queue: bool = False) -> None:
        self.name = name
        self.clock = clock
        self.work_queue = work_queue
        self.messages: dict[int, Message] = {}
        self.last_seq = 0
        self.begins_at = 0
        self.holds_fires = False
        """While true nothing fires: what comes due stays armed, until it is armed anew or `fire_held` is called."""
        self.consumers: dict[str, MemoryConsumer] = {}
        self._by_subject: dict[str, dict[int, None]] = {}
        self._held: list[int] = []
        self._replaced: dict[str, Message] = {}

    # --- writing

    def store(self, batch: Sequence[Write]) -> int:
        """All of them or none, with contiguous sequences; returns the last. Raises Conflict."""
        if not 0 < len(batch) <= BATCH_MAX:
            raise InvalidArgument(f"a batch has 1 to {BATCH_MAX} messages")
        for write in batch:
            subject = write.expect_on or write.subject
            last = self.last_of(subject)
            if write.expect is not None and write.expect != (last.seq if last else 0):
                raise Conflict(f"{subject}: wrong last sequence: {last.seq if last else 0}")
        for write in batch:
            self._store(write)
        self._notify()
        return self.last_seq

    def _store(self, write: Write) -> None:
        if write.rollup or write.fire_at is not None:
            for seq in list(self._by_subject.get(write.subject, ())):
                self._replaced[write.subject] = self.messages[seq]
                self.delete(seq)
        self.last_seq += 1
        seq, now = self.last_seq, self.clock.now()
        self.messages[seq] = Message(
            write.subject, write.data, seq, now, write.headers, write.target, write.ttl_s is not None
        )
        self._by_subject.setdefault(write.subject, {})[seq] = None
        if write.ttl_s is not None:
            self.clock.call_at(now + timedelta(seconds=write.ttl_s), lambda: self.delete(seq))
        if write.fire_at is not None:
            self.clock.call_at(max(write.fire_at, now + FIRE_FLOOR), lambda: self._fire(seq))

    def _fire(self, seq: int) -> None:
        message = self.messages.get(seq)
        if message is None:
            return
        if self.holds_fires:
            self._held.append(seq)
            return
        self.delete(seq)
        self._store(Write(message.target, message.data))
        self._notify()

    @property
    def held(self) -> int:
        """How much came due and did not fire."""
        return sum(seq in self.messages for seq in self._held)

    def fire_held(self) -> int:
        """Fire what came due meanwhile, as a server does that starts; how many those were."""
        self.holds_fires = False
        held, self._held = [seq for seq in self._held if seq in self.messages], []
        for seq in held:
            self._fire(seq)
        return len(held)

    def delete(self, seq: int) -> bool:
        message = self.messages.pop(seq, None)
        if message is None:
            return False
        of_subject = self._by_subject[message.subject]
        del of_subject[seq]
        if not of_subject:
            del self._by_subject[message.subject]
        return True

    def bring_back(self) -> int:
        """What a crash does to a stream that keeps one message per subject: where the newest one was removed, there is
        the one again that it had replaced (without a TTL; one with a TTL would go at once). How many came back."""
        back = [each for subject, each in self._replaced.items() if subject not in self._by_subject and not each.mortal]
        for message in back:
            self.messages[message.seq] = message
            self._by_subject[message.subject] = {message.seq: None}
        return len(back)

    def lose(self, begins_at: int) -> None:
        """Somebody deleted it, and it was made anew, empty, with sequences above all that were."""
        self.messages.clear()
        self._by_subject.clear()
        self.begins_at, self.last_seq = begins_at, begins_at - 1

    def _notify(self) -> None:
        for consumer in self.consumers.values():
            consumer.wake()

    # --- reading

    def last_of(self, subject: str) -> Message | None:
        of_subject = self._by_subject.get(subject)
        return self.messages[next(reversed(of_subject))] if of_subject else None

    def last_matching(self, pattern: str) -> Message | None:
        found = [self.last_of(subject) for subject in self.subjects(pattern)]
        return max((message for message in found if message), key=lambda message: message.seq, default=None)

    def subjects(self, pattern: str) -> list[str]:
        return [subject for subject in self._by_subject if matches(subject, pattern)]

    def after(self, seq: int) -> Iterator[Message]:
        """Stored messages with a higher sequence, ascending."""
        return (self.messages[each] for each in range(seq + 1, self.last_seq + 1) if each in self.messages)

    def consumer(self, name: str, pattern: str, limits: Limits | None = None) -> MemoryConsumer:
        """The durable of that name, made if it is missing."""
        if name not in self.consumers:
            self.consumers[name] = MemoryConsumer(name, self, pattern, limits or Limits())
        return self.consumers[name]


class Limits(Struct, frozen=True):
    """Of one consumer. `max_deliver` 0: no limit. `backoff_s`: the ack waits of the first, second ... delivery."""

    ack_wait_s: float = 5.0
    max_deliver: int = 0
    max_ack_pending: int = 20_000
    backoff_s: tuple[float, ...] = ()

    def ack_wait_of(self, delivered: int) -> float:
        waits = self.backoff_s or (self.ack_wait_s,)
        return waits[min(delivered, len(waits)) - 1]


class Delivery(Struct, frozen=True):
    """One message as delivered; `delivered` counts from 1."""

    message: Message
    delivered: int
    token: str


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


@lru_cache(maxsize=65_536)  # every consumer looks at every message of its stream, and more than once
def matches(subject: str, pattern: str) -> bool:
    """Whether a subject is named by a pattern with `*` and a final `>`."""
    tokens, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and _all_match(tokens, wanted[:-1])
    return len(tokens) == len(wanted) and _all_match(tokens, wanted)


def _all_match(tokens: Sequence[str], wanted: Sequence[str]) -> bool:
    return all(want in ("*", token) for token, want in zip(tokens, wanted, strict=False))
