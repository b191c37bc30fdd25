"""Launches of many requests at once, in few groups.

The storage takes few atomic batches at a time (a stream of NATS has 50 open ones at most, for all replicas together,
and answers none beyond), but large ones: a thousand triggers in one second are a handful of launches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from scheduler.core.errors import Internal
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate, Result

log = logging.getLogger(__name__)
GROUPS_MAX = 3
GROUP_MAX = 256


class LaunchGroups:
    """At once while few groups are under way, else together with whoever waits too."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._waiting: dict[str, Candidate] = {}
        self._results: dict[str, asyncio.Future[Result]] = {}
        self._groups: set[asyncio.Task[None]] = set()

    async def launch(self, candidate: Candidate) -> Result:
        """As `Launcher.launch` for one; who asks for the same execution meanwhile gets the same result."""
        execution_id = candidate.execution.id
        result = self._results.get(execution_id)
        if result is None:
            result = self._results[execution_id] = asyncio.get_running_loop().create_future()
            self._waiting[execution_id] = candidate
            self._start()
        return await asyncio.shield(result)  # others may wait for it as well

    def _start(self) -> None:
        while self._waiting and len(self._groups) < GROUPS_MAX:
            chosen = list(self._waiting)[:GROUP_MAX]
            group = [self._waiting.pop(execution_id) for execution_id in chosen]
            task = asyncio.create_task(self._run(group), name="launch-manual-runs")
            self._groups.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._groups.discard(task)
        self._start()

    async def _run(self, group: Sequence[Candidate]) -> None:
        results: Sequence[Result] = [Internal("the launch was cut off")] * len(group)
        try:
            results = await self._launcher.launch(group)
        except Exception:
            log.exception("a launch broke", extra={"event": "launch_broke"})
            results = [Internal("the launch broke; the daemon's log says more")] * len(group)
        finally:
            for candidate, result in zip(group, results, strict=True):
                self._results.pop(candidate.execution.id).set_result(result)
