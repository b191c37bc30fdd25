"""Consumers that are made to read once, keep nothing, and go by themselves where we cannot remove them."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.msg import Msg

from scheduler.core.errors import ScheddError
from scheduler.jetstream.delivery import read_reply
from scheduler.jetstream.pulling import Puller
from scheduler.jetstream.requests import Requests, StoredMessage

BULK = 500  # messages asked for at once
PATIENCE_S = 2.0  # for the first of them
CREATE_S = 3.0  # longer only when the server that got it hangs: the next attempt may get another one
FORGET_S = 10.0  # after which the server removes a consumer that we could not
_NS = 1_000_000_000


@asynccontextmanager
async def passing(requests: Requests, stream: str, label: str, after: int, **more: Any) -> AsyncIterator[Puller]:
    """A puller of each message behind `after`; `more` narrows them (`filter_subject`). Raises Unavailable."""
    name = f"{label}-{secrets.token_hex(6)}"
    await create_ephemeral(requests, stream, name, after, {"inactive_threshold": int(FORGET_S * _NS), **more})
    puller = Puller(requests.client, stream, name)
    try:
        await puller.open()
        yield puller
    finally:
        await puller.close()
        await forget_ephemeral(requests, stream, name)


async def create_ephemeral(
    requests: Requests, stream: str, name: str, after: int, more: dict[str, Any]
) -> dict[str, Any]:
    """Create a consumer that delivers each message behind `after` once and keeps nothing. Raises Unavailable."""
    config = {
        "name": name,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": after + 1,
        "ack_policy": "none",
        "replay_policy": "instant",
        "mem_storage": True,
        "num_replicas": 1,
        **more,
    }
    request = {"stream_name": stream, "action": "create", "config": config}
    return await requests.api(f"CONSUMER.CREATE.{stream}.{name}", request, timeout_s=CREATE_S)


async def forget_ephemeral(requests: Requests, stream: str, name: str) -> None:
    """Delete it if the server still has it and can be asked; otherwise it goes by itself, being inactive."""
    with contextlib.suppress(ScheddError):
        await requests.api(f"CONSUMER.DELETE.{stream}.{name}", timeout_s=1.0)


def stored_message(message: Msg) -> StoredMessage:
    """A delivered message in the shape of one that was read."""
    delivery = read_reply(message.reply)
    return StoredMessage(message.subject, delivery.seq, message.data, message.headers or {}, delivery.at)
