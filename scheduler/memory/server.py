"""The server that the memory twins share: the streams of one namespace, one virtual clock, and faults on demand.

clock = VirtualClock()
server = MemoryServer(clock)
one, other = MemoryTimeline(server), MemoryTimeline(server)   # two replicas
server.lose_ack_next()          # the next write lands, and its writer hears nothing
await clock.advance(60)         # what is armed for that minute comes due, in order
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

import msgspec

from scheduler.core.errors import Conflict, Unavailable, Unsure
from scheduler.core.model.queue import QueueEdit
from scheduler.memory.clock import VirtualClock
from scheduler.memory.consumers import MemoryConsumer
from scheduler.memory.messages import Limits, Write
from scheduler.memory.streams import MemoryStream
from scheduler.wire.advisories import KIND_OF_TYPE, REMOVED_REASON
from scheduler.wire.instants import format_instant
from scheduler.wire.names import DISPATCHER, TRACKER, Names
from scheduler.wire.reports import Cancel

LANDS_AFTER_S = 1.0
_TYPE_OF_KIND = {str(kind): name for name, kind in KIND_OF_TYPE.items()}
_SUBJECT_WORDS = {
    "ack": "METRIC.CONSUMER.ACK",
    "nak": "ADVISORY.CONSUMER.MSG_NAKED",
    "term": "ADVISORY.CONSUMER.MSG_TERMINATED",
    "max_deliveries": "ADVISORY.CONSUMER.MAX_DELIVERIES",
}
_QUEUE_LIMITS = Limits(ack_wait_s=30.0, max_deliver=20, max_ack_pending=1000)


class MemoryServer:
    """Writers come through `write`, where the faults are; tests may look at the streams as they like."""

    def __init__(self, clock: VirtualClock, names: Names | None = None) -> None:
        self.clock = clock
        self.names = names or Names()
        self.down = False
        """While true every read, write and pull is refused with Unavailable; what is armed fires all the same."""
        self.timeline = MemoryStream(self.names.timeline, clock, work_queue=True)
        self.tasks = MemoryStream(self.names.tasks, clock, work_queue=True)
        self.reports = MemoryStream(self.names.reports, clock)
        self.events = MemoryStream(self.names.events, clock)
        self.logs = MemoryStream(self.names.logs, clock)
        self.advisories = MemoryStream(self.names.advisories, clock)
        self.due = self.timeline.consumer(DISPATCHER, self.names.all_due)
        self.tracker = self.reports.consumer(TRACKER, self.names.all_reports)
        self.signals = self.advisories.consumer(TRACKER, ">")
        self.edits: dict[str, QueueEdit] = {}
        """What the consumers of queues carry of schedd's; one that a test makes by `queue` carries nothing."""
        self.cancelled: list[tuple[str, Cancel]] = []
        """Cancel messages that were sent, by execution id."""
        self.on_cancel: Callable[[str, str, Cancel], None] = lambda queue, execution_id, cancel: None
        self._faults: deque[str] = deque()
        self._lands_after_s = LANDS_AFTER_S

    # --- faults: each is for the next writes, in the order asked for

    def lose_ack_next(self, count: int = 1) -> None:
        """These writes land; their writers get Unsure."""
        self._faults.extend(["lose_ack"] * count)

    def lose_next(self, count: int = 1) -> None:
        """These writes never arrive; their writers get Unsure."""
        self._faults.extend(["lose"] * count)

    def refuse_in_flight_next(self, count: int = 1) -> None:
        """These writes are refused for now, as if another on their subject were being replicated (10164)."""
        self._faults.extend(["refuse"] * count)

    def land_late(self, count: int = 1, *, after_s: float = LANDS_AFTER_S) -> None:
        """These writes get Unsure and land (if their expectations hold then) that much later."""
        self._lands_after_s = after_s
        self._faults.extend(["late"] * count)

    def stop(self) -> None:
        """SIGKILL of the server: nothing is answered, nothing fires, until `start`."""
        self.down = self.timeline.holds_fires = True
        for consumer in self._durables():
            consumer.cut_off()

    def start(self) -> int:
        """With all that was stored, and nothing that was not: what is overdue fires, what was not answered comes again
        as if for the first time. How many came again."""
        self.down = False
        self.timeline.fire_held()
        return sum(consumer.redeliver_all() for consumer in self._durables())

    def _durables(self) -> list[MemoryConsumer]:
        streams = (self.timeline, self.tasks, self.reports, self.advisories)
        return [consumer for stream in streams for consumer in stream.consumers.values()]

    # --- writing and reading

    def check(self) -> None:
        if self.down:
            raise Unavailable("the server is down")

    def write(self, stream: MemoryStream, batch: Sequence[Write]) -> int:
        """Store a batch, or meet the next fault. Raises Conflict, Unsure, Unavailable."""
        self.check()
        fault = self._faults.popleft() if self._faults else ""
        if fault == "refuse":
            raise Unavailable("wrong last sequence (10164)")
        if fault == "late":
            at = self.clock.now() + timedelta(seconds=self._lands_after_s)
            self.clock.call_at(at, lambda: _land(stream, batch))
        seq = 0 if fault in {"late", "lose"} else stream.store(batch)
        if fault:
            raise Unsure("no answer in time")
        return seq

    def report(self, subject: str, body: bytes, *, claim: bool = False) -> int:
        """What a worker publishes; a claim expects to be the first on its subject. Raises Conflict."""
        return self.write(self.reports, [Write(subject, body, expect=0 if claim else None)])

    def cancel(self, queue: str, execution_id: str, cancel: Cancel) -> None:
        """A core message: kept for tests, heard by whoever listens."""
        self.cancelled.append((execution_id, cancel))
        self.on_cancel(queue, execution_id, cancel)

    # --- queues

    def queue(self, queue: str, limits: Limits = _QUEUE_LIMITS) -> MemoryConsumer:
        """The durable of a task queue, made if it is missing: workers pull from it and answer it."""
        consumer = self.tasks.consumer(queue, self.names.tasks_of(queue), limits)
        consumer.on_outcome = lambda kind, seq, count, reason: self._advise(queue, kind, seq, count, reason)
        return consumer

    def remove_task(self, seq: int) -> bool:
        for consumer in self.tasks.consumers.values():
            consumer.removed(seq, REMOVED_REASON)
        return self.tasks.delete(seq)

    def _advise(self, queue: str, kind: str, seq: int, deliveries: int, reason: str) -> None:
        body = {
            "type": _TYPE_OF_KIND[kind],
            "timestamp": format_instant(self.clock.now()),
            "stream": self.tasks.name,
            "consumer": queue,
            "stream_seq": seq,
            "deliveries": deliveries,
        }
        subject = f"$JS.EVENT.{_SUBJECT_WORDS[kind]}.{self.tasks.name}.{queue}"
        self.advisories.store([Write(subject, msgspec.json.encode(body | ({"reason": reason} if reason else {})))])


def _land(stream: MemoryStream, batch: Sequence[Write]) -> None:
    try:
        stream.store(batch)
    except Conflict:
        return  # somebody was faster
