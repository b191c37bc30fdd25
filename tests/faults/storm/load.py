"""The load of a storm: so many fires a second from schedules of different kinds, and the instants that they owe.

Every schedule has the same `starts_at` and `ends_at`, so what is owed does not depend on when it was put. Both lie
where no trigger of the mix has an instant, so that no bound has to be argued about.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from tests.acceptance.evidence import Expected, grid, id_of

SECOND = timedelta(seconds=1)
BETWEEN = timedelta(milliseconds=900)
"""Bounds are so long after a full second: between any two instants of the mix."""
QUEUES = ("storm-0", "storm-1")
COMMON: Mapping[str, Any] = {
    "type": "storm",
    "overlap": "allow",  # whoever is late is not skipped for it
    "catch_up": {"after": "10m"},  # nor missed
}


class Strain(Struct, frozen=True):
    """One kind of schedule: its share of all fires, its trigger, and its grid as told independently of schedd."""

    name: str
    share: float
    trigger: Mapping[str, Any]
    period: timedelta = SECOND
    offset: timedelta = timedelta()
    delay: timedelta = timedelta()


MIX = (
    Strain("second", 0.35, {"every": "1s"}),
    Strain("cron", 0.20, {"cron": "* * * * * *"}),
    Strain("quarter", 0.15, {"every": "1s", "anchor": "1970-01-01T00:00:00.250Z"}, offset=SECOND / 4),
    Strain("two", 0.10, {"every": "2s"}, period=2 * SECOND),
    Strain("delayed", 0.10, {"every": "1s", "start_delay": "350ms"}, delay=timedelta(milliseconds=350)),
    Strain("five", 0.05, {"cron": "*/5 * * * * *", "timezone": "Europe/Berlin"}, period=5 * SECOND),
    Strain(
        "rule", 0.05, {"rrule": "FREQ=SECONDLY;INTERVAL=3", "anchor": "2026-01-01T00:00:00Z"}, period=3 * SECOND
    ),
)  # fmt: skip


class Load(Struct, frozen=True):
    """Schedules by id, each with its definition and its strain, for instants in (began, ended)."""

    began: datetime
    ended: datetime
    definitions: Mapping[str, Mapping[str, Any]]
    strains: Mapping[str, Strain]

    def owed_by(self, id_: str) -> dict[str, datetime]:
        """Execution ids of one schedule, with the instant that each has to fire at."""
        strain = self.strains[id_]
        nominals = grid(strain.period, self.began - strain.offset, self.ended - strain.offset)
        return {id_of(id_, at + strain.offset): at + strain.offset + strain.delay for at in nominals}

    def owed(self) -> Expected:
        """All of them; nothing else is allowed."""
        return Expected({key: at for id_ in self.definitions for key, at in self.owed_by(id_).items()})


def load_of(rate: int, began: datetime, length_s: float) -> Load:
    """A mix of that many fires a second on average, for so long; `began` is moved to between two instants."""
    began = began.replace(microsecond=0) + BETWEEN
    ended = began + timedelta(seconds=round(length_s))
    definitions: dict[str, Mapping[str, Any]] = {}
    strains: dict[str, Strain] = {}
    for strain, count in _counts(rate).items():
        for number in range(count):
            id_ = f"{strain}-{number:04d}"
            strains[id_] = next(each for each in MIX if each.name == strain)
            queue = QUEUES[number % len(QUEUES)]
            window = {"starts_at": began.isoformat(), "ends_at": ended.isoformat()}
            definitions[id_] = {**COMMON, **strains[id_].trigger, **window, "queue": queue}
    return Load(began, ended, definitions, strains)


def _counts(rate: int) -> dict[str, int]:
    """How many schedules of each strain; the plainest one makes up for what rounding leaves."""
    counts = {each.name: int(rate * each.share) * int(each.period / SECOND) for each in MIX}
    fires = sum(count * (SECOND / each.period) for each, count in zip(MIX, counts.values(), strict=True))
    counts[MIX[0].name] += round(rate - fires)
    return counts


def seconds_into(began: datetime, at: datetime) -> float:
    """How long after the beginning; negative before it."""
    return (at - began) / SECOND
