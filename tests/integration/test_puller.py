"""What a puller holds when it is closed."""

from __future__ import annotations

import asyncio

from scheduler.jetstream.delivery import read_reply
from scheduler.jetstream.pulling import Puller
from scheduler.jetstream.requests import Message, Requests


async def test_closing_hands_back(requests: Requests) -> None:
    """Messages fetched ahead go to somebody else at once when their puller closes, not after the ack wait."""
    await requests.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "retention": "workqueue"})
    config = {"durable_name": "c", "ack_policy": "explicit", "deliver_policy": "all", "ack_wait": 60_000_000_000}
    await requests.api("CONSUMER.CREATE.S.c", {"stream_name": "S", "config": config})
    await requests.publish_many([Message(f"s.{number}") for number in range(10)])
    closing, other = Puller(requests.client, "S", "c"), Puller(requests.client, "S", "c")
    await closing.open()
    taken = await closing.pull(5, 1.0)
    assert [message.subject for message in taken] == [f"s.{number}" for number in range(5)]
    for message in taken:
        await requests.client.publish(message.reply, b"+ACK")
    await asyncio.sleep(0.2)  # the next five arrive, and nobody takes them
    await closing.close()
    await closing.close()
    await other.open()
    found = await other.pull(10, 2.0)
    assert sorted(message.subject for message in found) == [f"s.{number}" for number in range(5, 10)]
    assert {read_reply(message.reply).delivered for message in found} == {2}
    await other.close()
