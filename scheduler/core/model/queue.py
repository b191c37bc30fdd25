"""What a queue is set to. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct


class Pause(Struct, frozen=True):
    """Nothing is delivered. `until` None: until somebody resumes it."""

    until: datetime | None = None
    note: str | None = None

    def is_over(self, now: datetime) -> bool:
        return self.until is not None and self.until <= now


class QueueSettings(Struct, frozen=True, kw_only=True):
    """All of one queue. Numbers that an operator gave its consumer may be -1: no limit.

    `max_pending` None: the daemon's own default. `backoff`: how long the server waits for an acknowledgement of the
    first, second ... delivery, the last entry for all further ones; where it is given, its first entry is `ack_wait`.
    """

    ack_wait: timedelta = timedelta(seconds=30)
    max_deliver: int = 20
    max_ack_pending: int = 1000
    max_pending: int | None = None
    backoff: tuple[timedelta, ...] = ()
    pause: Pause | None = None


class QueueEdit(Struct, frozen=True):
    """Settings as somebody edited them; `number` counts the edits of a queue, from 1. 0: nobody has, it was made."""

    settings: QueueSettings
    number: int = 0
