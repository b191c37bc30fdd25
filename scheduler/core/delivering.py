"""Deliveries to an endpoint that may be slow, sick or dead: what goes next, what an answer means. Pure.

A few items of a long queue are in hand. Those of one lane (a schedule) go one after the other, in order, so one that
has to be repeated holds up its own lane and nobody else's; when only such items are in hand nothing more is taken, and
the rest waits where it is stored. `Hand.settled` tells up to where the queue is done with.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

HAND_MAX = 32  # items in hand
RETRY_FIRST = timedelta(seconds=2)
RETRY_FACTOR = 3.0
RETRY_MAX = timedelta(hours=1)
RETRY_SPREAD = 0.2
TRIES_OF_REFUSED = 3  # of what the endpoint has read and does not want
_REFUSED = frozenset({400, 405, 411, 413, 414, 415, 422, 431, 501})
_GONE = 410


class Verdict(StrEnum):
    """What becomes of an item after a try."""

    DELIVERED = "delivered"
    AGAIN = "again"
    GIVEN_UP = "given_up"


class Answer(Struct, frozen=True):
    """What came of one try: the status, or what went wrong in a word (`problem`). `wait_s`: the endpoint's own wish."""

    status: int | None = None
    problem: str = ""
    wait_s: float | None = None

    @property
    def is_good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """A short word for logs, events and counters."""
        return self.problem or f"status_{self.status}"


class Patience(Struct, frozen=True):
    """When to stop trying one item."""

    max_tries: int = 20
    max_age: timedelta = timedelta(hours=24)


class Item(Struct, eq=False):
    """One thing to deliver. `seq`: its place in the queue; `at`: when it happened; `not_before`: of its next try."""

    seq: int
    lane: str
    at: datetime
    not_before: datetime
    tries: int = 0
    under_way: bool = False


class Hand:
    """The items in hand, in the order of the queue. `taken` is the place up to which the queue was looked at."""

    def __init__(self, taken: int, most: int = HAND_MAX) -> None:
        self.taken = taken
        self._most = most
        self._items: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, seq: int) -> bool:
        return seq in self._items

    @property
    def room(self) -> int:
        return self._most - len(self._items)

    @property
    def settled(self) -> int:
        """Everything up to this place is delivered, given up or of no interest."""
        return min(self._items, default=self.taken + 1) - 1

    @property
    def oldest_at(self) -> datetime | None:
        return min((item.at for item in self._items.values()), default=None)

    def put(self, item: Item) -> None:
        """Behind all that are there."""
        self._items[item.seq] = item
        self.taken = max(self.taken, item.seq)

    def skip(self, seq: int) -> None:
        """Of no interest."""
        self.taken = max(self.taken, seq)

    def drop(self, seq: int) -> None:
        self._items.pop(seq, None)

    def next_due(self, now: datetime) -> Item | None:
        """The first that may be tried now: nothing of its lane is before it, nothing of it is under way."""
        for item in self._firsts():
            if not item.under_way and item.not_before <= now:
                return item
        return None

    def next_at(self) -> datetime | None:
        """When the next try is due, as far as is known now; None while there is nothing to try."""
        return min((item.not_before for item in self._firsts() if not item.under_way), default=None)

    def _firsts(self) -> list[Item]:
        """The first item of each lane."""
        firsts: dict[str, Item] = {}
        for item in self._items.values():
            firsts.setdefault(item.lane, item)
        return list(firsts.values())


def judge(answer: Answer, item: Item, patience: Patience, now: datetime) -> Verdict:
    """What becomes of an item after this answer; `item.tries` counts the try."""
    if answer.is_good:
        return Verdict.DELIVERED
    if answer.status == _GONE or item.tries >= patience.max_tries or now - item.at > patience.max_age:
        return Verdict.GIVEN_UP
    if answer.status in _REFUSED and item.tries >= TRIES_OF_REFUSED:
        return Verdict.GIVEN_UP
    return Verdict.AGAIN


def wait_before(tries: int, answer: Answer, dice: float) -> timedelta:
    """How long to wait after that many tries: 2 s, 6 s, 18 s … an hour, a fifth more or less (`dice` 0..1); never
    less than the endpoint asked for, if that is not beyond an hour."""
    grown = RETRY_FIRST.total_seconds() * RETRY_FACTOR ** min(tries - 1, 30)
    longest = RETRY_MAX.total_seconds()
    seconds = min(longest, grown) * (1 + RETRY_SPREAD * (2 * dice - 1))
    return timedelta(seconds=max(seconds, min(answer.wait_s or 0.0, longest)))
