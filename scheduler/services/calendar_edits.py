"""Edits of calendars, as the planner has to see them: what was written since C, who uses it, and who is told.

They go the way of schedule edits: under the same fence, planned anew from the instant of the write on (nothing is
retroactive), and the watermark's C moves in the batch that completes them. A new leader goes on from the stored C.
"""

from __future__ import annotations

from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Watermark
from scheduler.services.announcing import Announcer
from scheduler.services.calendars import KnownCalendar
from scheduler.services.leader import Tenure
from scheduler.services.schedules import Known, ScheduleCache


class CalendarEdits:
    """For whoever leads."""

    def __init__(self, schedules: ScheduleCache, announcer: Announcer, telemetry: Telemetry) -> None:
        self._schedules, self._announcer, self._telemetry = schedules, announcer, telemetry

    def users(self, mark: Watermark) -> list[Known]:
        """The schedules that use a calendar written after C, by id. Those written after R are edits themselves."""
        found = {
            user.id: user
            for calendar in self._written(mark.calendars, self._schedules.calendars_applied)
            for user in self._schedules.users_of(calendar.name)
            if user.revision <= mark.applied
        }
        return [found[schedule_id] for schedule_id in sorted(found)]

    async def tell(self, tenure: Tenure, newest: int) -> None:
        """An event for each calendar written after C; those that cannot be read are counted. Raises Deposed."""
        for calendar in self._written(tenure.office.watermark.calendars, newest):
            tenure.check()
            await self._announcer.calendar(calendar)
            if calendar.error is not None:
                self._telemetry.dropped(what="calendar", reason="invalid")

    def _written(self, after: int, newest: int) -> list[KnownCalendar]:
        calendars = self._schedules.calendars
        if calendars is None:
            return []
        return [each for each in calendars.changed_after(after) if each.revision <= newest]
