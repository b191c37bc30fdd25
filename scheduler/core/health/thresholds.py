"""From where on something is worth a warning, and from where on somebody has to act. One table for all."""

from __future__ import annotations

from typing import Final, NamedTuple

INFINITE: Final = float("inf")


class Threshold(NamedTuple):
    """`warn` and `crit`: the first value that is one."""

    warn: float
    crit: float


BEHIND: Final = Threshold(0.5, 1.0)
"""The part of the horizon that is not armed: at 1 occurrences come due that nobody has planned."""
LATENESS_P99_S: Final = Threshold(1.0, 10.0)
QUEUE_FILL: Final = Threshold(0.8, 1.0)
"""Of `max_pending`; at 1 occurrences are skipped, reason `queue_full`."""
QUEUE_OLDEST_S: Final = Threshold(300.0, 3600.0)
INVALID: Final = Threshold(1, INFINITE)
SKEW: Final = Threshold(0.1, 1.0)
"""Of the skew at which a replica neither leads nor is ready."""
FILL: Final = Threshold(0.8, 0.95)
"""Of a limit on bytes or messages; a full stream refuses writes."""
