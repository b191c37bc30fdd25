"""Named points between two writes, where tests stop or kill a real process. In production they do nothing."""

from __future__ import annotations

from typing import Protocol


class Checkpoints(Protocol):
    """`reached` is awaited between two writes; what it does is the test's business."""

    async def reached(self, name: str) -> None: ...


class NoCheckpoints:
    """The production one."""

    async def reached(self, name: str) -> None:
        return


POINTS = (
    "dispatch.pulled",
    "launch.claimed",
    "launch.slotted",
    "launch.paired",
    "launch.queued",
    "settle.recorded",
    "retry.opened",
    "backfill.started",
    "planner.planned",
    "timeline.staged",
    "planner.committed",
)
