"""A queue of tasks as plain nats-py has it, and what is on record of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from nats.js.api import AckPolicy, ConsumerConfig

from tests.acceptance.harness import TERMINAL, Site, eventually

SECOND = timedelta(seconds=1)
HAND: dict[str, Any] = {"manual": True, "type": "t", "overlap": "allow"}


class Queue:
    """A queue bound by plain nats-py."""

    def __init__(self, site: Site, subscription: Any) -> None:
        self.site, self._subscription = site, subscription

    async def next(self, wait_s: float = 5) -> Any:
        """The next delivery."""
        [message] = await self._subscription.fetch(1, timeout=wait_s)
        return message

    async def trigger(self, id_: str, **more: Any) -> str:
        reply = await self.site.request("schedule.trigger", {"id": id_, **more})
        assert reply.get("state") == "queued", reply
        return str(reply["execution_id"])


@asynccontextmanager
async def queue_of(site: Site, name: str, **config: Any) -> AsyncIterator[Queue]:
    """The queue's consumer, made beforehand with what a test wants otherwise: ack_wait (s), max_deliver."""
    wanted = {"ack_wait": 30, "max_deliver": 20, **config}
    await site.js.add_consumer(
        "SCHEDD_TASKS",
        ConsumerConfig(
            durable_name=name, filter_subject=f"schedd.task.{name}.>", ack_policy=AckPolicy.EXPLICIT,
            sample_freq="100", **wanted,
        ),
    )  # fmt: skip
    subscription = await site.js.pull_subscribe_bind(name, stream="SCHEDD_TASKS")
    try:
        yield Queue(site, subscription)
    finally:
        await subscription.unsubscribe()


async def put(site: Site, id_: str, schedule: dict[str, Any]) -> int:
    """By the API, so that it is applied when this returns; the revision."""
    reply = await site.request("schedule.put", {"id": id_, "schedule": schedule})
    assert "revision" in reply, reply
    return int(reply["revision"])


async def record_of(site: Site, id_: str, *states: str, within_s: float = 10) -> dict[str, Any]:
    """The record once it is in one of these states; in any terminal one, if none is named."""

    async def there() -> dict[str, Any] | None:
        found = await site.value("schedd-executions", id_)
        return found if found and found["state"] in (states or TERMINAL) else None

    return await eventually(there, within_s=within_s, what=f"{id_} to be {states or 'over'}")


async def left(site: Site, execution: str) -> int:
    """How many tasks of it are in the stream."""
    return await site.stored_count("SCHEDD_TASKS", f"schedd.task.*.{execution}")
