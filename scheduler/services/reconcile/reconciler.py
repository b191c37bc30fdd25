"""The rounds: each repair in turn, while this replica leads."""

from __future__ import annotations

import logging

from scheduler.core.errors import ScheddError
from scheduler.ports.telemetry import Telemetry
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.reconcile.repairs import Ground, Repairer, events_repair, repairs_on

log = logging.getLogger(__name__)


class Reconciler:
    """`run` while leading. The first round comes at once: what a dead leader left behind has waited long enough."""

    def __init__(self, ground: Ground, *, telemetry: Telemetry, every_s: float = 30.0) -> None:
        self._index, self._clock = ground.index, ground.clock
        self._telemetry, self._every_s = telemetry, every_s
        self._events = events_repair(ground)
        self.repairs: tuple[Repairer, ...] = (*repairs_on(ground), self._events)

    async def run(self, tenure: Tenure) -> None:
        """Rounds until cancelled, or until the term is over (Deposed)."""
        try:
            while True:
                await self.round(tenure)
                await self._clock.sleep(self._every_s)
        finally:
            await self._events.close()

    async def round(self, tenure: Tenure) -> None:
        """Every repair once. Raises Deposed."""
        try:
            await self._index.current()
        except ScheddError as problem:
            log.warning("no reconciling now", extra={"event": "reconcile_delayed", "error": problem.message})
            return
        for each in self.repairs:
            tenure.check()
            await self._repair(each, tenure)

    async def _repair(self, each: Repairer, tenure: Tenure) -> None:
        extra = {"event": "reconcile_failed", "kind": each.kind.value}
        try:
            count = await each.repair(tenure)
        except Deposed:
            raise
        except ScheddError as problem:
            log.warning("a repair is left to the next round", extra={**extra, "error": problem.message})
            return
        except Exception:
            log.exception("a repair broke", extra=extra)
            return
        if count:
            log.info("repaired", extra={"event": "repaired", "kind": each.kind.value, "count": count})
        for _ in range(count):
            self._telemetry.repaired(kind=each.kind.value)
