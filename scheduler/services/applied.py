"""Waiting until an edit is applied: the stored watermark tells, and one poller asks for all who wait.

An acknowledged put, pause or delete holds for every occurrence due from then on (design.md, guarantee 5), so the
answer has to wait for the leader. Any replica may be asked, therefore the truth is read from the timeline, not from
the planner of this process; nothing is read while nobody waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from scheduler.core.errors import ScheddError, Unavailable
from scheduler.ports.clock import Clock
from scheduler.ports.timeline import Timeline, Watermark

log = logging.getLogger(__name__)
WAIT_S = 5.0
QUICK_S = 0.5  # most edits are applied long before somebody has waited this long
POLL_QUICK_S, POLL_S = 0.01, 0.05


class AppliedWatermark:
    """`applied` is the highest revision known to be on the timeline; it only ever grows.

    `of` says which part of the watermark is meant: R for the schedules, C for the calendars (`of_calendars`).
    """

    def __init__(
        self,
        timeline: Timeline,
        clock: Clock,
        *,
        timeout_s: float = WAIT_S,
        of: Callable[[Watermark], int] = lambda mark: mark.applied,
    ) -> None:
        self.applied = 0
        self._of = of
        self._timeline, self._clock, self._timeout_s = timeline, clock, timeout_s
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._poller: asyncio.Task[None] | None = None
        self._quick_until_s = 0.0

    def of_calendars(self) -> AppliedWatermark:
        """The same for writes to the calendars bucket."""
        return AppliedWatermark(self._timeline, self._clock, timeout_s=self._timeout_s, of=lambda mark: mark.calendars)

    async def wait(self, revision: int, timeout_s: float | None = None) -> None:
        """Return once every write up to `revision` is applied. Raises Unavailable when the time is over."""
        if revision <= self.applied:
            return
        applied: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[applied] = revision
        self._quick_until_s = self._clock.boottime_s() + QUICK_S
        self._poll()
        sleeping = asyncio.ensure_future(self._clock.sleep(self._timeout_s if timeout_s is None else timeout_s))
        try:
            await asyncio.wait({applied, sleeping}, return_when=asyncio.FIRST_COMPLETED)
            if not applied.done():
                raise Unavailable(f"stored as revision {revision}, not yet applied: is a schedd daemon leading?")
            applied.result()
        finally:
            self._waiting.pop(applied, None)
            sleeping.cancel()
            await asyncio.gather(sleeping, self._rest(), return_exceptions=True)

    async def stop(self) -> None:
        """Whoever still waits is told that it is not applied."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(Unavailable("stored, not yet applied: this replica stops"))
        self._waiting.clear()
        await self._rest()

    async def _rest(self) -> None:
        """End the poller once nobody waits."""
        if self._waiting or self._poller is None:
            return
        poller, self._poller = self._poller, None  # whoever comes meanwhile starts another one
        poller.cancel()
        await asyncio.gather(poller, return_exceptions=True)

    def _poll(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll_while_needed(), name="applied-watermark")

    async def _poll_while_needed(self) -> None:
        while self._waiting:
            await self._look()
            if self._waiting:
                quick = self._clock.boottime_s() < self._quick_until_s
                await self._clock.sleep(POLL_QUICK_S if quick else POLL_S)

    async def _look(self) -> None:
        try:
            stored = await self._timeline.watermark()
        except ScheddError as problem:  # the waiters have deadlines of their own
            log.info("cannot read the watermark", extra={"event": "watermark_unreadable", "error": problem.message})
            return
        if stored is None or stored.watermark is None:
            return
        self.applied = max(self.applied, self._of(stored.watermark))
        for future, revision in list(self._waiting.items()):
            if revision <= self.applied:
                del self._waiting[future]
                if not future.done():
                    future.set_result(None)
