"""How a stored schedule shows itself: its definition as stored, and a status computed from what is known now."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

import msgspec
from msgspec import Raw

from scheduler.core.arming import fires_left, state_of
from scheduler.core.chain import is_chained, to_come
from scheduler.core.dispatching import InForce
from scheduler.core.firing import fire_time
from scheduler.core.model.schedule import Definition, Schedule
from scheduler.core.model.status import StatusRow
from scheduler.core.previewing import preview
from scheduler.core.triggers import CompiledTrigger, Moved
from scheduler.core.triggers.excluded import LEAD
from scheduler.services.schedules import Known
from scheduler.wire import api
from scheduler.wire.instants import format_instant, format_optional

SHOWN_MAX = 262_144
"""Bytes of a stored value that are shown. More than any valid definition has by default; of a larger one, which can
only be invalid, the beginning is shown in `raw_base64`."""
CUT_TO = 65_536
NEXT_COUNT = 5
AROUND_MAX = 64  # nominal times before and after now that are looked at where occurrences move
_MILLISECOND = timedelta(milliseconds=1)


def schedule_item(known: Known, row: StatusRow, now: datetime) -> api.ScheduleItem:
    """The answer of `schedule.get`, also an item of `schedule.list`."""
    shown, raw_base64 = _shown(known)
    return api.ScheduleItem(
        id=known.id,
        revision=known.revision,
        generation=known.revision,
        schedule=shown,
        status=schedule_status(known, row, now),
        raw_base64=raw_base64,
    )


def schedule_status(known: Known, row: StatusRow, now: datetime) -> api.ScheduleStatus:
    """State, next fire and error come from the definition itself: they are right before the leader wrote the row."""
    fires = [] if known.in_force is None else next_fires(known.in_force, now, 1, row)
    return api.ScheduleStatus(
        state=state_of(known.in_force, now, row.fires).value,
        next_at=format_instant(fires[0]) if fires else None,
        previous_at=format_optional(row.previous_at),
        last_outcome=row.last_outcome,
        active=list(row.active),
        error=known.error,
    )


def next_fires(in_force: InForce, now: datetime, count: int, row: StatusRow) -> list[datetime]:
    """The next fire times from `now` on, no more than `max_fires` leaves and without those that fall in a pause; of a
    chain the one that is to come."""
    definition = in_force.definition
    left = fires_left(in_force, row.fires)
    count = count if left is None else min(count, left)
    if not count:
        return []
    if is_chained(in_force):
        occurrence = to_come(row.chain, in_force)
        return [] if occurrence is None else [occurrence.fire_at]
    if isinstance(in_force.trigger, Moved):
        return _moved_fires(definition, in_force.trigger, now)[:count]
    return _fires_after(definition.schedule, in_force.trigger, now, definition.effective_at, count)


def _moved_fires(definition: Definition, trigger: Moved, now: datetime) -> list[datetime]:
    """Fire times do not ascend with nominal ones here: those around now are sorted."""
    around: list[datetime] = []
    nominal = trigger.previous_before(now)
    while nominal is not None and len(around) < AROUND_MAX and now - nominal < LEAD:
        around.append(nominal)
        nominal = trigger.previous_before(nominal)
    nominal = trigger.next_after(now - _MILLISECOND)
    for _ in range(AROUND_MAX):
        if nominal is None:
            break
        around.append(nominal)
        nominal = trigger.next_after(nominal)
    fires = [(fire_time(definition.schedule, trigger, each), each) for each in around]
    return sorted(
        fire
        for fire, each in fires
        if fire > max(now, definition.effective_at)
        and not definition.schedule.is_paused_at(min(fire, each))
        and not trigger.is_coalesced(each)
    )


def _fires_after(
    schedule: Schedule, trigger: CompiledTrigger, now: datetime, effective_at: datetime, count: int
) -> list[datetime]:
    if schedule.paused and schedule.paused_until is None:
        return []
    after = max(_behind_fired(schedule, trigger, now), effective_at)
    if schedule.paused and schedule.paused_until is not None:
        after = max(after, schedule.paused_until - _MILLISECOND)
    fires = [fire.fire_at for fire in preview(schedule, trigger, after=after, count=count + 1)]
    return [at for at in fires if at > now][:count]


def _behind_fired(schedule: Schedule, trigger: CompiledTrigger, now: datetime) -> datetime:
    """Every nominal time up to there has fired by now; with jitter, the last one before now may be yet to come."""
    begun = now - schedule.start_delay
    last = trigger.previous_before(begun + _MILLISECOND) if schedule.jitter else None
    return begun if last is None else last - _MILLISECOND


def _shown(known: Known) -> tuple[Raw, str | None]:
    """The definition as stored if it is JSON of a bearable size; else null and its bytes."""
    if len(known.raw) > SHOWN_MAX:
        return api.NULL, base64.b64encode(known.raw[:CUT_TO]).decode()
    if known.in_force is not None or is_json(known.raw):
        return Raw(known.raw), None
    return api.NULL, base64.b64encode(known.raw).decode()


def is_json(raw: bytes) -> bool:
    """Whether it can stand in an answer as it is."""
    try:
        msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return False
    return True
