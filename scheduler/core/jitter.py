"""Jitter: a delay hashed from schedule and nominal time, so that a thousand schedules of one minute spread over it.

The same instant whoever computes it, leader or successor, planner or dispatcher, today or after an upgrade: the hash is
frozen, and a golden test holds it. A delay never reaches the next nominal time, so occurrences keep their order.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.model.schedule import EPOCH

_MILLISECOND: Final = timedelta(milliseconds=1)


def jitter_of(schedule_id: str, nominal: datetime, most: timedelta, following: datetime | None) -> timedelta:
    """Evenly spread over [0, min(most, following - nominal)), whole milliseconds; `following`: the next nominal time.

    The hash says how far along that span, so an edit of `most` stretches the delays and does not shuffle them.
    """
    span = most if following is None else min(most, following - nominal)
    digest = hashlib.blake2b(f"{schedule_id}\0jitter\0{(nominal - EPOCH) // _MILLISECOND}".encode(), digest_size=8)
    return (int.from_bytes(digest.digest(), "big") * (span // _MILLISECOND) >> 64) * _MILLISECOND
