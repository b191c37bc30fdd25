"""A stream in memory, with what schedd relies on of JetStream and nothing else.

Expectations on last sequences, atomic batches, roll-up, TTL, message schedules (with the server's floor of 250 ms),
limits and work-queue retention, explicit acks with redelivery. Measured facts in notes/nats.md; the contract tests hold
this twin to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from scheduler.core.errors import Conflict, InvalidArgument
from scheduler.memory.clock import VirtualClock
from scheduler.memory.consumers import MemoryConsumer
from scheduler.memory.messages import Limits, Message, Write, matches

FIRE_FLOOR = timedelta(milliseconds=250)
BATCH_MAX = 1000


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

    def first_matching(self, pattern: str) -> int | None:
        """The lowest sequence of a message on such a subject."""
        return min((next(iter(self._by_subject[each])) for each in self.subjects(pattern)), default=None)

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
