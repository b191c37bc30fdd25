"""The schedule: a definition that people store, as values. Parsing and checking it is `scheduler.wire.schedule`.

`Definition` is a schedule as it is in force: with the generation (the KV sequence of its value) and the instant from
which it holds (the server's timestamp of that write).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

from msgspec import Struct, field

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Cron(Struct, frozen=True, tag=True):
    """One or more cron expressions, their union; 5, 6 (seconds first) or 7 (year last) fields, or a shortcut."""

    expressions: tuple[str, ...]


class Every(Struct, frozen=True, tag=True):
    """The grid anchor + n * interval."""

    interval: timedelta
    anchor: datetime = EPOCH


class EveryDays(Struct, frozen=True, tag=True):
    """Every so many days of the calendar in the schedule's zone, at the wall time of the anchor (`every: "1d"`)."""

    days: int
    anchor: datetime = EPOCH


class RRule(Struct, frozen=True, tag=True):
    """One or more recurrence rules of RFC 5545, their union, on the zone's walls; `anchor` is their DTSTART."""

    rules: tuple[str, ...]
    anchor: datetime | None = None


class After(Struct, frozen=True, tag=True):
    """A fixed delay from the end of the last run: a chain, whose next nominal time is kept in the status row."""

    delay: timedelta


class At(Struct, frozen=True, tag=True):
    """One or more fixed instants, ascending, without repeats."""

    instants: tuple[datetime, ...]


class Manual(Struct, frozen=True, tag=True):
    """Never fires by itself."""


Trigger = Cron | Every | EveryDays | RRule | After | At | Manual


class Gap(StrEnum):
    """What a wall time does that clocks skip: it fires right after the gap, or not at all."""

    NEXT = "next"
    SKIP = "skip"


class Twice(StrEnum):
    """When a wall time fires that clocks show twice."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


class Dst(Struct, frozen=True):
    """What fixed wall times do when clocks change."""

    gap: Gap = Gap.NEXT
    overlap: Twice = Twice.FIRST


class OnExcluded(StrEnum):
    """What becomes of a nominal time on an excluded day."""

    SKIP = "skip"
    NEXT_BUSINESS_DAY = "next_business_day"
    PREVIOUS_BUSINESS_DAY = "previous_business_day"


class Overlap(StrEnum):
    """What happens to an occurrence while an earlier run of the same schedule is not over."""

    SKIP = "skip"
    ALLOW = "allow"
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    CANCEL_OTHER = "cancel_other"
    TERMINATE_OTHER = "terminate_other"
    LATEST = "latest"


class Backoff(Struct, frozen=True, kw_only=True):
    """Delay before try n + 1: initial * factor^(n-1), at most max, spread by +-jitter (a fraction)."""

    initial: timedelta = timedelta(seconds=1)
    max: timedelta = timedelta(minutes=5)
    factor: float = 2.0
    jitter: float = 0.2


AFTER_MIN = timedelta(seconds=1)  # the broker and we ourselves may need that long: on time, whatever `after` says


class CatchUp(Struct, frozen=True, kw_only=True):
    """What to do with occurrences that are late by more than `after`: see mechanisms.md, part 6."""

    mode: str = "latest"
    after: timedelta = timedelta(seconds=10)
    window: timedelta = timedelta(hours=24)
    max: int = 100


class Schedule(Struct, frozen=True, kw_only=True):
    """One valid schedule. `payload` is the exact body a worker gets (None: no payload field, an empty body).

    `known_for`: how long after its fire time an occurrence is certain to have its record still, if it has fired. What
    is older might fire twice, so catch-up reaches back no further, whatever its policy says.
    """

    id: str
    queue: str
    type: str
    trigger: Trigger
    timezone: str = "UTC"
    dst: Dst = Dst()
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_fires: int | None = None
    jitter: timedelta = timedelta(0)
    exclude: tuple[str, ...] = ()
    on_excluded: OnExcluded = OnExcluded.SKIP
    start_delay: timedelta = timedelta(0)
    payload: bytes | None = None
    payload_is_json: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    overlap: Overlap = Overlap.SKIP
    max_running: int | None = None
    catch_up: CatchUp = CatchUp()
    start_deadline: timedelta | None = None
    deadline: timedelta | None = None
    timeout: timedelta | None = None
    max_tries: int = 3
    backoff: Backoff = Backoff()
    paused: bool = False
    pause_note: str | None = None
    paused_until: datetime | None = None
    retention_age: timedelta = timedelta(days=7)
    known_for: timedelta = timedelta(days=7)
    name: str | None = None
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def late_after(self) -> timedelta:
        """From when on after its fire time an occurrence is a matter of catch-up."""
        return min(max(self.catch_up.after, AFTER_MIN), self.known_for)

    @property
    def reach(self) -> timedelta:
        """How long after its fire time an occurrence may still fire."""
        return min(self.catch_up.window, self.known_for)

    def is_paused_at(self, nominal_at: datetime) -> bool:
        """A pause holds for a nominal time iff it has no end or the nominal time is before it."""
        return self.paused and (self.paused_until is None or nominal_at < self.paused_until)


class Definition(Struct, frozen=True, kw_only=True):
    """A schedule in force: `generation` is the KV sequence of its value, `effective_at` that write's server time.

    A later write of a calendar that it uses is an edit as well: `calendars` is the revision of the newest one, and
    `effective_at` is the server time of whichever write came last.
    """

    schedule: Schedule
    generation: int
    effective_at: datetime
    calendars: int = 0

    @property
    def id(self) -> str:
        return self.schedule.id
