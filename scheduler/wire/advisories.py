"""What the server tells about a task without being asked: ack metrics and advisories of a queue's consumer.

They name a task by its sequence only, are sent at most once, and carry no subject of it. An ack-wait redelivery tells
nothing at all; MAX_DELIVERIES comes after the last ack_wait (notes/nats.md, part 3). Schemas:
https://github.com/nats-io/jsm.go/tree/main/schema_source/jetstream
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from scheduler.core.errors import InvalidArgument
from scheduler.core.tracking import SignalKind
from scheduler.wire.instants import cut
from scheduler.wire.names import Names

KIND_OF_TYPE = {
    "io.nats.jetstream.metric.v1.consumer_ack": SignalKind.ACK,
    "io.nats.jetstream.advisory.v1.nak": SignalKind.NAK,
    "io.nats.jetstream.advisory.v1.terminated": SignalKind.TERM,
    "io.nats.jetstream.advisory.v1.max_deliver": SignalKind.MAX_DELIVERIES,
}

REMOVED_REASON = "Unacknowledged message was deleted"
"""The reason the server gives for a TERM that is our own removal of a task, and no outcome."""


class Advisory(Struct, frozen=True, kw_only=True):
    """One signal about a task. `reason` is what a worker wrote behind its TERM."""

    kind: SignalKind
    queue: str
    task_seq: int
    deliveries: int
    at: datetime
    reason: str | None = None


class _Body(Struct):
    type: str
    timestamp: Annotated[datetime, Meta(tz=True)]
    stream: str
    consumer: str
    stream_seq: Annotated[int, Meta(ge=1)]
    deliveries: Annotated[int, Meta(ge=0)] = 0
    reason: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


def decode_advisory(names: Names, body: bytes) -> Advisory:
    """The signal in an advisory about the tasks stream of this namespace. Raises InvalidArgument for any other."""
    try:
        found = _DECODER.decode(body)
    except (ValueError, RecursionError) as problem:
        raise InvalidArgument(f"advisory: {problem}") from None
    kind = KIND_OF_TYPE.get(found.type)
    if kind is None:
        raise InvalidArgument(f"advisory: {found.type!r:.80} is not one that schedd reads", field="type")
    if found.stream != names.tasks:
        raise InvalidArgument(f"advisory: it is about stream {found.stream!r:.80}, not {names.tasks}", field="stream")
    return Advisory(
        kind=kind,
        queue=found.consumer,
        task_seq=found.stream_seq,
        deliveries=found.deliveries,
        at=cut(found.timestamp),
        reason=found.reason or None,
    )
