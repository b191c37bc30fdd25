"""The checks. Each looks at one fact, holds it against its threshold and says it in a line, with what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum

from msgspec import Struct

from scheduler.core.health import thresholds as limits
from scheduler.core.health.facts import Facts, QueueFacts, StoreFacts, Unknown
from scheduler.core.health.thresholds import Threshold
from scheduler.core.health.told import several, size, span


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    CRIT = "crit"


class Check(Struct, frozen=True):
    """What was looked at (`of`: which one, where there are several), how it is, and what to do unless it is well."""

    name: str
    level: Level
    told: str
    advice: str | None = None
    of: str | None = None


def judge(facts: Facts) -> list[Check]:
    """Every check, in an order that people read in: who plans, does it fire, is it worked on, is there room."""
    return [check for look in _LOOKS for check in look(facts)]


def worst(checks: Iterable[Check]) -> Level:
    order = list(Level)
    return max((check.level for check in checks), key=order.index, default=Level.OK)


def _level(value: float, threshold: Threshold) -> Level:
    if value >= threshold.crit:
        return Level.CRIT
    return Level.WARN if value >= threshold.warn else Level.OK


def _check(name: str, level: Level, told: str, advice: str, of: str | None = None) -> Check:
    """Advice is for what is not well."""
    return Check(name, level, told, None if level is Level.OK else advice, of)


# --- who plans


def _leader(facts: Facts) -> Iterator[Check]:
    if facts.leader is not None:
        yield Check("leader", Level.OK, facts.leader)
        return
    yield Check(
        "leader",
        Level.CRIT,
        "none: what is armed fires, nothing new is planned",
        "wait for one lease; then look at the logs of the replicas: can they write to the control bucket?",
    )


def _replicas(facts: Facts) -> Iterator[Check]:
    versions = sorted({replica.version for replica in facts.replicas})
    names = ", ".join(f"{replica.replica} ({replica.version})" for replica in facts.replicas)
    if not facts.replicas:
        yield Check("replicas", Level.WARN, "none was found", "may the daemons publish on $SRV.PING.<namespace>?")
    elif len(versions) > 1:
        advice = "finish the roll-out; if none is under way, upgrade those that were left behind"
        yield Check("replicas", Level.WARN, names, advice)
    else:
        yield Check("replicas", Level.OK, names)


def _planning(facts: Facts) -> Iterator[Check]:
    if facts.ahead_s is None:
        yield Check("planning", Level.WARN, "nothing was planned yet", "wait until a replica has led for some seconds")
        return
    level = _level(1 - facts.ahead_s / facts.horizon_s, limits.BEHIND)
    told = f"{span(facts.ahead_s)} ahead, of {span(facts.horizon_s)}" if facts.ahead_s > 0 else _behind(facts.ahead_s)
    yield _check("planning", level, told, "the leader plans too slowly or not at all: look at its log and its CPU")


def _behind(ahead_s: float) -> str:
    return f"{span(-ahead_s)} behind: occurrences come due that are not armed"


# --- does it fire


def _lateness(facts: Facts) -> Iterator[Check]:
    count, window = len(facts.lateness_s), span(facts.lateness_window_s)
    if not count:
        yield Check("lateness", Level.OK, f"nothing fired in the last {window}")
        return
    p99_s = percentile(facts.lateness_s, 0.99)
    told = f"p99 {span(p99_s)}, of {several(count, 'fire')} in the last {window}"
    advice = "dispatch is behind: more replicas, less load on NATS; after an outage it passes by itself"
    yield _check("lateness", _level(p99_s, limits.LATENESS_P99_S), told, advice)


def percentile(values: Sequence[float], part: float) -> float:
    """By nearest rank: the smallest value that at least `part` of them do not exceed. There must be some."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def _schedules(facts: Facts) -> Iterator[Check]:
    told = f"{facts.active:,} active, {facts.paused:,} paused, {facts.invalid:,} invalid"
    advice = "they do not fire; `schedctl list --state invalid` shows them, `schedctl get ID` what is wrong"
    yield _check("schedules", _level(facts.invalid, limits.INVALID), told, advice)


def _clock(facts: Facts) -> Iterator[Check]:
    level = _level(abs(facts.skew_s) / facts.skew_max_s, limits.SKEW)
    told = f"{facts.skew_s * 1000:+,.0f} ms off the server's"
    yield _check("clock", level, told, f"run NTP; at {span(facts.skew_max_s)} a replica neither leads nor is ready")


# --- is it worked on


def _queues(facts: Facts) -> Iterator[Check]:
    if isinstance(facts.queues, Unknown):
        yield _unknown("queues", facts.queues)
    elif not facts.queues:
        yield Check("queues", Level.OK, "there are none yet")
    else:
        yield from map(_queue, facts.queues)


def _queue(queue: QueueFacts) -> Check:
    fill = _level(queue.pending / queue.pending_max, limits.QUEUE_FILL)
    age = Level.OK if queue.paused else _level(queue.oldest_s or 0.0, limits.QUEUE_OLDEST_S)
    oldest = f", oldest {span(queue.oldest_s)}" if queue.oldest_s is not None else ""
    paused = ", paused" if queue.paused else ""
    told = f"{queue.pending:,} waiting, {queue.ack_pending:,} at work{oldest}{paused}"
    level = max(fill, age, key=list(Level).index)
    return _check("queue", level, told, _queue_advice(queue, fill), queue.queue)


def _queue_advice(queue: QueueFacts, fill: Level) -> str:
    if fill is Level.CRIT:
        return f"full: what comes due is skipped, reason queue_full; more workers, or a higher limit: {_WORKERS}"
    return _WORKERS if not queue.ack_pending else "its workers do not keep up: start more, or give them concurrency"


_WORKERS = "does a worker serve it, and its types?"


# --- is there room


def _stores(facts: Facts) -> Iterator[Check]:
    if isinstance(facts.stores, Unknown):
        yield _unknown("stores", facts.stores)
    else:
        yield from map(_store, facts.stores)


def _store(store: StoreFacts) -> Check:
    name, told = "store", f"{several(store.messages, 'message')}, {size(store.size)}"
    if store.copies == 0:
        return Check(name, Level.CRIT, f"{told}, no leader", "a majority of its NATS nodes is away", store.name)
    if store.copies < store.copies_wanted:
        told = f"{told}, {store.copies} of {store.copies_wanted} copies current"
        return Check(name, Level.WARN, told, "a NATS node is away or catching up", store.name)
    if store.fill is not None:
        told = f"{told}, {store.fill:.0%} of its limit"
    advice = "raise its limit, or let less be kept: at its limit it refuses writes, or drops the oldest"
    return _check(name, _level(store.fill or 0.0, limits.FILL), told, advice, store.name)


def _room(facts: Facts) -> Iterator[Check]:
    if isinstance(facts.room, Unknown):
        yield _unknown("disk", facts.room)
        return
    used, allowed = facts.room
    if allowed is None:
        yield Check("disk", Level.OK, f"{size(used)} used, no limit for the account")
        return
    advice = "raise max_file_store, or the account's limit: when it is used up NATS refuses every write"
    told = f"{size(used)} used, {used / allowed:.0%} of {size(allowed)}"
    yield _check("disk", _level(used / allowed, limits.FILL), told, advice)


def _unknown(name: str, fact: Unknown) -> Check:
    return Check(name, Level.WARN, f"not known: {fact.why}", "may the daemons ask? see Permissions in the README")


_LOOKS: tuple[Callable[[Facts], Iterator[Check]], ...] = (
    _leader,
    _replicas,
    _planning,
    _lateness,
    _schedules,
    _clock,
    _queues,
    _stores,
    _room,
)
