"""What the reply subject of a delivered message tells: `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>…` (ADR-15)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from nats.aio.client import Client as NatsClient

from scheduler.core.errors import Internal
from scheduler.jetstream.errors import from_exception
from scheduler.wire.instants import from_milliseconds

ACK = b""  # an empty body is +ACK
WORKING = b"+WPI"
_NS_PER_MS = 1_000_000


class Delivery(NamedTuple):
    """`delivered` counts from 1; `seq` is the message's in its stream, `at` the server's timestamp of it.

    `consumer_seq` counts what this consumer was sent, without gaps; `pending` is what it still had to send.
    """

    delivered: int
    seq: int
    at: datetime
    consumer_seq: int
    pending: int


def read_reply(reply: str) -> Delivery:
    """Both forms: 9 tokens, and 11 or more where domain and account come first. Raises Internal for anything else."""
    tokens = reply.split(".")
    first = 4 if len(tokens) == 9 else 6
    try:
        delivered, seq, consumer_seq, timestamp_ns, pending = map(int, tokens[first : first + 5])
    except ValueError:
        raise Internal(f"{reply!r:.120} is not the reply subject of a delivered message") from None
    return Delivery(delivered, seq, from_milliseconds(timestamp_ns // _NS_PER_MS), consumer_seq, pending)


async def answer(client: NatsClient, tokens: Sequence[str], body: bytes) -> None:
    """The same answer to many deliveries, unconfirmed. Raises Unavailable when not connected."""
    try:
        for token in tokens:
            await client.publish(token, body)
    except Exception as problem:
        raise from_exception(problem, "acknowledging") from None
