"""Twin of the task queues: pairs one by one instead of in large batches, with the same outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.errors import Conflict, InvalidArgument, ScheddError, Unavailable, Unsure
from scheduler.memory.server import MemoryServer
from scheduler.memory.streams import MemoryConsumer, Message, Write
from scheduler.ports.queues import Claim, Pair, Queued, QueueState
from scheduler.wire.tasks import WITHHELD, parse_claim_subject


class MemoryTaskQueues:
    """Implements `ports.queues.TaskQueues`; one instance per replica."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._stream = server.tasks
        self._names = server.names

    async def ensure(self, queue: str) -> None:
        self._server.check()
        self._server.queue(queue)

    async def queues(self) -> list[QueueState]:
        self._server.check()
        return [_state_of(consumer) for consumer in self._stream.consumers.values()]

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

    async def remove(self, task_seq: int) -> bool:
        self._server.check()
        return self._server.remove_task(task_seq)


def _proven(claim: Message, *, already: bool) -> Queued | ScheddError:
    if claim.data == WITHHELD:
        return Unavailable("its claim is withheld: somebody is ending it")
    return Queued(task_seq=claim.seq + 1, at=claim.at, already=already)


def _state_of(consumer: MemoryConsumer) -> QueueState:
    return QueueState(
        queue=consumer.name,
        pending=consumer.pending,
        ack_pending=consumer.ack_pending,
        ack_wait_s=consumer.limits.ack_wait_s,
        delivered_seq=consumer.delivered_seq,
    )
