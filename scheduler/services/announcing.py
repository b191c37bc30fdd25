"""Events of the leader: that it leads, and what each write it applies did: applied, invalid, deleted, paused, resumed.

The latter are published before the watermark says "applied", so that a successor repeats rather than forgets;
consumers tell repeats by the generation in the data.
"""

from __future__ import annotations

from typing import Any

import msgspec

from scheduler.core.model.status import ScheduleState
from scheduler.core.zones import tzdata_version
from scheduler.ports.queues import Events
from scheduler.services.schedules import Known
from scheduler.wire.instants import format_instant

SHOWN_MAX = 65_536


class Announcer:
    def __init__(self, events: Events) -> None:
        self._events = events

    async def leading(self, *, replica: str, holder: str, epoch: int) -> None:
        """Tell that a term has begun; whatever term came before is over by that."""
        await self._events.publish("leader", None, {"replica": replica, "holder": holder, "epoch": epoch})

    async def applied(self, known: Known, state_before: ScheduleState | None) -> None:
        """Tell what a write to the schedules bucket did."""
        if known.deleted:
            await self._events.publish("deleted", known.id, self._base(known))
            return
        if known.in_force is None:
            await self._events.publish("invalid", known.id, {**self._base(known), "error": known.error})
            return
        data = {**self._base(known), "definition": _document(known.raw), "calendars": 0, "tzdata": tzdata_version()}
        await self._events.publish("applied", known.id, data)
        paused = known.in_force.definition.schedule.paused
        if paused and state_before is not ScheduleState.PAUSED:
            note = known.in_force.definition.schedule.pause_note
            await self._events.publish("paused", known.id, {**self._base(known), "note": note})
        elif not paused and state_before is ScheduleState.PAUSED:
            await self._events.publish("resumed", known.id, self._base(known))

    async def invalid_key(self, key: str, revision: int) -> None:
        """A key that can be no schedule id: it has no row, only this event, a log line and a count."""
        await self._events.publish("invalid", None, {"key": key[:256], "revision": revision})

    def _base(self, known: Known) -> dict[str, Any]:
        return {"generation": known.revision, "effective_from": format_instant(known.at)}


def _document(raw: bytes) -> Any:
    if len(raw) > SHOWN_MAX * 2:
        return None
    return msgspec.Raw(raw)
