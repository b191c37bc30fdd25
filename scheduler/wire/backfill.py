"""A backfill as it is stored, key `backfill.<id>` of the control bucket.

What is left is written as milliseconds: the first since 1970, each other one since the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate, pairwise

import msgspec
from msgspec import Struct, field

from scheduler.core.backfilling import Backfill, BackfillState
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Overlap
from scheduler.wire.instants import (
    format_instant,
    format_optional,
    from_milliseconds,
    milliseconds,
    parse_instant,
    parse_optional,
)


class _Body(Struct, kw_only=True):
    v: int = 1
    id: str
    schedule: str
    start: str = field(name="from")
    end: str = field(name="to")
    rate: float
    overlap: Overlap | None = None
    created_at: str
    count: int
    left: list[int]
    state: BackfillState
    reason: str | None = None
    finished_at: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


def encode_backfill(backfill: Backfill) -> bytes:
    return msgspec.json.encode(
        _Body(
            id=backfill.id,
            schedule=backfill.schedule,
            start=format_instant(backfill.start),
            end=format_instant(backfill.end),
            rate=backfill.rate,
            overlap=backfill.overlap,
            created_at=format_instant(backfill.created_at),
            count=backfill.count,
            left=_steps(backfill.left),
            state=backfill.state,
            reason=backfill.reason,
            finished_at=format_optional(backfill.finished_at),
        )
    )


def _steps(instants: Sequence[datetime]) -> list[int]:
    counts = [milliseconds(at) for at in instants]
    return counts[:1] + [later - earlier for earlier, later in pairwise(counts)]


def decode_backfill(raw: bytes) -> Backfill:
    """Raises InvalidArgument for anything that schedd cannot have stored."""
    try:
        body = _DECODER.decode(raw)
        return Backfill(
            id=body.id,
            schedule=body.schedule,
            start=parse_instant(body.start),
            end=parse_instant(body.end),
            rate=body.rate,
            overlap=body.overlap,
            created_at=parse_instant(body.created_at),
            count=body.count,
            left=tuple(from_milliseconds(count) for count in accumulate(body.left)),
            state=body.state,
            reason=body.reason,
            finished_at=parse_optional(body.finished_at),
        )
    except (ValueError, RecursionError, OverflowError) as problem:
        raise InvalidArgument(f"this is no backfill: {problem}") from None
