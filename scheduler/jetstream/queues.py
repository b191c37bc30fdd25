"""The tasks stream: claim and task as pairs in atomic batches, one durable consumer per queue.

A claim expects that there is none yet, so a pair can be in the stream once only, however often it is published; its
task has the next sequence (contiguous on R1 and R3, measured). One claim that exists refuses the whole batch, which
then says nothing about the others: the claims are read back, and what is new goes again without them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from scheduler.core.errors import Conflict, InvalidArgument, NotFound, ScheddError, Unavailable, Unsure
from scheduler.core.model.queue import QueueSettings
from scheduler.jetstream.errors import InFlight
from scheduler.jetstream.queue_consumers import QueueConsumers
from scheduler.jetstream.requests import Message, PendingBatch, Requests, StoredMessage
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Claim, Pair, Queued, StoredTask, WaitingTask
from scheduler.wire import headers as h
from scheduler.wire.names import Names
from scheduler.wire.tasks import WITHHELD, execution_of, parse_claim_subject

BATCH_PAIRS = 256  # a whole pull of due messages; measured 20 k pairs/s, 16 k with 125 (the server takes 1000 messages)
BATCH_BYTES = 2 * 1024 * 1024  # the server holds a batch in memory until its commit
UNDER_WAY_MAX = 8  # of the 50 batches that a stream lets be open, for all replicas together
_OVERHEAD_BYTES = 1024  # subjects and headers of NATS, roughly

_Numbered = list[tuple[int, Pair]]  # each with its place in the caller's list
_UnderWay = tuple[_Numbered, PendingBatch]
_Results = dict[int, Queued | ScheddError]


class NatsTaskQueues(QueueConsumers):
    """Implements `ports.queues.TaskQueues`."""

    def __init__(
        self, requests: Requests, names: Names, clock: Clock, *, defaults: QueueSettings | None = None
    ) -> None:
        """`defaults`: of the queues that are made without settings of their own."""
        super().__init__(requests, names, defaults or QueueSettings())
        self._clock = clock
        self._free = asyncio.Semaphore(UNDER_WAY_MAX)

    # --- pairs in

    async def publish(self, pairs: Sequence[Pair]) -> list[Queued | ScheddError]:
        first: dict[tuple[str, int], int] = {}
        for number, pair in enumerate(pairs):
            first.setdefault((pair.execution_id, pair.drive), number)
        results: _Results = {}
        await self._publish([(number, pairs[number]) for number in first.values()], results)
        return [_result(results, first[pair.execution_id, pair.drive], number) for number, pair in enumerate(pairs)]

    async def _publish(self, pairs: _Numbered, results: _Results) -> None:
        waiting = deque(_grouped(pairs))
        under_way: deque[_UnderWay] = deque()
        try:
            while waiting or under_way:
                while waiting and not (under_way and self._free.locked()):
                    await self._start(waiting.popleft(), under_way, results)
                if under_way:
                    again = await self._settle(*under_way[0], results)
                    under_way.popleft()
                    self._free.release()
                    waiting.extendleft(reversed(again))
        finally:
            for _ in under_way:
                self._free.release()

    async def _start(self, group: _Numbered, under_way: deque[_UnderWay], results: _Results) -> None:
        """Send a batch once there is room for one more: whoever else publishes counts, too."""
        await self._free.acquire()
        try:
            under_way.append((group, await self._requests.start_batch(self._messages(group))))
        except ScheddError as problem:
            self._free.release()
            _fail(group, problem, results)
        except BaseException:
            self._free.release()
            raise

    def _messages(self, group: _Numbered) -> list[Message]:
        messages: list[Message] = []
        for _, pair in group:
            claim = self._names.claim(pair.execution_id, pair.drive)
            headers = {h.EXPECTED_LAST_SUBJECT_SEQUENCE: "0", h.TTL: str(pair.claim_ttl_s)}
            messages.append(Message(claim, b"", headers))
            messages.append(Message(self._names.task(pair.queue, pair.execution_id), pair.body, pair.headers))
        return messages

    async def _settle(self, group: _Numbered, batch: PendingBatch, results: _Results) -> list[_Numbered]:
        """Note what became of a batch; returns the groups that must go again."""
        try:
            ack = await batch.result()
        except Conflict:
            return await self._after_conflict(group, results)
        except InFlight as problem:  # one of the claims: the others shall not wait for it
            if len(group) > 1:
                return _halves(group)
            _fail(group, problem, results)
        except Unsure as problem:
            await self._after_silence(group, problem, results)
        except ScheddError as problem:
            _fail(group, problem, results)
        else:
            at, first = self._clock.now(), ack.seq - 2 * (len(group) - 1)
            for place, (number, _) in enumerate(group):
                results[number] = Queued(task_seq=first + 2 * place, at=at)
        return []

    async def _after_conflict(self, group: _Numbered, results: _Results) -> list[_Numbered]:
        """Nothing of the group is stored. Without a claim to blame (it expired, or is not applied yet) it is halved."""
        try:
            claims = await self._claims_of(group)
        except ScheddError as problem:
            _fail(group, problem, results)
            return []
        left: _Numbered = []
        for (number, pair), claim in zip(group, claims, strict=True):
            if claim is None:
                left.append((number, pair))
            else:
                results[number] = _proven(claim, already=True)
        if len(left) < len(group):
            return [left] if left else []
        if len(group) == 1:
            _fail(group, Unavailable("the claim was refused, and none is there: publish the pair again"), results)
            return []
        return _halves(group)

    async def _after_silence(self, group: _Numbered, problem: Unsure, results: _Results) -> None:
        """A claim that is there proves its pair; one that is not may still be on its way."""
        try:
            claims = await self._claims_of(group)
        except ScheddError:
            claims = [None] * len(group)
        for (number, _), claim in zip(group, claims, strict=True):
            results[number] = problem if claim is None else _proven(claim)

    async def _claims_of(self, group: _Numbered) -> list[StoredMessage | None]:
        subjects = [self._names.claim(pair.execution_id, pair.drive) for _, pair in group]
        return await self._requests.stored_many(self._names.tasks, [{"last_by_subj": subject} for subject in subjects])

    # --- reading back

    async def claim_at(self, seqs: Sequence[int]) -> list[Claim | None]:
        found = await self._requests.stored_many(self._names.tasks, [{"seq": seq} for seq in seqs])
        return [None if message is None else self._read_claim(message.subject) for message in found]

    def _read_claim(self, subject: str) -> Claim | None:
        try:
            execution_id, drive = parse_claim_subject(self._names, subject)
        except InvalidArgument:
            return None
        return Claim(execution_id, drive)

    async def claimed_seq(self, execution_id: str, drive: int) -> int | None:
        query = {"last_by_subj": self._names.claim(execution_id, drive)}
        found = await self._requests.stored(self._names.tasks, query)
        return None if found is None or found.data == WITHHELD else found.seq

    async def withhold(self, execution_id: str, drive: int, ttl_s: int) -> int | None:
        subject = self._names.claim(execution_id, drive)
        headers = {h.EXPECTED_LAST_SUBJECT_SEQUENCE: "0", h.TTL: str(ttl_s)}
        try:
            await self._requests.publish(Message(subject, WITHHELD, headers))
        except (Conflict, Unsure) as problem:
            found = await self._requests.stored(self._names.tasks, {"last_by_subj": subject})
            if found is None:
                raise Unsure("whether a claim was withheld is not known") from problem
            return None if found.data == WITHHELD else found.seq
        return None

    async def tasks(self, queue: str, *, after: int, most: int) -> list[WaitingTask]:
        """One by one, since only the server knows which sequences are this queue's."""
        prefix, found = self._names.task(queue, ""), list[WaitingTask]()
        while len(found) < most:
            query = {"seq": after + 1, "next_by_subj": self._names.tasks_of(queue)}
            message = await self._requests.stored(self._names.tasks, query)
            if message is None:
                break
            found.append(WaitingTask(message.seq, message.subject.removeprefix(prefix), message.at))
            after = message.seq
        return found

    async def newest(self, queue: str) -> int:
        message = await self._requests.stored(self._names.tasks, {"last_by_subj": self._names.tasks_of(queue)})
        return 0 if message is None else message.seq

    async def present(self, task_seqs: Sequence[int]) -> list[bool]:
        found = await self._requests.stored_many(self._names.tasks, [{"seq": seq} for seq in task_seqs])
        prefix = f"{self._names.namespace}.task."
        return [message is not None and message.subject.startswith(prefix) for message in found]

    async def next_task(self, after: int) -> StoredTask | None:
        query = {"seq": after + 1, "next_by_subj": self._names.all_tasks}
        found = await self._requests.stored(self._names.tasks, query)
        return None if found is None else StoredTask(found.seq, execution_of(self._names, found.subject), found.at)

    async def begins_at(self) -> int:
        info = await self._requests.api(f"STREAM.INFO.{self._names.tasks}")
        return int(info["config"].get("first_seq", 0))

    async def remove(self, task_seq: int) -> bool:
        request = {"seq": task_seq, "no_erase": True}
        try:
            await self._requests.api(f"STREAM.MSG.DELETE.{self._names.tasks}", request)
        except NotFound:
            return False
        except Unsure:
            raise
        except ScheddError:  # beyond the stream's end the server says "stream store EOF"
            if (await self.present([task_seq]))[0]:
                raise
            return False
        return True


def _grouped(pairs: _Numbered) -> list[_Numbered]:
    """The pairs in groups that make one atomic batch each: bounded in number and in bytes."""
    groups: list[_Numbered] = []
    size = 0
    for number, pair in pairs:
        weight = len(pair.body) + _OVERHEAD_BYTES
        if not groups or len(groups[-1]) == BATCH_PAIRS or size + weight > BATCH_BYTES:
            groups.append([])
            size = 0
        groups[-1].append((number, pair))
        size += weight
    return groups


def _halves(group: _Numbered) -> list[_Numbered]:
    middle = len(group) // 2
    return [group[:middle], group[middle:]]


def _proven(claim: StoredMessage, *, already: bool = False) -> Queued | ScheddError:
    """What a claim says about its task."""
    if claim.data == WITHHELD:
        return Unavailable("its claim is withheld: somebody is ending it")
    return Queued(task_seq=claim.seq + 1, at=claim.at, already=already)


def _result(results: _Results, first: int, number: int) -> Queued | ScheddError:
    """What became of a pair; one that stood in the list before was there already when its turn came."""
    result = results[first]
    if number == first or not isinstance(result, Queued):
        return result
    return msgspec.structs.replace(result, already=True)


def _fail(group: _Numbered, problem: ScheddError, results: _Results) -> None:
    for number, _ in group:
        results[number] = problem
