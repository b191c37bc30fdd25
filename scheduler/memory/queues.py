"""Twin of the task queues: pairs one by one instead of in large batches, with the same outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from scheduler.core.errors import Conflict, InvalidArgument, NotFound, ScheddError, Unavailable, Unsure
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings
from scheduler.memory.consumers import MemoryConsumer
from scheduler.memory.messages import Limits, Message, Write, matches
from scheduler.memory.server import MemoryServer
from scheduler.ports.queues import Claim, Pair, Queued, QueueState, StoredTask, WaitingTask
from scheduler.wire.tasks import WITHHELD, execution_of, parse_claim_subject

NO_LIMIT = 1_000_000_000
FOREVER = datetime(2199, 12, 31, tzinfo=UTC)


class MemoryTaskQueues:
    """Implements `ports.queues.TaskQueues`; one instance per replica."""

    def __init__(self, server: MemoryServer, *, defaults: QueueSettings | None = None) -> None:
        self._server = server
        self._defaults = defaults or QueueSettings()
        self._stream = server.tasks
        self._names = server.names

    async def ensure(self, queue: str, edit: QueueEdit | None = None) -> None:
        self._server.check()
        if queue not in self._stream.consumers:
            self._server.queue(queue)
            self._set(queue, edit or QueueEdit(self._defaults))

    async def configure(self, queue: str, edit: QueueEdit) -> None:
        self._server.check()
        if queue not in self._stream.consumers:
            raise NotFound(f"queue {queue!r} has no consumer")
        self._set(queue, edit)

    def _set(self, queue: str, edit: QueueEdit) -> None:
        consumer, settings = self._stream.consumers[queue], edit.settings
        limits = Limits(
            ack_wait_s=settings.ack_wait.total_seconds(),
            max_deliver=max(0, settings.max_deliver),
            max_ack_pending=settings.max_ack_pending if settings.max_ack_pending > 0 else NO_LIMIT,
            backoff_s=tuple(each.total_seconds() for each in settings.backoff),
        )
        consumer.set_limits(limits)
        self._server.edits[queue] = edit
        consumer.pause(None if settings.pause is None else settings.pause.until or FOREVER)

    async def drop(self, queue: str) -> bool:
        self._server.check()
        consumer = self._stream.consumers.pop(queue, None)
        self._server.edits.pop(queue, None)
        if consumer is not None:
            consumer.wake()
        return consumer is not None

    async def queues(self) -> list[QueueState]:
        self._server.check()
        return [self._state_of(consumer) for consumer in self._stream.consumers.values()]

    async def queue(self, queue: str) -> QueueState | None:
        self._server.check()
        consumer = self._stream.consumers.get(queue)
        return None if consumer is None else self._state_of(consumer)

    def _state_of(self, consumer: MemoryConsumer) -> QueueState:
        edit, limits = self._server.edits.get(consumer.name), consumer.limits
        pause = None if edit is None else edit.settings.pause
        until = consumer.paused_until
        if not consumer.is_paused:
            pause = None
        elif pause is None or (pause.until or FOREVER) != until:  # somebody else's, without our note
            pause = Pause(until=None if until is None or until >= FOREVER else until)
        return QueueState(
            queue=consumer.name,
            pending=consumer.pending,
            ack_pending=consumer.ack_pending,
            settings=QueueSettings(
                ack_wait=timedelta(seconds=limits.ack_wait_s),
                max_deliver=limits.max_deliver or -1,
                max_ack_pending=-1 if limits.max_ack_pending == NO_LIMIT else limits.max_ack_pending,
                max_pending=None if edit is None else edit.settings.max_pending,
                backoff=tuple(timedelta(seconds=each) for each in limits.backoff_s),
                pause=pause,
            ),
            edit=None if edit is None else edit.number,
            delivered_seq=consumer.delivered_seq,
            made_at=consumer.made_at,
        )

    async def waiting_since(self, states: Sequence[QueueState]) -> list[datetime | None]:
        self._server.check()
        return [self._oldest(state) if state.pending else None for state in states]

    def _oldest(self, state: QueueState) -> datetime | None:
        pattern = self._names.tasks_of(state.queue)
        behind = self._stream.after(state.delivered_seq)
        return next((message.at for message in behind if matches(message.subject, pattern)), None)

    async def tasks(self, queue: str, *, after: int, most: int) -> list[WaitingTask]:
        self._server.check()
        pattern, prefix = self._names.tasks_of(queue), self._names.task(queue, "")
        found = (each for each in self._stream.after(after) if matches(each.subject, pattern))
        return [WaitingTask(each.seq, each.subject.removeprefix(prefix), each.at) for each in islice(found, most)]

    async def newest(self, queue: str) -> int:
        self._server.check()
        found = self._stream.last_matching(self._names.tasks_of(queue))
        return found.seq if found else 0

    async def publish(self, pairs: Sequence[Pair]) -> list[Queued | ScheddError]:
        return [self._publish(pair) for pair in pairs]

    def _publish(self, pair: Pair) -> Queued | ScheddError:
        claim = self._names.claim(pair.execution_id, pair.drive)
        batch = [
            Write(claim, expect=0, ttl_s=pair.claim_ttl_s),
            Write(self._names.task(pair.queue, pair.execution_id), pair.body, headers=pair.headers),
        ]
        try:
            return Queued(task_seq=self._server.write(self._stream, batch), at=self._server.clock.now())
        except Conflict:
            found = self._stream.last_of(claim)
            return _proven(found, already=True) if found else Unavailable("the claim was refused, and none is there")
        except Unsure as problem:
            found = self._stream.last_of(claim)
            return _proven(found, already=False) if found else problem
        except ScheddError as problem:
            return problem

    async def claim_at(self, seqs: Sequence[int]) -> list[Claim | None]:
        self._server.check()
        return [self._read_claim(self._stream.messages.get(seq)) for seq in seqs]

    def _read_claim(self, message: Message | None) -> Claim | None:
        try:
            return Claim(*parse_claim_subject(self._names, message.subject)) if message else None
        except InvalidArgument:
            return None

    async def claimed_seq(self, execution_id: str, drive: int) -> int | None:
        self._server.check()
        found = self._stream.last_of(self._names.claim(execution_id, drive))
        return found.seq if found and found.data != WITHHELD else None

    async def withhold(self, execution_id: str, drive: int, ttl_s: int) -> int | None:
        claim = self._names.claim(execution_id, drive)
        try:
            self._server.write(self._stream, [Write(claim, WITHHELD, expect=0, ttl_s=ttl_s)])
        except (Conflict, Unsure):
            found = self._stream.last_of(claim)
            if found is None:
                raise Unsure("whether a claim was withheld is not known") from None
            return None if found.data == WITHHELD else found.seq
        return None

    async def present(self, task_seqs: Sequence[int]) -> list[bool]:
        self._server.check()
        prefix = f"{self._names.namespace}.task."
        found = (self._stream.messages.get(seq) for seq in task_seqs)
        return [message is not None and message.subject.startswith(prefix) for message in found]

    async def next_task(self, after: int) -> StoredTask | None:
        self._server.check()
        for message in self._stream.after(after):
            if matches(message.subject, self._names.all_tasks):
                return StoredTask(message.seq, execution_of(self._names, message.subject), message.at)
        return None

    async def begins_at(self) -> int:
        self._server.check()
        return self._stream.begins_at

    async def remove(self, task_seq: int) -> bool:
        self._server.check()
        return self._server.remove_task(task_seq)


def _proven(claim: Message, *, already: bool) -> Queued | ScheddError:
    if claim.data == WITHHELD:
        return Unavailable("its claim is withheld: somebody is ending it")
    return Queued(task_seq=claim.seq + 1, at=claim.at, already=already)
