"""Events of the leader: that it leads, and what each write it applies did: applied, invalid, deleted, paused, resumed.

The latter are published before the watermark says "applied", so that a successor repeats rather than forgets;
consumers tell repeats by the generation in the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from scheduler.core.model.status import ScheduleState
from scheduler.core.zones import tzdata_version
from scheduler.ports.queues import Events
from scheduler.services.schedules import Known
from scheduler.wire.instants import format_instant

SHOWN_MAX = 131_072  # bytes of a definition in an event

Told = tuple[str, dict[str, Any]]
"""Kind and data of an event about one schedule."""


class Announcer:
    """Publishes, on behalf of whoever leads."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def leading(self, *, replica: str, holder: str, epoch: int) -> None:
        """Tell that a term has begun; whatever term came before is over by that."""
        await self._events.publish("leader", None, {"replica": replica, "holder": holder, "epoch": epoch})

    async def tell(self, known: Known, told: Told) -> None:
        kind, data = told
        await self._events.publish(kind, known.id, data)

    async def invalid_key(self, key: str, revision: int) -> None:
        """A key that can be no schedule id: it has no row, only this event, a log line and a count."""
        await self._events.publish("invalid", None, {"key": key[:256], "revision": revision})


def told_of(known: Known, before: ScheduleState | None, after: ScheduleState) -> Iterator[Told]:
    """What there is to tell of a write to the schedules bucket. `before`: the state in its row, None without one."""
    if known.deleted:
        yield "deleted", _base(known)
        return
    if known.in_force is None:
        yield "invalid", {**_base(known), "error": known.error}
        return
    yield (
        "applied",
        {**_base(known), "definition": _document(known.raw), "calendars": 0, "tzdata": tzdata_version()},
    )
    if after is ScheduleState.PAUSED and before is not ScheduleState.PAUSED:
        yield "paused", {**_base(known), "note": known.in_force.definition.schedule.pause_note}
    elif before is ScheduleState.PAUSED and after is not ScheduleState.PAUSED:
        yield resumed(known)


def resumed(known: Known) -> Told:
    """A pause is over, taken back or run out."""
    return "resumed", _base(known)


def _base(known: Known) -> dict[str, Any]:
    return {"generation": known.revision, "effective_from": format_instant(known.at)}


def _document(raw: bytes) -> Any:
    if len(raw) > SHOWN_MAX:
        return None
    return msgspec.Raw(raw)
