"""The occurrence: one planned firing of one schedule."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Occurrence(Struct, frozen=True):
    """`nominal_at` is what the trigger says, `fire_at` when the server shall fire it; both aware UTC milliseconds.

    `generation` is the revision of the definition that it was planned from.
    """

    schedule_id: str
    nominal_at: datetime
    fire_at: datetime
    generation: int
