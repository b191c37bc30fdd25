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


class StatusRow(Struct, frozen=True, kw_only=True):
    """`active` and `waiting` are the slots: execution ids that run, or wait for a slot.

    They change by compare-and-set with each run; `last_outcome`, `previous_at` and `fires` follow lazily.
    """

    state: ScheduleState = ScheduleState.ACTIVE
    error: str | None = None
    active: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    last_outcome: str | None = None
    previous_at: datetime | None = None
    next_nominal: datetime | None = None
    late_from: datetime | None = None
    decided: datetime | None = None
    fires: int = 0
