"""Whether anything still comes over the connection that planning needs.

The lease is renewed on a connection of its own, so that neither bulk nor what was lost on its way stands in front of a
renewal. That alone would keep a leader in office whose other connection is dead and cannot be made again: it listens.
"""

from __future__ import annotations

from collections.abc import Callable

from scheduler.ports.clock import Clock

DEAF_MAX_S = 30.0  # a connection finds out by itself by then (two unanswered pings), and comes back
DEAF_MIN_S = 5.0  # something comes every two seconds at least: a pull that ends


def deaf_after_s(lease_s: float, horizon_s: float) -> float:
    """How long a leader may hear nothing: well within what it has armed already, and no shorter than its lease."""
    return min(DEAF_MAX_S, max(DEAF_MIN_S, lease_s, horizon_s / 4))


class Hearing:
    """Look often: what is counted since the last look counts as heard just now."""

    def __init__(self, clock: Clock, received: Callable[[], int], after_s: float) -> None:
        self._clock, self._received, self._after_s = clock, received, after_s
        self._count, self._at_s = received(), clock.boottime_s()

    def is_deaf(self) -> bool:
        count, now_s = self._received(), self._clock.boottime_s()
        if count != self._count:
            self._count, self._at_s = count, now_s
        return now_s - self._at_s > self._after_s
