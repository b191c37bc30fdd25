"""The status row: what the daemon keeps about one schedule, beside its definition (contract, part 6)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class ScheduleState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    INVALID = "invalid"
    EXHAUSTED = "exhausted"


class Chain(Struct, frozen=True, kw_only=True):
    """Of a schedule with a fixed delay (`after`): the one occurrence that is to come, or runs. See `core.chain`.

    `counts_from` is the end of the last run (its verdict, if it did not run), or the beginning of the chain if none
    has been yet (`is_first`). `target` is what the definition makes of that, and `nominal` the same but never before
    the definition took effect; both None: nothing is to come. `started_at`: when it was dispatched.
    """

    counts_from: datetime
    is_first: bool = False
    target: datetime | None = None
    nominal: datetime | None = None
    started_at: datetime | None = None


class Deciding(Struct, frozen=True):
    """A catch-up: the late nominal times from `first` to `last` (both inclusive), as things stood at `at`.

    `generation`: of the definition that it was fixed for.
    """

    first: datetime
    last: datetime
    at: datetime
    generation: int = 0


class StatusRow(Struct, frozen=True, kw_only=True):
    """`active` and `waiting` are the slots: execution ids that run, or wait for a slot.

    They change by compare-and-set with each run; `last_outcome`, `previous_at` and `fires` follow lazily.
    `late_from` is the oldest nominal time that somebody found late and left to the leader, `late_until` the newest;
    `deciding` the catch-up that the leader has fixed and is carrying out; from `decided_from` to `decided` the last one
    was carried out. `drives`: of those in the slots that were retried, in which drive they hold theirs.
    """

    state: ScheduleState = ScheduleState.ACTIVE
    error: str | None = None
    active: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    last_outcome: str | None = None
    previous_at: datetime | None = None
    next_nominal: datetime | None = None
    late_from: datetime | None = None
    late_until: datetime | None = None
    deciding: Deciding | None = None
    decided_from: datetime | None = None
    decided: datetime | None = None
    fires: int = 0
    drives: dict[str, int] = {}
    chain: Chain | None = None
