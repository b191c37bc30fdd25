"""The status row and the lease as JSON (contract, part 6)."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from scheduler.core.errors import InvalidArgument
from scheduler.core.leadership import LeaseRecord
from scheduler.core.model.status import Chain, Deciding, ScheduleState, StatusRow
from scheduler.wire.instants import format_instant, format_optional, parse_instant, parse_optional


class _Chain(Struct, kw_only=True):
    counts_from: str
    is_first: bool = False
    target: str | None = None
    nominal: str | None = None
    started_at: str | None = None


class _Deciding(Struct):
    first: str
    last: str
    at: str
    generation: int = 0


class _Row(Struct, kw_only=True):
    state: ScheduleState = ScheduleState.ACTIVE
    error: str | None = None
    active: list[str] = []
    waiting: list[str] = []
    last_outcome: str | None = None
    previous_at: str | None = None
    next_nominal: str | None = None
    late_from: str | None = None
    late_until: str | UnsetType | None = UNSET  # only beside `late_from`
    deciding: _Deciding | UnsetType | None = UNSET  # these two are there only once there was a catch-up
    decided_from: str | UnsetType | None = UNSET
    decided: str | None = None
    fires: int = 0
    drives: dict[str, int] | UnsetType = UNSET  # only while one that was retried is in the slots
    chain: _Chain | UnsetType = UNSET  # only of schedules with `after`


class _Lease(Struct):
    holder: str = ""
    nonce: str = ""
    replica: str = ""
    version: str = ""
    lease_s: float = 0.0
    since: str = "1970-01-01T00:00:00Z"


_ROW, _LEASE = msgspec.json.Decoder(_Row), msgspec.json.Decoder(_Lease)


def encode_status(row: StatusRow) -> bytes:
    return msgspec.json.encode(
        _Row(
            state=row.state,
            error=row.error,
            active=list(row.active),
            waiting=list(row.waiting),
            last_outcome=row.last_outcome,
            previous_at=format_optional(row.previous_at),
            next_nominal=format_optional(row.next_nominal),
            late_from=format_optional(row.late_from),
            late_until=format_optional(row.late_until) or UNSET,
            deciding=_format_deciding(row.deciding),
            decided_from=format_optional(row.decided_from) or UNSET,
            decided=format_optional(row.decided),
            fires=row.fires,
            drives=row.drives or UNSET,
            chain=UNSET if row.chain is None else _encoded(row.chain),
        )
    )


def _encoded(chain: Chain) -> _Chain:
    return _Chain(
        counts_from=format_instant(chain.counts_from),
        is_first=chain.is_first,
        target=format_optional(chain.target),
        nominal=format_optional(chain.nominal),
        started_at=format_optional(chain.started_at),
    )


def _decoded(chain: _Chain) -> Chain:
    return Chain(
        counts_from=parse_instant(chain.counts_from),
        is_first=chain.is_first,
        target=parse_optional(chain.target),
        nominal=parse_optional(chain.nominal),
        started_at=parse_optional(chain.started_at),
    )


def decode_status(raw: bytes) -> StatusRow:
    """The row; a missing or unreadable one is an empty one, for it is ours to rebuild."""
    try:
        row = _ROW.decode(raw)
        return StatusRow(
            state=row.state,
            error=row.error,
            active=tuple(row.active),
            waiting=tuple(row.waiting),
            last_outcome=row.last_outcome,
            previous_at=parse_optional(row.previous_at),
            next_nominal=parse_optional(row.next_nominal),
            late_from=parse_optional(row.late_from),
            late_until=parse_optional(row.late_until or None),
            deciding=_parse_deciding(row.deciding),
            decided_from=parse_optional(row.decided_from or None),
            decided=parse_optional(row.decided),
            fires=row.fires,
            drives=row.drives or {},
            chain=None if row.chain is UNSET else _decoded(row.chain),
        )
    except (ValueError, RecursionError, InvalidArgument):
        return StatusRow()


def _format_deciding(span: Deciding | None) -> _Deciding | UnsetType:
    if span is None:
        return UNSET
    return _Deciding(format_instant(span.first), format_instant(span.last), format_instant(span.at), span.generation)


def _parse_deciding(span: _Deciding | UnsetType | None) -> Deciding | None:
    if not span:
        return None
    return Deciding(parse_instant(span.first), parse_instant(span.last), parse_instant(span.at), span.generation)


def encode_lease(lease: LeaseRecord) -> bytes:
    return msgspec.json.encode(
        _Lease(lease.holder, lease.nonce, lease.replica, lease.version, lease.lease_s, format_instant(lease.since))
    )


def decode_lease(raw: bytes) -> LeaseRecord:
    """The lease; an unreadable one reads as released, so that a foreign value cannot block the election for ever."""
    try:
        lease = _LEASE.decode(raw)
        since = parse_instant(lease.since)
    except (ValueError, RecursionError, InvalidArgument):
        lease, since = _Lease(), parse_instant("1970-01-01T00:00:00Z")
    return LeaseRecord(lease.holder, lease.nonce, lease.replica, lease.version, lease.lease_s, since)
