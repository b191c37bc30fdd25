"""Use cases of custom actions: which ones the workers of this moment offer, and asking one of them to carry one out.

Nothing of it is stored: an action is there as long as a worker that offers it is. A call reaches one worker at most
once; where no answer comes, nobody can say whether it was carried out, and the error says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice

from msgspec import UNSET

from scheduler.core.errors import InvalidArgument, NotFound, PayloadTooLarge, ScheddError, Unavailable, Unsure
from scheduler.ports.actions import Actions as ActionCalls
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket
from scheduler.services.api.endpoint import answers
from scheduler.services.api.paging import Page
from scheduler.services.schedules import ScheduleCache
from scheduler.wire import api
from scheduler.wire.actions import NO_PAYLOAD, TIMEOUT_MAX_S, Answer, Call, check_action
from scheduler.wire.ids import check_schedule_id
from scheduler.wire.reports import WorkerRow, decode

READ_CHUNK = 200
_SECOND = timedelta(seconds=1)
ANSWER_S = 3.0
"""How long a worker may take for the answer itself, on top of the action's time."""
NAMED = 5


class Actions:
    """`workers` is the bucket of their rows; `calls` reaches those that listen."""

    def __init__(
        self, *, workers: Bucket, calls: ActionCalls, schedules: ScheduleCache, clock: Clock, payload_bytes_max: int
    ) -> None:
        self._workers, self._calls, self._schedules, self._clock = workers, calls, schedules, clock
        self._payload_bytes_max = payload_bytes_max

    @answers("action.list", api.ListActions)
    async def list(self, request: api.ListActions) -> api.ActionList:
        """By schedule and action. Raises InvalidArgument, Unavailable."""
        if request.schedule is not None:
            check_schedule_id(request.schedule)
        page: Page[api.ActionItem] = Page(self._clock, request.limit)
        for item in sorted(await self._offered(), key=lambda item: item.id):
            if item.id <= (request.cursor or "") or request.schedule not in {None, item.schedule}:
                continue
            if not page.add(item.id, item, len(api.encode(item)) + 1):
                break
        return api.ActionList(items=page.items, cursor=page.cursor)

    @answers("action.invoke", api.InvokeAction, within_s=TIMEOUT_MAX_S + 2 * ANSWER_S)
    async def invoke(self, request: api.InvokeAction) -> api.ActionReply:
        """Have it carried out and wait for its end. Raises InvalidArgument, NotFound (no such schedule, and no worker
        that would know it), Unavailable (no worker offers it), Unsure (no answer: it may have been carried out)."""
        schedule_id, action = check_schedule_id(request.schedule, field="schedule"), check_action(request.action)
        payload = NO_PAYLOAD if request.payload is UNSET else request.payload
        self._check_payload(bytes(payload))
        await self._check_offered(schedule_id, action)
        until = self._clock.now() + request.timeout_s * _SECOND
        call = Call(payload=payload, timeout_s=request.timeout_s, until=until)
        try:
            answer = await self._calls.call(schedule_id, action, call, request.timeout_s + ANSWER_S)
        except Unsure as problem:
            raise _nobody_knows(action, problem.message) from None
        except Unavailable as problem:
            raise Unavailable(f"{problem.message}: {_start(schedule_id, action)}") from None
        except asyncio.CancelledError:  # this replica stops
            raise _nobody_knows(action, "this replica stops") from None
        return _reply(answer)

    def _check_payload(self, payload: bytes) -> None:
        if len(payload) > self._payload_bytes_max:
            text = f"payload: {len(payload)} bytes are more than {self._payload_bytes_max}"
            raise PayloadTooLarge(text, field="payload")
        try:
            payload.decode()  # what is kept raw was not looked at
        except UnicodeDecodeError as problem:
            raise InvalidArgument(f"payload: not UTF-8: {problem}", field="payload") from None

    async def _check_offered(self, schedule_id: str, action: str) -> None:
        offered = [item for item in await self._offered() if item.schedule == schedule_id]
        if any(item.action == action for item in offered):
            return
        await self._schedules.fresh()
        known = self._schedules.get(schedule_id)
        if not offered and (known is None or known.deleted):
            raise NotFound(f"there is no schedule {schedule_id!r}", field="schedule")
        others = ", ".join(sorted(item.action for item in offered)[:NAMED])
        there = f" (there are: {others})" if others else ""
        text = f"no running worker offers action {action!r} of schedule {schedule_id!r}{there}"
        raise Unavailable(f"{text}: {_start(schedule_id, action)}")

    async def _offered(self) -> Sequence[api.ActionItem]:
        """What the rows say now; the title is the one of the youngest worker."""
        found: dict[tuple[str, str], api.ActionItem] = {}
        for row in sorted(await self._rows(), key=lambda row: (row.started_at is not None, row.started_at)):
            for offer in set(row.offers):
                item = found.get((offer.schedule, offer.action))
                found[offer.schedule, offer.action] = api.ActionItem(
                    schedule=offer.schedule,
                    action=offer.action,
                    title=offer.title or offer.action,
                    workers=1 if item is None else item.workers + 1,
                )
        return tuple(found.values())

    async def _rows(self) -> Sequence[WorkerRow]:
        """Those that can be read. Raises Unsure, Unavailable."""
        rows, left = [], iter(sorted(await self._workers.keys()))
        while chunk := list(islice(left, READ_CHUNK)):
            for entry in await self._workers.get_many(chunk):
                if entry is not None and not entry.deleted:
                    try:
                        rows.append(decode(entry.value, WorkerRow))
                    except InvalidArgument:
                        continue
        return rows


def _reply(answer: Answer) -> api.ActionReply:
    if answer.outcome == "refused":
        why = answer.error.message if answer.error else "it did not say why"
        raise Unavailable(f"worker {answer.worker} did not begin it: {why}")
    return api.ActionReply(
        outcome=answer.outcome,
        result=answer.result,
        error=answer.error,
        worker=answer.worker,
        duration_s=round(answer.duration_s, 3),
    )


def _start(schedule_id: str, action: str) -> str:
    return (
        f'start the one whose code has @worker.action("{schedule_id}", ...) for {action!r}, see `schedctl action list`'
    )


def _nobody_knows(action: str, why: str) -> ScheddError:
    return Unsure(f"{why}: action {action!r} may have been carried out, look before you repeat it")
