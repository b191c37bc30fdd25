"""Two time zones whose clocks change in a moment, in a copy of the `tzdata` wheel that a replica finds first.

A zone is a TZif file (RFC 8536, section 3): one transition from UTC to another offset, and nothing after it.
"""

from __future__ import annotations

import shutil
import struct
from datetime import datetime
from importlib import resources
from pathlib import Path

from tests.acceptance.processes import ROOT

BACK, FORWARD = "Test/Back", "Test/Forward"


class ChangingZones:
    """`env` is for replicas that shall know them. When they change has to be said before anybody uses them: who has
    read a zone keeps it."""

    def __init__(self, folder: Path) -> None:
        self._wheel = folder / "tzdata"
        with resources.as_file(resources.files("tzdata")) as real:
            shutil.copytree(real, self._wheel, ignore=shutil.ignore_patterns("__pycache__"))
        with (self._wheel / "zones").open("a") as names:
            names.write(f"{BACK}\n{FORWARD}\n")
        self.env = {"PYTHONPATH": f"{folder}:{ROOT}"}

    def change(self, at: datetime, *, seconds: int) -> None:
        """At that instant clocks go back, or forward, by so many seconds; before, both zones show UTC."""
        for name, offset_s in ((BACK, -seconds), (FORWARD, seconds)):
            place = self._wheel / "zoneinfo" / name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(tzif(at, offset_s))


def tzif(at: datetime, offset_s: int) -> bytes:
    """UTC until then, `offset_s` seconds east of it from then on."""
    types, names = struct.pack(">lBB", 0, 0, 0) + struct.pack(">lBB", offset_s, 1, 4), b"OLD\0NEW\0"
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 1, 2, len(names))
    return header + struct.pack(">lB", int(at.timestamp()), 1) + types + names
