"""Raises the sequences of a stream that lost its end, without taking anything out of it.

Sequences are fencing tokens, generations and revisions here, so none may be given twice. NATS has no request for it (a
purge up to a sequence empties the stream), therefore as many messages are written as are missing, on a subject of their
own where each replaces or soon removes the one before it, and which every reader passes over.
"""

from __future__ import annotations

from contextlib import suppress

from scheduler.core.errors import ScheddError
from scheduler.jetstream.errors import NoConsumer
from scheduler.jetstream.requests import Message, Requests
from scheduler.jetstream.timeline import deliver_from
from scheduler.wire import headers as h
from scheduler.wire.ids import format_nominal
from scheduler.wire.instants import EPOCH
from scheduler.wire.keys import CUT_KEY
from scheduler.wire.names import Names

BATCH = 1000
_SOON = "1"  # seconds until such a message is gone


async def raise_above(requests: Requests, names: Names, stream: str, above: int) -> int:
    """Write until the newest message of the stream has a higher sequence; how many that took.

    0 for streams whose sequences nobody relies on beyond a moment. Raises Unsure, Unavailable: go on later.
    """
    message = _filler(names, stream)
    if message is None:
        return 0
    if stream == names.timeline:
        with suppress(NoConsumer):  # the dispatcher's believes to have delivered what comes now
            await deliver_from(requests, names, 1)
    count = 0
    while (missing := above + 1 - await _last(requests, stream)) > 0:
        acks = await requests.publish_many([_copy(message) for _ in range(min(BATCH, missing))])
        for ack in acks:
            if isinstance(ack, ScheddError):
                raise ack
        count += len(acks)
    return count


async def _last(requests: Requests, stream: str) -> int:
    info = await requests.api(f"STREAM.INFO.{stream}")
    return int(info["state"].get("last_seq", 0))


def _filler(names: Names, stream: str) -> Message | None:
    """A deletion of nothing, a disarm of nothing, or a claim of nothing."""
    buckets = {f"KV_{bucket}": bucket for bucket in (names.schedules, names.calendars, names.executions, names.status)}
    if stream in buckets:
        return Message(f"$KV.{buckets[stream]}.{CUT_KEY}", b"", {h.KV_OPERATION: "DEL"})
    if stream == names.timeline:
        subject = f"{names.namespace}.arm.{CUT_KEY}.{format_nominal(EPOCH)}"
        return Message(subject, b"", {h.ROLLUP: "sub", h.TTL: _SOON})
    if stream == names.tasks:
        return Message(f"{names.namespace}.claim.{CUT_KEY}.0", b"", {h.TTL: _SOON})
    return None


def _copy(message: Message) -> Message:
    """nats-py changes the headers that it is given."""
    return Message(message.subject, message.payload, dict(message.headers or {}))
