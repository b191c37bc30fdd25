"""What a judgement of health is made from."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Unknown(Struct, frozen=True):
    """In place of a fact that could not be had."""

    why: str


class ReplicaFacts(Struct, frozen=True):
    replica: str
    version: str


class QueueFacts(Struct, frozen=True, kw_only=True):
    """`oldest_s`: how long its oldest waiting task has been there; None if nothing waits."""

    queue: str
    pending: int
    ack_pending: int
    pending_max: int
    oldest_s: float | None = None
    paused: bool = False


class StoreFacts(Struct, frozen=True, kw_only=True):
    """A stream or bucket; `fill` from 0 to 1 of its own limit, None if it has none."""

    name: str
    messages: int
    size: int
    fill: float | None = None
    copies: int = 1
    copies_wanted: int = 1


class Facts(Struct, frozen=True, kw_only=True):
    """`ahead_s`: how far the plan reaches beyond now (None: nothing was ever planned); `lateness_s`: of the fires of
    the last `lateness_window_s`, in any order; `room`: used of allowed bytes on disk, allowed None without a limit."""

    leader: str | None
    replicas: Sequence[ReplicaFacts]
    ahead_s: float | None
    horizon_s: float
    lateness_s: Sequence[float]
    lateness_window_s: float
    active: int
    paused: int
    invalid: int
    skew_s: float
    skew_max_s: float
    queues: Sequence[QueueFacts] | Unknown
    stores: Sequence[StoreFacts] | Unknown
    room: tuple[int, int | None] | Unknown
