"""The use case `worker.list`: who gives signs of life, from the rows that workers write (mechanisms.md, part 7).

A row goes when its worker stops, or some beats after it has died; plain workers, that only pull and ack, have none. A
row that makes no sense is shown by its key.
"""

from __future__ import annotations

from itertools import islice

from scheduler.core.errors import InvalidArgument
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.services.api.endpoint import answers
from scheduler.services.api.paging import Page
from scheduler.wire import api
from scheduler.wire.ids import check_queue
from scheduler.wire.instants import format_instant, format_optional
from scheduler.wire.reports import WorkerRow, decode

READ_CHUNK = 200


class Workers:
    """Reads the workers bucket."""

    def __init__(self, *, bucket: Bucket, clock: Clock) -> None:
        self._bucket, self._clock = bucket, clock

    @answers("worker.list", api.ListWorkers)
    async def list(self, request: api.ListWorkers) -> api.WorkerList:
        """Those that serve the queue, or all, by key. Raises InvalidArgument, Unsure, Unavailable."""
        queue = None if request.queue is None else check_queue(request.queue)
        page: Page[api.WorkerItem] = Page(self._clock, request.limit)
        keys = sorted(key for key in await self._bucket.keys() if request.cursor is None or key > request.cursor)
        left = iter(keys)
        while chunk := list(islice(left, READ_CHUNK)):
            for key, entry in zip(chunk, await self._bucket.get_many(chunk), strict=True):
                item = None if entry is None or entry.deleted else _item(entry)
                if item is None or (queue is not None and queue not in item.queues):
                    page.skip(key)
                elif not page.add(key, item, len(api.encode(item)) + 1):
                    return api.WorkerList(items=page.items, cursor=page.cursor)
        return api.WorkerList(items=page.items, cursor=page.cursor)


def _item(entry: Entry) -> api.WorkerItem:
    try:
        row = decode(entry.value, WorkerRow)
    except InvalidArgument:
        return api.WorkerItem(worker=entry.key, at=format_instant(entry.at))
    return api.WorkerItem(
        worker=row.worker,
        host=row.host,
        pid=row.pid,
        version=row.version,
        queues=row.queues,
        types=row.types,
        actions=row.actions,
        concurrency=row.concurrency,
        running=row.running,
        started_at=format_optional(row.started_at),
        at=format_instant(row.at or entry.at),
    )
