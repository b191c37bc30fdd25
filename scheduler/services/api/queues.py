"""Use cases of queues: put, get, list, delete, purge. What is answered with success holds at the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from scheduler.core.errors import Conflict, InvalidArgument, NotFound
from scheduler.ports.clock import Clock
from scheduler.ports.queues import QueueState, TaskQueues
from scheduler.services.api.endpoint import answers
from scheduler.services.api.paging import BYTES_MAX, Page
from scheduler.services.purging import Purger
from scheduler.services.queue_uses import users_by_queue
from scheduler.services.queues import QueueKeeper
from scheduler.services.schedules import ScheduleCache
from scheduler.wire import api
from scheduler.wire.ids import check_queue
from scheduler.wire.queue import encode_document, parse_changes

QUEUES_MAX = 1000
USERS_SHOWN = 100
USERS_NAMED = 5  # in a sentence


class Queues:
    """A queue is there as soon as a schedule names it, or somebody puts it."""

    def __init__(
        self, *, keeper: QueueKeeper, queues: TaskQueues, purger: Purger, schedules: ScheduleCache, clock: Clock
    ) -> None:
        self._keeper, self._queues, self._purger = keeper, queues, purger
        self._schedules, self._clock = schedules, clock

    @answers("queue.put", api.PutQueue)
    async def put(self, request: api.PutQueue) -> api.QueueItem:
        """Change what is given, keep the rest, make the queue if there is none.

        Raises InvalidArgument (the field), Conflict, Unavailable.
        """
        queue, changes = check_queue(request.id, field="id"), parse_changes(bytes(request.queue))
        await self._check_room(queue)
        await self._keeper.change(queue, changes)
        return await self.get(api.Id(id=queue))

    async def _check_room(self, queue: str) -> None:
        if await self._queues.queue(queue) is None and len(await self._queues.queues()) >= QUEUES_MAX:
            raise InvalidArgument(f"there are {QUEUES_MAX} queues already: delete one first", field="id")

    @answers("queue.get", api.Id)
    async def get(self, request: api.Id) -> api.QueueItem:
        """Raises NotFound, Unavailable."""
        queue = check_queue(request.id, field="id")
        await self._schedules.fresh()
        state = await self._queues.queue(queue)
        if state is None:
            raise NotFound(f"there is no queue {queue!r}", field="id")
        (since,) = await self._queues.waiting_since([state])
        return self._item(state, since, users_by_queue(self._schedules))

    @answers("queue.list", api.ListQueues)
    async def list(self, request: api.ListQueues) -> api.QueueList:
        """By name. Raises Unavailable."""
        await self._schedules.fresh()
        found = sorted(await self._queues.queues(), key=lambda state: state.queue)
        prefix, cursor = request.prefix or "", request.cursor or ""
        states = [state for state in found if state.queue.startswith(prefix) and state.queue > cursor]
        shown = states[: request.limit + 1]
        users = users_by_queue(self._schedules)
        page: Page[api.QueueItem] = Page(self._clock, request.limit, BYTES_MAX)
        for state, since in zip(shown, await self._queues.waiting_since(shown), strict=True):
            item = self._item(state, since, users)
            if not page.add(state.queue, item, len(api.encode(item)) + 1):
                break
        return api.QueueList(items=page.items, cursor=page.cursor)

    def _item(self, state: QueueState, since: datetime | None, users: Mapping[str, Sequence[str]]) -> api.QueueItem:
        age_s = None if since is None else round(max(0.0, (self._clock.now() - since).total_seconds()), 3)
        return api.QueueItem(
            id=state.queue,
            queue=encode_document(state.settings, self._keeper.max_pending(state.settings)),
            status=api.QueueStatus(
                pending=state.pending,
                ack_pending=state.ack_pending,
                oldest_s=age_s,
                paused=state.settings.pause is not None,
                schedules=list(users.get(state.queue, ()))[:USERS_SHOWN],
            ),
        )

    @answers("queue.delete", api.Id)
    async def delete(self, request: api.Id) -> api.Revision:
        """Raises NotFound, Conflict (schedules use it, or it holds tasks), Unavailable."""
        queue = check_queue(request.id, field="id")
        await self._check_unused(queue)
        revision = await self._keeper.delete(queue, _check_empty)
        await self._schedules.fresh()
        if queue in users_by_queue(self._schedules):  # put in this very moment: its consumer may be gone again
            await self._keeper.ensure(queue)
            raise Conflict(f"queue {queue!r} was put to use meanwhile, and stays", field="id")
        return api.Revision(id=queue, revision=revision)

    async def _check_unused(self, queue: str) -> None:
        await self._schedules.fresh()
        users = users_by_queue(self._schedules).get(queue)
        if users:
            raise Conflict(f"queue {queue!r} is used by {_listed(users)}: change or delete them first", field="id")

    @answers("queue.purge", api.PurgeQueue)
    async def purge(self, request: api.PurgeQueue) -> api.PurgeReply:
        """End what waits in it, some thousands a call; `remaining` says whether to call again. Raises NotFound,
        Unsure, Unavailable."""
        queue = check_queue(request.id, field="id")
        found = await (self._purger.count(queue) if request.dry_run else self._purger.purge(queue))
        return api.PurgeReply(
            id=queue, purged=found.count, running=found.running, remaining=found.remaining, dry_run=request.dry_run
        )


def _check_empty(state: QueueState | None) -> None:
    if state is not None and state.holds:
        tasks = "1 task" if state.holds == 1 else f"{state.holds} tasks"
        text = f"queue {state.queue!r} holds {tasks}: purge it first, and let what runs end"
        raise Conflict(text, field="id")


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - USERS_NAMED} more" if len(ids) > USERS_NAMED else ""
    return ", ".join(ids[:USERS_NAMED]) + more
