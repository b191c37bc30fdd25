"""Every stream, bucket and consumer of schedd, declared as data (contract, part 1). Pure.

`owned` settings are what the guarantees rest on: they are repaired when somebody changes them. `initial` ones are
given at creation and then belong to the operator: ages, sizes and numbers that a cluster may want otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from scheduler.wire.names import DISPATCHER, TRACKER, Names

DAY_S = 24 * 3600
DUE_ACK_WAIT_S = 5.0
MAX_ACK_PENDING = 5120  # five replicas, four batches of 256 each: one that stalls must not starve the rest
LOG_LINES = 10_000  # kept per execution
PROGRESS_REPORTS = 100  # kept per attempt
_NS = 1_000_000_000
_FIXED = frozenset({"retention", "storage", "ack_policy", "deliver_policy"})
_NEVER_SHRUNK = frozenset({"max_msgs_per_subject"})


class Stream(Struct, frozen=True):
    """A stream, or the one under a bucket. Settings by their names in the JetStream API, durations in nanoseconds."""

    name: str
    owned: Mapping[str, Any]
    initial: Mapping[str, Any]

    def config(self, replicas: int) -> dict[str, Any]:
        """The whole configuration to create it with."""
        return {"name": self.name, "num_replicas": replicas, **self.initial, **self.owned}


class Consumer(Struct, frozen=True):
    """A durable pull consumer."""

    stream: str
    name: str
    owned: Mapping[str, Any]
    initial: Mapping[str, Any] = {}

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "durable_name": self.name, **self.initial, **self.owned}


class Topology(Struct, frozen=True):
    streams: tuple[Stream, ...]
    consumers: tuple[Consumer, ...]


def topology(names: Names, *, due_ack_wait_s: float = DUE_ACK_WAIT_S) -> Topology:
    """Everything of one namespace, except the queues, which come and go."""
    return Topology(streams=(*_buckets(names), *_streams(names)), consumers=_consumers(names, due_ack_wait_s))


def queue_consumer(
    names: Names,
    queue: str,
    *,
    ack_wait_s: float = 30.0,
    max_deliver: int = 20,
    max_ack_pending: int = 1000,
    more: Mapping[str, Any] | None = None,
) -> Consumer:
    """The consumer that workers of a queue bind. Its numbers are the operator's once it exists."""
    return Consumer(
        stream=names.tasks,
        name=queue,
        owned={
            "filter_subject": names.tasks_of(queue),
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "sample_freq": "100",
        },
        initial={
            "ack_wait": int(ack_wait_s * _NS),
            "max_deliver": max_deliver,
            "max_ack_pending": max_ack_pending,
            **(more or {}),
        },
    )


def differences(owned: Mapping[str, Any], actual: Mapping[str, Any]) -> dict[str, Any]:
    """What to write over `actual`. Subjects are added to, and what would throw data away is left as it is."""
    found: dict[str, Any] = {}
    for key, wanted in owned.items():
        has = actual.get(key, _absent(wanted))
        if key == "subjects":
            missing = [subject for subject in wanted if subject not in has]
            if missing:
                found[key] = [*has, *missing]
        elif has != wanted and not _would_shrink(key, wanted, has):
            found[key] = wanted
    return found


def impossible(changes: Mapping[str, Any]) -> list[str]:
    """Those of the changes that the server never makes to what exists."""
    return sorted(_FIXED & changes.keys())


def is_vital(key: str, wanted: Any) -> bool:
    """Whether schedd cannot work without this setting; the others only protect it from others."""
    return key == "subjects" or (key.startswith("allow_") and wanted is True)


def _absent(wanted: Any) -> Any:
    """What the server means by a setting that it leaves out of its answer."""
    if isinstance(wanted, (bool, int, list, tuple)):
        return type(wanted)()
    return ""


def _would_shrink(key: str, wanted: int, has: int) -> bool:
    return key in _NEVER_SHRUNK and wanted > 0 and not 0 < has < wanted


def _buckets(names: Names) -> list[Stream]:
    direct: dict[str, Any] = {"allow_direct": True}  # for the clients of others; schedd asks the leader
    ttl: dict[str, Any] = {"allow_msg_ttl": True}
    return [
        _bucket(names.control, {"allow_direct": False}),
        _bucket(names.schedules, {"deny_purge": True}, direct),
        _bucket(names.calendars, {}, direct),
        _bucket(names.executions, ttl),
        _bucket(names.status, ttl),
        _bucket(names.workers, ttl),
    ]


def _bucket(bucket: str, owned: Mapping[str, Any], initial: Mapping[str, Any] | None = None) -> Stream:
    """History 1 (ADR-8). No roll-ups: one client that may write a key could wipe the bucket with `Nats-Rollup: all`."""
    return Stream(
        name=f"KV_{bucket}",
        owned={
            "subjects": [f"$KV.{bucket}.>"],
            "retention": "limits",
            "max_msgs_per_subject": 1,
            "discard": "new",
            "max_age": 0,
            "allow_rollup_hdrs": False,
            **owned,
        },
        initial={"storage": "file", "deny_delete": False, **(initial or {})},
    )


def _streams(names: Names) -> list[Stream]:
    no_limits = {"max_age": 0, "max_msgs": -1, "max_bytes": -1, "max_msgs_per_subject": -1}
    per_subject = "max_msgs_per_subject"
    return [
        _stream(
            names.timeline,
            [names.all_arms, names.all_due, names.epoch, names.watermark],
            {
                "retention": "workqueue",
                "allow_msg_schedules": True,
                "allow_msg_ttl": True,
                "allow_atomic": True,
                "discard": "old",
                **no_limits,
            },
        ),
        _stream(
            names.tasks,
            [names.all_tasks, names.all_claims],
            {
                "retention": "workqueue",
                "allow_atomic": True,
                "allow_msg_ttl": True,
                "allow_rollup_hdrs": False,
                "discard": "new",
                "max_age": 0,
            },
        ),
        _kept(names.reports, [names.all_reports], 7 * DAY_S, {per_subject: PROGRESS_REPORTS}),
        _kept(names.events, [names.all_events], 30 * DAY_S),
        _kept(names.logs, [names.all_logs], 7 * DAY_S, {per_subject: LOG_LINES}),
        _kept(names.advisories, list(names.advisory_subjects), DAY_S),
    ]


def _stream(
    name: str, subjects: list[str], owned: Mapping[str, Any], initial: Mapping[str, Any] | None = None
) -> Stream:
    return Stream(name=name, owned={"subjects": subjects, **owned}, initial={"storage": "file", **(initial or {})})


def _kept(name: str, subjects: list[str], age_s: int, limits: Mapping[str, int] | None = None) -> Stream:
    """A log of what happened: the oldest goes first."""
    owned = {"retention": "limits", "discard": "old", "allow_rollup_hdrs": False}
    return _stream(name, subjects, owned, {"max_age": age_s * _NS, **(limits or {})})


def _consumers(names: Names, due_ack_wait_s: float) -> tuple[Consumer, ...]:
    return (
        _puller(names.timeline, DISPATCHER, due_ack_wait_s, {"filter_subject": names.all_due}),
        _puller(names.reports, TRACKER, DUE_ACK_WAIT_S),
        _puller(names.advisories, TRACKER, DUE_ACK_WAIT_S),
    )


def _puller(stream: str, name: str, ack_wait_s: float, more: Mapping[str, Any] | None = None) -> Consumer:
    owned = {
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": int(ack_wait_s * _NS),
        "max_ack_pending": MAX_ACK_PENDING,
        "max_deliver": -1,
        **(more or {}),
    }
    return Consumer(stream=stream, name=name, owned=owned, initial={"max_waiting": 512})
