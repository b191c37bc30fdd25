"""Recurrence rules for tests: compiled, and the walls at which they fire."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from scheduler.core.model.schedule import Dst, RRule, Schedule
from scheduler.core.triggers import FIRST, CompiledTrigger, compile_trigger


def compiled(
    *rules: str,
    anchor: datetime | None = None,
    timezone: str = "UTC",
    dst: Dst = Dst(),  # noqa: B008 - frozen
) -> CompiledTrigger:
    return compile_trigger(
        Schedule(id="s", queue="q", type="t", trigger=RRule(rules, anchor), timezone=timezone, dst=dst)
    )


def walls(trigger: CompiledTrigger, count: int, zone: ZoneInfo, after: datetime = FIRST) -> list[datetime]:
    found, cursor = [], trigger.next_after(after)
    while cursor is not None and len(found) < count:
        found.append(cursor.astimezone(zone).replace(tzinfo=None))
        cursor = trigger.next_after(cursor)
    return found
