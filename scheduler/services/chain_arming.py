"""The leader's part of chains: what is to come is armed, as soon as it stands in a status row.

Any replica may move a chain on, so the leader watches the status bucket. The watch is a hint: it is compared with the
bucket every `PROVEN_S`. A new leader, and one that lost touch with NATS, looks at all chains and arms all of them
again. Who moved a row may have known an older definition; what is armed is what the newest one makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from scheduler.core.chain import applied, is_chained, to_come, with_chain
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.status import StatusRow
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Entry
from scheduler.services.leader import Tenure
from scheduler.services.mirror import Mirror
from scheduler.services.rows import Edit, StatusRows, row_of
from scheduler.services.schedules import Known, ScheduleCache

ROWS_MAX = 100  # read and written at once
PROVEN_S = 2.0


class ChainArming:
    """What of the chains is yet to be armed, for one term at a time: `begin`, then `wanted` and `armed`, then `end`."""

    def __init__(self, rows: StatusRows, schedules: ScheduleCache, clock: Clock) -> None:
        self._rows, self._schedules, self._clock = rows, schedules, clock
        self._armed: dict[str, Occurrence] = {}
        self._touched: set[str] = set()
        self._mirror: Mirror | None = None
        self._proven_s = 0.0

    def begin(self) -> None:
        """Look at all of them again."""
        self._armed.clear()
        self._touched = {known.id for known in self._schedules if is_chained(known.in_force)}

    async def end(self) -> None:
        """Stop the watch."""
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            await mirror.stop()

    def touch(self, schedule_id: str) -> None:
        """Look at this one, even if it seems to be armed."""
        self._armed.pop(schedule_id, None)
        self._touch(schedule_id)

    def _touch(self, schedule_id: str) -> None:
        self._touched.add(schedule_id)
        self._schedules.mirror.changed.set()  # the planner waits for that

    async def wanted(self, tenure: Tenure) -> list[Occurrence]:
        """What stands in rows and is not armed. Raises Deposed, Unsure, Unavailable."""
        await self._keep_up()
        touched, self._touched = sorted(self._touched), set()
        found: list[Occurrence] = []
        for start in range(0, len(touched), ROWS_MAX):
            found += await self._look_at(touched[start : start + ROWS_MAX], tenure)
        return found

    def armed(self, occurrences: Sequence[Occurrence]) -> None:
        """These are on the timeline now."""
        self._armed.update((each.schedule_id, each) for each in occurrences)

    async def _look_at(self, ids: Sequence[str], tenure: Tenure) -> list[Occurrence]:
        mine = [
            known for each in ids if (known := self._schedules.get(each)) is not None and self._is_ours(known, tenure)
        ]
        rows = await self._rows.change({known.id: edit_of(known, self._clock.now(), tenure.check) for known in mine})
        pending = (to_come(rows[known.id].chain, known.in_force) for known in mine)
        return [each for each in pending if each is not None and self._armed.get(each.schedule_id) != each]

    def _is_ours(self, known: Known, tenure: Tenure) -> bool:
        """What is not applied yet is an edit, which arms by itself."""
        return is_chained(known.in_force) and known.revision <= tenure.office.watermark.applied

    # --- the watch

    async def _keep_up(self) -> None:
        """Watch while there are chains; a bucket of rows that nobody asks for is not followed."""
        if self._mirror is None:
            if any(is_chained(known.in_force) for known in self._schedules):
                await self._follow()
        elif self._clock.boottime_s() - self._proven_s >= PROVEN_S:
            await self._mirror.fresh()
            self._proven_s = self._clock.boottime_s()

    async def _follow(self) -> None:
        mirror = Mirror(self._rows.bucket, self._clock, self._apply)
        await mirror.start(await self._rows.bucket.last_revision())
        self._mirror, self._proven_s = mirror, self._clock.boottime_s()
        self.begin()  # what changed before that

    def _apply(self, entry: Entry) -> None:
        known = self._schedules.get(entry.key)
        if known is None or known.in_force is None or not is_chained(known.in_force):
            return
        chain = row_of(entry).chain
        pending = to_come(chain, known.in_force)
        is_armed = pending is None or pending == self._armed.get(entry.key)
        if not is_armed or applied(chain, known.in_force, entry.at) != chain:
            self._touch(entry.key)


def edit_of(known: Known, since: datetime, before_write: Callable[[], None]) -> Edit:
    """What the definition in force makes of a row's chain; a new one begins at `since`."""

    def edit(row: StatusRow) -> StatusRow:
        before_write()
        return with_chain(row, applied(row.chain, known.in_force, since), known.in_force)

    return edit
