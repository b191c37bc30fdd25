"""How far the server's clock is from ours, from what requests and their answers tell. Pure.

An answer that carries the server's time T, asked for at `sent_s` and received at `received_s` of our monotonic clock,
proves that T minus our clock lies between `T - received_s` and `T - sent_s`: the shorter the round trip, the tighter.
Of the last samples we take the instant range that most of them agree on (Marzullo 1984, the heart of NTP's RFC 5905
section 11.2.1). So one liar or one slow answer changes nothing, and a server whose clock was really set is believed as
soon as it has told so more often than not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

WINDOW = 15
MAX_AGE_S = 300.0
MAX_ROUND_TRIP_S = 10.0
DRIFT = 100e-6
"""How much two healthy clocks may drift apart, in seconds per second: a sample widens by it as it ages."""
RESOLUTION_S = 0.001
"""Server times arrive cut to milliseconds."""


class Sample(Struct, frozen=True):
    """Server time (Unix seconds) and our monotonic seconds before and after the request that brought it."""

    server_s: float
    sent_s: float
    received_s: float

    @property
    def round_trip_s(self) -> float:
        return self.received_s - self.sent_s

    def bounds(self, at_s: float) -> tuple[float, float]:
        """The range that holds "server minus monotonic", as far as this sample can tell at monotonic `at_s`."""
        slack = DRIFT * max(0.0, at_s - self.received_s)
        return self.server_s - self.received_s - slack, self.server_s + RESOLUTION_S - self.sent_s + slack


def agreement(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The range on which the largest number of `ranges` agree; of several such, the one with the newest in it, which
    is the last: clocks that run at another rate than the server's never agree with what they told before. At least one
    range is needed."""
    edges = sorted(edge for number, (low, high) in enumerate(ranges) for edge in ((low, 0, number), (high, 1, number)))
    open_now: set[int] = set()
    most, best = (0, 0), edges[0][:1] * 2
    for place, (edge, closing, number) in enumerate(edges):
        if closing:
            open_now.discard(number)
            continue
        open_now.add(number)
        weight = (len(open_now), max(open_now))
        if weight > most:
            most, best = weight, (edge, edges[place + 1][0])
    return best


class ServerTime:
    """Keeps the newest samples and answers what to add to our monotonic clock to get the server's time."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=WINDOW)
        self._base_s: float | None = None

    @property
    def base_s(self) -> float | None:
        """Server Unix time at monotonic 0; None before the first sample."""
        return self._base_s

    def add(self, sample: Sample) -> bool:
        """Take a sample in; False, and nothing changes, if its round trip is impossible or too long to tell."""
        if not 0.0 <= sample.round_trip_s <= MAX_ROUND_TRIP_S:
            return False
        self._samples.append(sample)
        now_s = sample.received_s
        while now_s - self._samples[0].received_s > MAX_AGE_S:
            self._samples.popleft()
        low, high = agreement([kept.bounds(now_s) for kept in self._samples])
        self._base_s = (low + high) / 2
        return True
