"""Who leads: the lease as pure decisions (client-go's leader election, with a server-side fence behind it).

A lease is a KV record that its holder keeps rewriting by compare-and-set. A candidate never trusts the times in the
record: it takes over only after it has *seen no change* for a whole lease on its own BOOTTIME clock. The holder trusts
itself until `deadline_s`, counted from before its last successful renewal was *sent*; deadline < lease, so it stops
believing before anybody else may start. What a stalled holder still sends after that, the storage refuses by epoch.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from scheduler.core.errors import InvalidArgument

LEASE_MAX_S = 600.0  # of a record that says more no replica is the author: it must not block the office for ever


class LeaseTimings(Struct, frozen=True):
    """Seconds: lease > renew deadline > 1.2 x retry; deadline <= 0.67 x lease tolerates clocks 1.5 x apart in rate."""

    lease_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not LEASE_MAX_S >= self.lease_s > self.renew_deadline_s > 1.2 * self.retry_s > 0:
            rule = f"{LEASE_MAX_S:g} s >= lease > renew deadline > 1.2 x retry > 0"
            raise InvalidArgument(f"lease timings must satisfy {rule}", field="lease")


class LeaseRecord(Struct, frozen=True):
    """The value of `schedd-control/leader`. An empty holder means: released."""

    holder: str
    nonce: str
    replica: str
    version: str
    lease_s: float
    since: datetime


class LeaseView(Struct, frozen=True):
    """What a candidate last read: the revision, and since when (own BOOTTIME) it has not changed."""

    revision: int
    record: LeaseRecord | None
    unchanged_since_s: float


class Campaign(Struct, frozen=True):
    """Try to take the lease, expecting this revision (0: no record)."""

    expect: int


class Hold(Struct, frozen=True):
    """Wait this long, or until the key changes."""

    seconds: float


def observe(view: LeaseView | None, revision: int, record: LeaseRecord | None, now_s: float) -> LeaseView:
    """The view after a read at `now_s`: the waiting time starts anew with each change of revision."""
    if view is not None and view.revision == revision:
        return view
    return LeaseView(revision, record, now_s)


def decide_candidate(view: LeaseView, now_s: float, retry_s: float, *, holder: str = "") -> Campaign | Hold:
    """What a replica that does not lead does next. A lease in its own name is one it lost or never knew it had won:
    nobody leads by it, so there is nobody to wait for."""
    if view.record is None or view.record.holder in ("", holder):
        return Campaign(view.revision)
    free_in_s = view.unchanged_since_s + min(view.record.lease_s, LEASE_MAX_S) - now_s
    if free_in_s < 0:
        return Campaign(view.revision)
    return Hold(min(retry_s, free_in_s + 0.01))


class Term(Struct, frozen=True):
    """One unbroken spell of leadership: the lease's revision, and the BOOTTIME second after which it is not trusted."""

    revision: int
    deadline_s: float

    def is_trusted(self, now_s: float) -> bool:
        return now_s < self.deadline_s


def renewed(revision: int, sent_s: float, timings: LeaseTimings) -> Term:
    """The term after a successful write: the deadline counts from before it was sent."""
    return Term(revision, sent_s + timings.renew_deadline_s)


def later(one: Term, other: Term) -> Term:
    """The term by two writes of one holder that both landed: candidates count from the last of them."""
    return Term(max(one.revision, other.revision), max(one.deadline_s, other.deadline_s))


def owns(record: LeaseRecord | None, holder: str, nonce: str) -> bool:
    """Whether a record that was read back is the very write we are unsure about."""
    return record is not None and record.holder == holder and record.nonce == nonce
