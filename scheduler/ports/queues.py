"""The task queues: claim pairs in, worker signals and reports out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from scheduler.core.errors import ScheddError
from scheduler.core.model.execution import Action
from scheduler.core.model.queue import QueueEdit, QueueSettings
from scheduler.wire.advisories import Advisory


class Pair(Struct, frozen=True):
    """Claim and task of one drive of one execution, published in one atomic batch."""

    execution_id: str
    drive: int
    queue: str
    body: bytes
    headers: dict[str, str]
    claim_ttl_s: int


class Queued(Struct, frozen=True):
    """The pair is in the stream. `already`: it had been there, and `task_seq` is the older one's."""

    task_seq: int
    at: datetime
    already: bool = False


class Claim(Struct, frozen=True):
    execution_id: str
    drive: int


class QueueState(Struct, frozen=True, kw_only=True):
    """One durable consumer: tasks waiting, tasks delivered and not acknowledged, and what it is set to.

    `edit`: the number of the edit that made it so, None if other hands did. `delivered_seq`: the last task that was
    delivered for the first time.
    """

    queue: str
    pending: int
    ack_pending: int
    settings: QueueSettings
    edit: int | None
    delivered_seq: int
    made_at: datetime

    @property
    def ack_wait_s(self) -> float:
        return self.settings.ack_wait.total_seconds()

    @property
    def holds(self) -> int:
        """Tasks in it, delivered or not."""
        return self.pending + self.ack_pending


class WaitingTask(Struct, frozen=True):
    """A task in a queue, there since `at`. `execution_id` is what its subject says: anybody may have put it there."""

    task_seq: int
    execution_id: str
    at: datetime


class Signal(Struct, frozen=True):
    """What the server told about a task: kind is ack, nak, term or max_deliveries."""

    kind: str
    queue: str
    task_seq: int
    deliveries: int
    at: datetime
    reason: str | None
    ack: str

    @classmethod
    def of(cls, told: Advisory, ack: str) -> Signal:
        return cls(told.kind, told.queue, told.task_seq, told.deliveries, told.at, told.reason, ack)


class ReportMessage(Struct, frozen=True):
    """One report of a worker: kind is started, progress or finished; `body` its JSON, unread."""

    queue: str
    execution_id: str
    attempt: int
    kind: str
    body: bytes
    at: datetime
    seq: int
    ack: str


class Progress(Struct, frozen=True):
    """Of a shared consumer: everything up to sequence `folded` is done with; `newest` is the last one there is."""

    folded: int
    newest: int


class Poison(Struct, frozen=True):
    """A message on the subject that cannot be read: ack it, count it."""

    subject: str
    ack: str
    problem: str


class QueueMaker(Protocol):
    """Makes queues."""

    async def ensure(self, queue: str) -> None:
        """Make the durable consumer of the queue if it is missing. Raises Unavailable."""


class StoredTask(Struct, frozen=True):
    """A task in the stream, delivered or not; `at`: since when. `execution_id` empty: it names none."""

    seq: int
    execution_id: str
    at: datetime


class TaskQueues(Protocol):
    """The tasks stream."""

    async def ensure(self, queue: str, edit: QueueEdit | None = None) -> None:
        """Make the durable consumer of the queue if it is missing, with these settings or the defaults, and paused
        from its first moment on if they say so; what is there keeps its own. Raises Unavailable."""

    async def configure(self, queue: str, edit: QueueEdit) -> None:
        """Set the consumer to this, the pause first and the edit's number last. Raises NotFound, Unavailable."""

    async def drop(self, queue: str) -> bool:
        """Delete the consumer, whatever waits; False if there was none. Raises Unavailable."""

    async def queues(self) -> list[QueueState]:
        """All queues and how full they are."""

    async def queue(self, queue: str) -> QueueState | None:
        """One of them, None if it has no consumer. Raises Unavailable."""

    async def waiting_since(self, states: Sequence[QueueState]) -> list[datetime | None]:
        """For each queue since when the oldest task that nobody was given yet has been there. Raises Unavailable."""

    async def tasks(self, queue: str, *, after: int, most: int) -> list[WaitingTask]:
        """The first `most` tasks in a queue behind that sequence, delivered or not. Raises Unavailable."""

    async def newest(self, queue: str) -> int:
        """Sequence of the newest task in a queue, 0 if there is none. Raises Unavailable."""

    async def publish(self, pairs: Sequence[Pair]) -> list[Queued | ScheddError]:
        """Publish pairs in atomic batches; one existing claim refuses its batch, which is then halved.

        For each pair, in order: `Queued`, or the error that met it (Unsure, Unavailable; also where its claim is
        withheld), never raised.
        """

    async def claim_at(self, seqs: Sequence[int]) -> list[Claim | None]:
        """The claims stored at these sequences (None: gone or not a claim), pipelined leader reads."""

    async def claimed_seq(self, execution_id: str, drive: int) -> int | None:
        """Sequence of the claim that proves a task, or None."""

    async def withhold(self, execution_id: str, drive: int, ttl_s: int) -> int | None:
        """Take the claim without a task, so that none can be published while it lives (`ttl_s`).

        None: there is no task, and there will be none. Else the sequence of the claim that proves one.
        Raises Unsure, Unavailable.
        """

    async def present(self, task_seqs: Sequence[int]) -> list[bool]:
        """Whether these tasks are still in the stream."""

    async def next_task(self, after: int) -> StoredTask | None:
        """The first task behind a sequence. Raises Unsure, Unavailable."""

    async def begins_at(self) -> int:
        """The first sequence that this stream can have given: older tasks were lost with the stream before it.

        Raises Unsure, Unavailable.
        """

    async def remove(self, task_seq: int) -> bool:
        """Delete a task; False if it was gone already."""


class Reports(Protocol):
    """The reports stream."""

    async def pull(self, batch: int, expires_s: float) -> list[ReportMessage | Poison]:
        """Up to `batch` reports for this replica to fold."""

    async def ack(self, tokens: Sequence[str]) -> None: ...

    async def last_started(self, keys: Sequence[tuple[str, str]]) -> list[ReportMessage | None]:
        """For each (queue, execution id) its newest `started` report (leader reads, pipelined)."""

    async def all_of(self, queue: str, execution_id: str) -> list[ReportMessage]:
        """Newest started and newest finished report of an execution, in stream order."""

    async def take(self, queue: str, execution_id: str, attempt: int, at: datetime) -> bool:
        """Claim an attempt for the daemon, so that no worker runs it; whether it is the daemon's, now or since before.

        Raises Unsure, Unavailable.
        """

    async def lag(self) -> int:
        """Reports not yet folded by anybody."""


class Cancels(Protocol):
    """Core messages to the workers of running executions. Nobody may be listening, and nobody answers."""

    async def send(self, queue: str, execution_id: str, action: Action, grace_s: float | None, drive: int = 0) -> None:
        """Raises Unavailable. Meant is the attempt of that drive."""


class Signals(Protocol):
    """The advisories stream."""

    async def pull(self, batch: int, expires_s: float) -> list[Signal | Poison]: ...

    async def ack(self, tokens: Sequence[str]) -> None: ...

    async def progress(self) -> Progress:
        """How far all replicas together have come, from the consumer's leader. Raises Unsure, Unavailable."""


class Fact(Struct, frozen=True):
    """An event that is evidence. `id`: the same for the same fact, so that a repeat is stored once, or told as one."""

    id: str
    kind: str
    schedule_id: str | None
    data: dict[str, object]


class Recorded(Struct, frozen=True):
    """A stored event as read back. `seq` is its place in the stream; `kind` a plain word, `at` when it was told."""

    seq: int
    id: str
    kind: str
    at: datetime
    data: dict[str, Any]


class Events(Protocol):
    """The events stream: CloudEvents."""

    async def store(self, facts: Sequence[Fact]) -> None:
        """Publish these and return once all are stored. Raises Unsure, Unavailable: then repeat with the same ids.

        InvalidArgument for what is no JSON or too large; nothing is stored then.
        """

    async def publish(
        self, kind: str, schedule_id: str | None, data: dict[str, object], *, event_id: str | None = None
    ) -> None:
        """Publish one event soon, never in the way; raises nothing, failures are counted.

        It dies with the process. What somebody else may have to repeat needs an `event_id` that says what it is about.
        """

    async def complete_since(self) -> datetime:
        """Since when nothing that was stored has been removed again, by age or by hand. Raises Unsure, Unavailable."""

    async def recorded(self, schedule_id: str, kinds: Sequence[str], *, most: int) -> list[Recorded]:
        """Every stored event of these kinds about exactly this schedule, oldest first; unreadable ones are left out.

        Includes whatever a `store` that began before this call has returned for. Raises InvalidArgument when there are
        more than `most`, Unsure, Unavailable.
        """
