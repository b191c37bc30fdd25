"""A process whose clocks lie, by libfaketime (Debian `faketime`; faketime(1)): steps and rates, while it runs.

    clock = FakedClock(tmp_path / "wrong.clock")
    replica = site.replica("wrong", **clock.env)
    clock.step(3600)                    one hour ahead from now on
    clock.run(1.1)                      a tenth too fast, counted from the start of the process
    clock.right()

Only the wall clock lies, unless `monotonic`: then CLOCK_MONOTONIC and CLOCK_BOOTTIME run at the same wrong rate, and
time-outs with them. nats-server is a Go binary that asks the kernel by itself: its clock cannot be faked.
"""

from __future__ import annotations

from pathlib import Path

import pytest

LIBRARIES = [
    Path(folder) / "faketime" / "libfaketime.so.1"
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib")
]
LIBRARY = next((place for place in LIBRARIES if place.exists()), None)
needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not there: apt-get install faketime")


class FakedClock:
    """Give `env` to the process; the file is read at each look at the clock."""

    def __init__(self, place: Path, *, rate: float = 1.0, monotonic: bool = False) -> None:
        self._place = place
        place.parent.mkdir(parents=True, exist_ok=True)
        self.run(rate)
        self.env = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(place),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "0" if monotonic else "1",
            "NO_FAKE_STAT": "1",
        }

    def step(self, seconds: int) -> None:
        """So far from the truth."""
        self._tell(f"{seconds:+d} x1")

    def run(self, rate: float) -> None:
        """At so many seconds a second."""
        self._tell(f"+0 x{rate:g}")  # a rate stays until another is named

    def right(self) -> None:
        self.step(0)

    def _tell(self, text: str) -> None:
        """In one step: a file that is read half written would end the process."""
        new = self._place.with_suffix(".new")
        new.write_text(text + "\n")
        new.replace(self._place)
