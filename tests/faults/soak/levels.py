"""Whether a level is where it was: like with like, a rest after a warm-up with a rest after the soak. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median

from msgspec import Struct

from tests.faults.soak.history import Rest, Sample


class Allowance(Struct, frozen=True):
    """What a level may be above its base: a share of it, and so much more."""

    share: float
    more: float
    why: str


REPLICA_MB = Allowance(0.10, 12, "what the allocator keeps in fragments; a leak of 250 bytes a fire would be more")
SERVER_MB = Allowance(0.50, 24, "Go gives memory back late, and a server that was killed has another heap")
COUNTED = Allowance(0.0, 3, "a connection or two may be changing just then")
THREADS = Allowance(0.0, 6, "pools grow to their bounds: Go's threads are never given back")
CONSUMERS = Allowance(0.0, 1, "a watch that is just renewed has two for a moment")
STORED = Allowance(0.05, 8192, "rows of fifty schedules, whose counters have more digits than before")
JUDGED = {
    "files": COUNTED,
    "threads": THREADS,
    "connections": COUNTED,
    "subscriptions": Allowance(0.0, 8, "the inboxes of requests and watches in flight"),
    "consumers": CONSUMERS,
}
SHARED = ("consumers", "connections", "subscriptions")
KEPT_BY_AGE = ("SCHEDD_REPORTS", "SCHEDD_EVENTS", "SCHEDD_ADVISORIES", "SCHEDD_LOGS")
"""Streams that hold what happened for days, and no longer: they do not return within a run, and are shown."""


class Level(Struct, frozen=True):
    """One level at both rests. `limit` None: shown, not judged."""

    who: str
    name: str
    base: float
    end: float
    limit: float | None

    @property
    def is_back(self) -> bool:
        return self.limit is None or self.end <= self.limit


def levels_of(samples: Sequence[Sample], rests: Sequence[Rest], more: Mapping[str, float] | None = None) -> list[Level]:
    """Every level that was seen in both rests, the median of each. `more`: what else is allowed, by name."""
    servers = {each.who for each in samples if "consumers" in each.levels}
    shared = together(samples)
    base, end = (_medians(shared, rest.began, rest.ended) for rest in (rests[0], rests[-1]))
    found = []
    for who, name in sorted(base.keys() & end.keys()):
        allowed = allowance(name, is_server=who in servers)
        before = base[who, name]
        limit = None if allowed is None else before * (1 + allowed.share) + allowed.more + (more or {}).get(name, 0.0)
        found.append(Level(who, name, before, end[who, name], limit))
    return found


def allowance(name: str, *, is_server: bool) -> Allowance | None:
    if name == "rss_mb":
        return SERVER_MB if is_server else REPLICA_MB
    kind, _, stream = name.partition(".")
    if kind == "bytes":
        return None if stream in KEPT_BY_AGE else STORED
    return JUDGED.get(kind)


def unseen(samples: Iterable[Sample], rests: Sequence[Rest]) -> list[str]:
    """Who was never sampled in one of the rests: nothing can be said of it."""
    samples = list(samples)
    everybody = {each.who for each in samples}
    seen = [{each.who for each in samples if rest.began <= each.at <= rest.ended} for rest in rests]
    return sorted(who for who in everybody if any(who not in found for found in seen))


def together(samples: Iterable[Sample]) -> list[Sample]:
    """What the nodes of a cluster share among them (who watches is on any of them) is one level of all of them."""
    found = []
    by_time: dict[datetime, list[Sample]] = defaultdict(list)
    for each in samples:
        own = {name: value for name, value in each.levels.items() if name not in SHARED}
        found.append(Sample(each.at, each.who, each.pid, own))
        if "consumers" in each.levels:
            by_time[each.at].append(each)
    nodes = max((len(each) for each in by_time.values()), default=0)
    for at, each_node in by_time.items():
        if len(each_node) == nodes:  # at other times one of them is down
            sums = {name: sum(each.levels[name] for each in each_node) for name in SHARED}
            found.append(Sample(at, "nats", 0, sums))
    return found


def _medians(samples: Iterable[Sample], began: datetime, ended: datetime) -> dict[tuple[str, str], float]:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for each in samples:
        if began <= each.at <= ended:
            for name, value in each.levels.items():
                values[each.who, name].append(value)
    return {key: median(found) for key, found in values.items()}
