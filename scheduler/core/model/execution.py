"""The execution: the record of carrying out one occurrence (contract, part 5)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct, field

from scheduler.core.model.schedule import Overlap

HISTORY_MAX = 50


class State(StrEnum):
    """What an execution can be. Which state can follow which is `core.lifecycle`."""

    CLAIMED = "claimed"
    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    SKIPPED = "skipped"
    MISSED = "missed"
    PAUSED = "paused"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


class Kind(StrEnum):
    """Why there is an execution at all."""

    AUTO = "auto"
    MANUAL = "manual"
    BACKFILL = "backfill"


class Failure(Struct, frozen=True):
    """What went wrong in an attempt, as its worker reported it."""

    type: str
    message: str
    traceback: str | None = None


class Action(StrEnum):
    """What a cancel message asks for: to end soon, with time to tidy up, or at once."""

    CANCEL = "cancel"
    TERMINATE = "terminate"


class Asked(Struct, frozen=True):
    """Somebody wants it to end. `grace_s`: how long its worker may tidy up (None: as the worker thinks fit)."""

    action: Action
    at: datetime
    reason: str
    grace_s: float | None = None


class HistoryEntry(Struct, frozen=True):
    at: datetime
    state: State
    note: str | None = None


class Execution(Struct, frozen=True, kw_only=True):
    """One execution. Frozen: every change is a new value, made by `core.lifecycle` and written by compare-and-set.

    `overlap` is the policy that this run alone was asked for. `start_by` and `end_by` are its start deadline and its
    deadline as instants; `asked` that somebody wants it to end. `promoted_at`: when it first left the buffer; from then
    on (from `claimed_at` where it never waited) its task may be in the queue.
    """

    id: str
    schedule: str
    generation: int
    epoch: int
    kind: Kind
    nominal_at: datetime
    fire_at: datetime
    queue: str
    type: str
    state: State = State.CLAIMED
    payload: bytes | None = None
    payload_is_json: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    attempt: int = 0
    max_tries: int = 3
    drive: int = 0
    attempts_before: int = 0
    worker: str | None = None
    task_seq: int | None = None
    overlap: Overlap | None = None
    start_by: datetime | None = None
    end_by: datetime | None = None
    asked: Asked | None = None
    claimed_at: datetime | None = None
    promoted_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: bytes | None = None
    error: Failure | None = None
    timeout_s: float | None = None
    retention_s: float = 7 * 86400.0
    history: tuple[HistoryEntry, ...] = ()

    @property
    def launched_from(self) -> datetime | None:
        """From when on somebody may have put its task into the queue; None while it waits."""
        if self.promoted_at is not None:
            return self.promoted_at
        return None if self.state is State.WAITING else self.claimed_at

    @property
    def duration_s(self) -> float | None:
        """Seconds from the start of the last attempt to the end; None until both are known."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())

    @property
    def lateness_s(self) -> float | None:
        """Seconds from the fire time to the dispatch, judged in server time; None until queued."""
        if self.queued_at is None:
            return None
        return (self.queued_at - self.fire_at).total_seconds()

    @property
    def verdict(self) -> str:
        """`fired` if it was ever queued, else the state it ended in."""
        return "fired" if self.queued_at is not None else str(self.state)
