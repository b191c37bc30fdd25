"""Time, as services ask for it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """`now` is the server's time as well as we know it: own wall clock plus the measured offset."""

    def now(self) -> datetime:
        """Aware UTC, cut to milliseconds, corrected by the offset to the server."""

    def boottime_s(self) -> float:
        """CLOCK_BOOTTIME seconds: monotonic, counts suspend. Deadlines are judged by it."""

    def offset_s(self) -> float:
        """Server time minus own wall clock, in seconds, as last measured; 0.0 before the first measurement."""

    def observe_server(self, server_at: datetime, sent_s: float, received_s: float) -> None:
        """A server timestamp came back for a request sent and received at these boottimes."""

    async def sleep(self, seconds: float) -> None:
        """Sleep that long; virtual in the memory twin."""
