"""What streams store and consumers deliver, and which subjects a pattern names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from msgspec import Struct


class Write(Struct, frozen=True):
    """One message to store. `expect`: the last sequence on `expect_on` (default: its own subject), 0 for none.

    With `fire_at` it is a schedule: it replaces what stands on its subject, and at that instant moves to `target`.
    """

    subject: str
    data: bytes = b""
    expect: int | None = None
    expect_on: str | None = None
    rollup: bool = False
    ttl_s: float | None = None
    fire_at: datetime | None = None
    target: str = ""
    headers: dict[str, str] = {}


class Message(Struct, frozen=True):
    """A stored message; `at` is when it was stored, `mortal` one with a TTL."""

    subject: str
    data: bytes
    seq: int
    at: datetime
    headers: dict[str, str]
    target: str = ""
    mortal: bool = False


class Limits(Struct, frozen=True):
    """Of one consumer. `max_deliver` 0: no limit. `backoff_s`: the ack waits of the first, second ... delivery."""

    ack_wait_s: float = 5.0
    max_deliver: int = 0
    max_ack_pending: int = 20_000
    backoff_s: tuple[float, ...] = ()

    def ack_wait_of(self, delivered: int) -> float:
        waits = self.backoff_s or (self.ack_wait_s,)
        return waits[min(delivered, len(waits)) - 1]


class Delivery(Struct, frozen=True):
    """One message as delivered; `delivered` counts from 1."""

    message: Message
    delivered: int
    token: str


@lru_cache(maxsize=65_536)  # every consumer looks at every message of its stream, and more than once
def matches(subject: str, pattern: str) -> bool:
    """Whether a subject is named by a pattern with `*` and a final `>`."""
    tokens, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and _all_match(tokens, wanted[:-1])
    return len(tokens) == len(wanted) and _all_match(tokens, wanted)


def _all_match(tokens: Sequence[str], wanted: Sequence[str]) -> bool:
    return all(want in ("*", token) for token, want in zip(tokens, wanted, strict=False))
