"""What a worker decides about attempts. Pure: the reports that are on record, the delivery and `now` come in.

Mechanisms, part 7. The rules, and what each is for:

- An attempt is a `started` report, not a delivery: a task that was delivered and not started costs no try.
- The next attempt starts only after the previous one's `finished`, or a whole ack wait in which nobody heard of it:
  neither its claim nor the row of its worker is younger. A redelivery alone proves no silence, since somebody else may
  have handed the task back, and a consumer that was made anew counts deliveries from 1 again.
- With the tries used up the task is buried: the lost attempt gets its final report from whoever finds it, and nothing
  starts. So `max_tries: 1` is at most once, whatever dies.
- An attempt that the daemon took (`by: daemon`) is never followed by one of ours: the daemon is removing the task.
- A retry that the queue would not deliver any more (`max_deliver`) is no retry: the failure is final then.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Raw, Struct

from scheduler.core.ending import DEADLINE
from scheduler.core.model.execution import Failure
from scheduler.core.model.schedule import Backoff
from scheduler.wire.reports import BY_DAEMON, NO_RESULT, Finished, Outcome, WorkerRow, clip_failure

MAX_TRIES_DEFAULT = 3
LEAST_WAIT_S = 0.05
"""No task is handed back for less: each time costs one of the queue's deliveries."""


class Limits(Struct, frozen=True):
    """What holds for an attempt: tries of this drive, and seconds for one of them (None: no limit)."""

    max_tries: int
    timeout_s: float | None


def effective_limits(
    *,
    schedule_tries: int | None,
    schedule_timeout_s: float | None,
    own_tries: int | None,
    own_timeout_s: float | None,
    deadline: datetime | None,
    now: datetime,
) -> Limits:
    """The smaller `max_tries` and the shorter `timeout` of schedule and decorator, and never past the deadline."""
    tries = [given for given in (schedule_tries, own_tries) if given is not None]
    timeouts = [given for given in (schedule_timeout_s, own_timeout_s) if given is not None]
    if deadline is not None:
        timeouts.append(max(0.0, (deadline - now).total_seconds()))
    return Limits(min(tries, default=MAX_TRIES_DEFAULT), min(timeouts, default=None))


# --- a delivery


class Past(Struct, frozen=True, kw_only=True):
    """The newest attempt on record. `finished` is its newest report of that kind; times are the server's."""

    attempt: int
    started_at: datetime
    worker: str
    by: str | None = None
    finished: Finished | None = None
    finished_at: datetime | None = None


class Start(Struct, frozen=True):
    """Claim this attempt; who wins it runs it."""

    attempt: int


class Wait(Struct, frozen=True):
    """Hand the task back for so long: the newest attempt may be alive, or its pause is not over."""

    delay_s: float


class Done(Struct, frozen=True):
    """A final report exists: acknowledge."""


class Bury(Struct, frozen=True):
    """The newest attempt is lost and no try is left: file this final report for it, then acknowledge."""

    attempt: int
    finished: Finished


class Forfeit(Struct, frozen=True):
    """The newest attempt ended in `retry`, but this worker allows no further one (another one's limit was higher).

    Claim the next attempt and file this report instead of running it: the ended one has its report already.
    """

    attempt: int
    finished: Finished


Step = Start | Wait | Done | Bury | Forfeit


def decide_delivery(
    past: Past | None, *, attempts_before: int, max_tries: int, deliveries: int, ack_wait_s: float,
    heard_at: datetime | None, now: datetime,
) -> Step:  # fmt: skip
    """What to do with a delivered task. `heard_at`: when `past` was last heard of (see `last_heard`); `now` is the
    server's time where `past` is unfinished."""
    if past is None or past.attempt <= attempts_before:
        return Start(attempts_before + 1)
    if past.finished is not None and past.finished.is_final:
        return Done()
    if past.by == BY_DAEMON:
        return Wait(ack_wait_s)
    pause_s = _pause_left_s(past, deliveries, ack_wait_s, heard_at, now)
    if pause_s > 0:
        return Wait(pause_s)
    if past.attempt - attempts_before >= max_tries:
        return _give_up(past, max_tries, ack_wait_s, now)
    return Start(past.attempt + 1)


def last_heard(
    past: Past, execution_id: str, row: WorkerRow | None, row_at: datetime | None, back_at: datetime | None
) -> datetime:
    """When the attempt gave its last sign: its claim, or the row of its worker if that lists it.

    While NATS was away nobody could give one: silence is counted from `back_at`, when we found it again, if it was.
    """
    signs = [past.started_at]
    if row is not None and row_at is not None and row.runs(execution_id, past.attempt):
        signs.append(row_at)
    if back_at is not None:
        signs.append(back_at)
    return max(signs)


def _pause_left_s(past: Past, deliveries: int, ack_wait_s: float, heard_at: datetime | None, now: datetime) -> float:
    if past.finished is None:
        silence_s = (now - (heard_at or past.started_at)).total_seconds()
        return min(ack_wait_s, max(ack_wait_s - silence_s, LEAST_WAIT_S)) if silence_s < ack_wait_s else 0.0
    if deliveries > 1 or past.finished_at is None:
        return 0.0  # the server itself held it back
    pause_s = past.finished.retry_in_s or 0.0
    return min(pause_s, pause_s - (now - past.finished_at).total_seconds())


def _give_up(past: Past, max_tries: int, ack_wait_s: float, now: datetime) -> Bury | Forfeit:
    used = f"max_tries {max_tries} is used up"
    if past.finished is not None:
        error = past.finished.error or Failure("TriesUsedUp", used)
        return Forfeit(past.attempt + 1, Finished(outcome=Outcome.FAILED, at=now, error=error, note=f"not run: {used}"))
    text = f"worker {past.worker} started attempt {past.attempt} and was not heard of for {ack_wait_s:g} s"
    return Bury(past.attempt, Finished(outcome=Outcome.FAILED, at=now, error=Failure("WorkerLost", f"{text}; {used}")))


# --- the end of an attempt


class How(StrEnum):
    """How the function came to its end."""

    RETURNED = "returned"
    RAISED = "raised"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    GAVE_UP = "gave_up"
    """The function says that no further try would help."""
    UNUSABLE = "unusable"
    """It was never called: the payload cannot be read, and no retry would change that."""


class Ending(Struct, frozen=True, kw_only=True):
    """`retry_in_s`: the pause that the function asked for, in place of the backoff's."""

    how: How
    result: Raw = NO_RESULT
    failure: Failure | None = None
    note: str | None = None
    retry_in_s: float | None = None


class Tries(Struct, frozen=True, kw_only=True):
    """Where an attempt stands. `deliveries` and `max_deliver` are the queue's (max_deliver < 1: no limit)."""

    attempt: int
    attempts_before: int
    max_tries: int
    deliveries: int = 1
    max_deliver: int = 0

    @property
    def number(self) -> int:
        """Which try of this drive it is, from 1."""
        return self.attempt - self.attempts_before

    @property
    def refusal(self) -> str | None:
        """Why there is no further try; None if there is one."""
        if self.number >= self.max_tries:
            return f"max_tries {self.max_tries} is used up"
        if 0 < self.max_deliver <= self.deliveries:
            return f"the queue's max_deliver {self.max_deliver} is used up before max_tries {self.max_tries}"
        return None


_FINAL = {
    How.RETURNED: Outcome.SUCCEEDED,
    How.CANCELLED: Outcome.CANCELLED,
    How.GAVE_UP: Outcome.FAILED,
    How.UNUSABLE: Outcome.FAILED,
}


def decide_outcome(
    ending: Ending, tries: Tries, backoff: Backoff, *, spread: float, at: datetime, deadline: datetime | None = None
) -> Finished:
    """The report of an attempt. `spread` from 0 to 1 places the delay within the backoff's jitter.

    No retry would begin after the `deadline`: who would have to, or timed out because of it, has ended.
    """
    error = None if ending.failure is None else clip_failure(ending.failure)
    final = _FINAL.get(ending.how)
    if final is not None:
        return Finished(outcome=final, at=at, result=ending.result, error=error, note=ending.note)
    delay_s = ending.retry_in_s
    if delay_s is None:
        delay_s = 0.0 if ending.how is How.STOPPED else retry_delay_s(backoff, tries.number, spread)
    is_too_late = deadline is not None and at + timedelta(seconds=delay_s) >= deadline
    refusal = DEADLINE if is_too_late else tries.refusal
    if refusal is not None:
        outcome = Outcome.TIMED_OUT if ending.how is How.TIMED_OUT else Outcome.FAILED
        return Finished(outcome=outcome, at=at, error=error, note=refusal)
    return Finished(outcome=Outcome.RETRY, at=at, error=error, retry_in_s=delay_s, note=ending.note)


def retry_delay_s(backoff: Backoff, number: int, spread: float) -> float:
    """Seconds between try `number` and the next: initial * factor^(number-1), at most max, spread by +-jitter."""
    second = timedelta(seconds=1)
    try:
        delay_s = backoff.initial / second * backoff.factor ** (number - 1)
    except OverflowError:
        delay_s = backoff.max / second
    delay_s = min(delay_s, backoff.max / second) * (1 + backoff.jitter * (2 * spread - 1))
    return round(max(0.0, delay_s), 3)
