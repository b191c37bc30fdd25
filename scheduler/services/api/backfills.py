"""Use cases of backfills: list what would run, store it for the leader to carry out, get, list, cancel.

The list is exact: what the definition in force yields in the range, whether or not it once fired. A repeated request
with the same `backfill_id` answers with the backfill that the first one made.
"""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime, timedelta

from scheduler.core.backfilling import MAX_DEFAULT, MAX_MAX, Backfill, BackfillState, nominals_between
from scheduler.core.dispatching import InForce
from scheduler.core.errors import Conflict, InvalidArgument
from scheduler.core.triggers import FIRST
from scheduler.ports.clock import Clock
from scheduler.services.api.endpoint import answers
from scheduler.services.api.triggering import read_overlap
from scheduler.services.backfills import RUNNING_MAX, Backfills
from scheduler.services.schedules import ScheduleCache, require_valid
from scheduler.wire import api
from scheduler.wire.ids import check_backfill_id, check_schedule_id
from scheduler.wire.instants import format_instant, format_optional, parse_instant

AHEAD_MAX = timedelta(seconds=1)  # a client whose clock is a little ahead says "until now"
YIELD_EVERY = 50  # nominal times computed before other tasks get a turn


class BackfillRuns:
    """Answers requests about backfills; carrying them out is the leader's."""

    def __init__(self, *, backfills: Backfills, cache: ScheduleCache, clock: Clock) -> None:
        self._backfills, self._cache, self._clock = backfills, cache, clock

    @answers("schedule.backfill", api.BackfillSchedule)
    async def backfill(self, request: api.BackfillSchedule) -> api.BackfillReply:
        """Raises NotFound, InvalidArgument, Conflict (another backfill has the id, or too many run), Unavailable."""
        schedule_id, overlap = check_schedule_id(request.id), read_overlap(request.overlap)
        backfill_id = secrets.token_hex(4) if request.backfill_id is None else check_backfill_id(request.backfill_id)
        now = self._clock.now()
        start, end = _range(request, now)
        await self._cache.fresh()
        in_force = require_valid(self._cache.get(schedule_id), schedule_id)
        nominals = await _nominals(in_force, start, end, request.max)
        if nominals and not request.dry_run:
            await self._check_room(backfill_id)
            backfill = Backfill(
                id=backfill_id,
                schedule=schedule_id,
                start=start,
                end=end,
                rate=request.rate,
                overlap=overlap,
                created_at=now,
                count=len(nominals),
                left=tuple(nominals),
            )
            await self._backfills.create(backfill)
        return api.BackfillReply(backfill_id=backfill_id, nominals=[format_instant(at) for at in nominals])

    async def _check_room(self, backfill_id: str) -> None:
        ids = await self._backfills.ids()
        if backfill_id in ids:
            return
        kept = await self._backfills.get_many(ids)
        running = sum(each is not None and each.backfill.state is BackfillState.RUNNING for each in kept)
        if running >= RUNNING_MAX:
            raise Conflict(f"{running} backfills are under way, and no more are taken: wait for one, or cancel one")

    @answers("backfill.get", api.Id)
    async def get(self, request: api.Id) -> api.BackfillItem:
        """Raises NotFound, InvalidArgument, Unavailable."""
        return _item((await self._backfills.get(check_backfill_id(request.id, field="id"))).backfill)

    @answers("backfill.cancel", api.Id)
    async def cancel(self, request: api.Id) -> api.BackfillItem:
        """Start nothing more of it; one that is over stays as it is. Raises NotFound, InvalidArgument, Unavailable."""
        backfill_id = check_backfill_id(request.id, field="id")
        return _item(await self._backfills.cancel(backfill_id, self._clock.now()))

    @answers("backfill.list", api.ListBackfills)
    async def list(self, request: api.ListBackfills) -> api.BackfillList:
        """Newest first; there are never more than a few hundred. Raises InvalidArgument, Unavailable."""
        schedule = None if request.schedule is None else check_schedule_id(request.schedule, field="schedule")
        kept = await self._backfills.get_many(await self._backfills.ids())
        found = [each.backfill for each in kept if each is not None and schedule in {None, each.backfill.schedule}]
        found.sort(key=_position, reverse=True)
        if request.cursor is not None:
            found = [each for each in found if _cursor(each) < request.cursor]
        page = found[: request.limit]
        cursor = _cursor(page[-1]) if len(found) > len(page) else None
        return api.BackfillList(items=[_item(each) for each in page], cursor=cursor)


def _range(request: api.BackfillSchedule, now: datetime) -> tuple[datetime, datetime]:
    start, end = parse_instant(request.start, field="from"), parse_instant(request.end, field="to")
    if start < FIRST:
        raise InvalidArgument("from is outside of what schedd can count: use 1970 to now", field="from")
    if start >= end:
        raise InvalidArgument("to is not after from: the range holds the nominal times from <= t < to", field="to")
    if end > now + AHEAD_MAX:
        raise InvalidArgument("to lies in the future: what is still to come fires by itself", field="to")
    return start, end


async def _nominals(in_force: InForce, start: datetime, end: datetime, most: int | None) -> list[datetime]:
    """All in the range, or the first `most` of them. Raises InvalidArgument for very many that nobody asked for."""
    found: list[datetime] = []
    for nominal in nominals_between(in_force.trigger, start, end):
        if len(found) == (most or MAX_DEFAULT):
            if most is not None:
                break
            raise InvalidArgument(
                f"more than {MAX_DEFAULT:,} nominal times lie between from and to: narrow the range, or say with max "
                f"(up to {MAX_MAX:,}) how many of the first to run",
                field="max",
            )
        found.append(nominal)
        if len(found) % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    return found


def _position(backfill: Backfill) -> tuple[datetime, str]:
    return backfill.created_at, backfill.id


def _cursor(backfill: Backfill) -> str:
    """Sorts as its position does."""
    return f"{format_instant(backfill.created_at)}.{backfill.id}"


def _item(backfill: Backfill) -> api.BackfillItem:
    return api.BackfillItem(
        id=backfill.id,
        schedule=backfill.schedule,
        start=format_instant(backfill.start),
        end=format_instant(backfill.end),
        state=backfill.state.value,
        reason=backfill.reason,
        count=backfill.count,
        started=backfill.started,
        rate=backfill.rate,
        overlap=None if backfill.overlap is None else backfill.overlap.value,
        created_at=format_instant(backfill.created_at),
        finished_at=format_optional(backfill.finished_at),
    )
