"""Queues from Python: `client.queues`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from scheduler.client.calls import LONG, ONCE, REPEATED, Calls
from scheduler.client.requests import PAGE, Definition, Instant, instant_text, named_queue, put_queue_request
from scheduler.wire import api


class Queues:
    """What can be done with queues."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def put(self, queue: str, settings: Definition | None = None) -> api.QueueItem:
        """Change these settings and keep the others; make the queue if there is none. None is the default again.

        Raises InvalidArgument that names the setting.
        """
        return await self._calls.call("queue.put", put_queue_request(queue, settings or {}), api.QueueItem, REPEATED)

    async def pause(self, queue: str, *, note: str | None = None, until: Instant | None = None) -> api.QueueItem:
        """Deliver nothing from now on, until `until` if it is given; what is delivered goes on. Raises NotFound."""
        await self.get(queue)
        return await self.put(
            queue, {"paused": True, "pause_note": note, "paused_until": instant_text(until, "paused_until")}
        )

    async def resume(self, queue: str) -> api.QueueItem:
        """Deliver again. Raises NotFound."""
        await self.get(queue)
        return await self.put(queue, {"paused": False})

    async def get(self, queue: str) -> api.QueueItem:
        """Raises NotFound."""
        return await self._calls.call("queue.get", named_queue(queue), api.QueueItem)

    async def list(self, *, prefix: str | None = None) -> AsyncIterator[api.QueueItem]:
        """All queues, by name, page after page."""
        async for item in self._calls.pages("queue.list", api.ListQueues(prefix=prefix, limit=PAGE)):
            yield api.decode_reply(bytes(item), api.QueueItem)

    async def delete(self, queue: str) -> api.Revision:
        """Raises NotFound, Conflict while schedules use it or tasks are in it."""
        return await self._calls.call("queue.delete", named_queue(queue), api.Revision, ONCE)

    async def purge(self, queue: str, *, dry_run: bool = False) -> api.PurgeReply:
        """End the executions that wait in it, some thousands at once; `remaining` is what is left. Raises NotFound."""
        return api.decode_reply(await self.purge_body(queue, dry_run=dry_run), api.PurgeReply)

    async def purge_body(self, queue: str, *, dry_run: bool = False) -> bytes:
        """The reply of `queue.purge` as it came."""
        request = api.PurgeQueue(id=named_queue(queue).id, dry_run=dry_run)
        return await self._calls.fetch("queue.purge", request, LONG)
