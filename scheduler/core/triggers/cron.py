"""`cron` on the clocks of a zone, daylight saving included.

*Fixed* expressions, whose minute and hour do not begin with `*`, follow the schedule's `dst`: once per wall time by
default. All others follow elapsed time: every instant whose wall time matches. Both rules are in walls.py.
"""

from __future__ import annotations

from typing import Final

from scheduler.core.model.schedule import Dst
from scheduler.core.triggers.cron_calendar import Walls
from scheduler.core.triggers.cron_text import CronFields
from scheduler.core.triggers.walls import WallTrigger
from scheduler.core.zones import Zone

_DEFAULT: Final = Dst()


class CronTrigger(WallTrigger):
    """One compiled expression in one zone."""

    __slots__ = ("fields",)

    def __init__(self, fields: CronFields, zone: Zone, dst: Dst = _DEFAULT) -> None:
        super().__init__(Walls(fields.days, fields.times), zone, dst if fields.fixed else None)
        self.fields = fields
