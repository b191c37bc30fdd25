"""Cron expressions for tests: compiled, and the first instants at which they fire."""

from __future__ import annotations

from datetime import UTC, datetime

from scheduler.core.model.schedule import Cron, Schedule
from scheduler.core.triggers import CompiledTrigger, compile_trigger

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


def compiled(*expressions: str, zone: str = "UTC", schedule_id: str = "s") -> CompiledTrigger:
    return compile_trigger(Schedule(id=schedule_id, queue="q", type="t", trigger=Cron(expressions), timezone=zone))


def first(trigger: CompiledTrigger, count: int, after: datetime = NEW_YEAR) -> list[str]:
    found: list[str] = []
    at = trigger.next_after(after)
    while len(found) < count and at is not None:
        found.append(f"{at:%Y-%m-%d %H:%M:%S}" + (f".{at.microsecond // 1000:03d}" if at.microsecond else ""))
        at = trigger.next_after(at)
    return found
