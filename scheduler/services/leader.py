"""Who leads: campaigns for the lease, takes office with a fenced epoch, renews, and steps down in time.

The lease makes one leader likely; the epoch makes a second one harmless. While in office the duty runs as one task;
it is cancelled the moment the term ends, for whatever reason: a renewal that came too late, another holder, a refused
epoch, a deadline that passed while the process slept. The duty itself may end the term by returning or raising.
Decisions are `core.leadership`; interleavings are in mechanisms.md, part 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from scheduler.core.errors import Conflict, Fenced, ScheddError, Unavailable, Unsure
from scheduler.core.leadership import (
    Campaign,
    LeaseRecord,
    LeaseTimings,
    LeaseView,
    Term,
    decide_candidate,
    observe,
    owns,
    renewed,
)
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Office, Timeline, Watermark
from scheduler.wire.names import LEADER_KEY
from scheduler.wire.status import decode_lease, encode_lease

log = logging.getLogger(__name__)
SKEW_MAX_S = 30.0  # a wall clock further off than this neither leads nor is ready


class Deposed(Exception):
    """The term is over: stop writing. Raised by a duty that found out, and by the checks before each write."""


class Tenure:
    """What a duty holds of its term: may it still write, and with what."""

    def __init__(self, clock: Clock, term: Term, office: Office) -> None:
        self.office = office
        self._clock = clock
        self._term = term

    def extend(self, term: Term) -> None:
        self._term = term

    @property
    def term(self) -> Term:
        return self._term

    @property
    def is_trusted(self) -> bool:
        """Whether the deadline lies ahead."""
        return self._term.is_trusted(self._clock.boottime_s())

    def check(self) -> None:
        """Raise Deposed when the deadline has passed; called before every write of a duty."""
        if not self.is_trusted:
            raise Deposed("the lease was not renewed in time")


Duty = Callable[[Tenure], Awaitable[None]]


class Leader:
    """Runs for office for ever; `duty` runs while this replica leads."""

    def __init__(
        self,
        *,
        control: Bucket,
        timeline: Timeline,
        clock: Clock,
        telemetry: Telemetry,
        replica: str,
        version: str,
        timings: LeaseTimings,
        duty: Duty,
        first_watermark: Callable[[], Awaitable[Watermark]],
    ) -> None:
        self.holder = f"{replica}-{secrets.token_hex(4)}"
        self._control, self._timeline, self._clock, self._telemetry = control, timeline, clock, telemetry
        self._replica, self._version, self._timings = replica, version, timings
        self._duty, self._first_watermark = duty, first_watermark
        self._view: LeaseView | None = None
        self._since: datetime | None = None
        self._key_changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._nonce = ""
        self.tenure: Tenure | None = None

    async def run(self) -> None:
        """Campaign and lead, again and again, until `stop`."""
        watch = self._control.watch(await self._newest_revision(), self._on_change)
        try:
            while not self._stopping.is_set():
                term = await self._campaign()
                if term is not None:
                    await self._lead(term)
        finally:
            await watch.stop()

    def stop(self) -> None:
        """Ask for the end: the duty is cancelled and the lease released, so that a successor need not wait."""
        self._stopping.set()
        self._key_changed.set()

    async def _newest_revision(self) -> int:
        while not self._stopping.is_set():
            with contextlib.suppress(ScheddError):
                return await self._control.last_revision()
            await self._clock.sleep(self._timings.retry_s)
        return 0

    def _on_change(self, entries: Sequence[Entry]) -> None:
        if any(entry.key == LEADER_KEY for entry in entries):
            self._key_changed.set()

    # --- candidate

    async def _campaign(self) -> Term | None:
        """One look at the lease: the term if we won it, None after waiting otherwise."""
        self._key_changed.clear()
        try:
            revision, record = await self._read_lease()
        except ScheddError as problem:
            log.warning("cannot read the lease", extra={"event": "lease_unreadable", "error": problem.message})
            await self._pause(self._timings.retry_s)
            return None
        now_s = self._clock.boottime_s()
        self._view = observe(self._view, revision, record, now_s)
        decision = decide_candidate(self._view, now_s, self._spread(self._timings.retry_s))
        if isinstance(decision, Campaign):
            if abs(self._clock.offset_s()) > SKEW_MAX_S:
                log.error("clock too far off to lead", extra={"event": "clock_skew", "s": self._clock.offset_s()})
                await self._pause(self._timings.retry_s)
                return None
            return await self._write_lease(decision.expect)
        await self._pause(decision.seconds)
        return None

    async def _read_lease(self) -> tuple[int, LeaseRecord | None]:
        entry = await self._control.get(LEADER_KEY)
        if entry is None:
            return 0, None
        return entry.revision, None if entry.deleted else decode_lease(entry.value)

    async def _write_lease(self, expect: int) -> Term | None:
        """Compare-and-set of the lease; None if somebody else was faster or we cannot know."""
        sent_s = self._clock.boottime_s()
        self._nonce = secrets.token_hex(8)
        try:
            revision = await self._control.put(LEADER_KEY, self._lease_value(), expect=expect)
        except (Conflict, Unsure):
            return await self._read_back(sent_s)
        except ScheddError:
            await self._pause(self._spread(0.2))
            return None
        return renewed(revision, sent_s, self._timings)

    async def _read_back(self, sent_s: float) -> Term | None:
        """After a conflict or silence: the write may be ours all the same; the nonce tells."""
        with contextlib.suppress(ScheddError):
            revision, record = await self._read_lease()
            if owns(record, self.holder, self._nonce):
                return renewed(revision, sent_s, self._timings)
        return None

    def _lease_value(self) -> bytes:
        if self._since is None:
            self._since = self._clock.now()
        record = LeaseRecord(self.holder, self._nonce, self._replica, self._version, self._timings.lease_s, self._since)
        return encode_lease(record)

    # --- in office

    async def _lead(self, term: Term) -> None:
        try:
            office = await self._take_office(term)
            if office is None:
                return
            self.tenure = Tenure(self._clock, term, office)
            log.info("leading", extra={"event": "leadership_gained", "epoch": office.epoch, "holder": self.holder})
            self._telemetry.leadership(leading=True, epoch=office.epoch)
            await self._serve(self.tenure)
        finally:
            if self.tenure is not None:
                self._telemetry.leadership(leading=False, epoch=self.tenure.office.epoch)
                term = self.tenure.term
            self.tenure, self._since, self._view = None, None, None
            await self._release(term)

    async def _take_office(self, term: Term) -> Office | None:
        """Epoch and unchanged watermark in one batch; None when a younger lease holder already did it."""
        while term.is_trusted(self._clock.boottime_s()):
            try:
                epoch, mark = await asyncio.gather(self._timeline.epoch(), self._timeline.watermark())
                if epoch is not None and epoch.lease_rev > term.revision:
                    return None
                watermark = mark.watermark if mark is not None and mark.watermark else await self._first_watermark()
                return await self._timeline.take_office(
                    holder=self.holder,
                    lease_rev=term.revision,
                    at=self._clock.now(),
                    expect_epoch=0 if epoch is None else epoch.seq,
                    watermark=watermark,
                    expect_watermark=0 if mark is None else mark.seq,
                )
            except (Fenced, Unavailable) as problem:
                log.info("office not taken yet", extra={"event": "office_retry", "error": problem.message})
                await self._clock.sleep(0.2)
        return None

    async def _serve(self, tenure: Tenure) -> None:
        """Run the duty and the renewals side by side; the first to end ends both."""
        duty = asyncio.ensure_future(self._duty(tenure))
        renewing = asyncio.ensure_future(self._keep(tenure))
        try:
            await asyncio.wait({duty, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (duty, renewing):
                task.cancel()
            results = await asyncio.gather(duty, renewing, return_exceptions=True)
            for problem in results:
                self._log_end(problem)

    def _log_end(self, problem: object) -> None:
        if isinstance(problem, Deposed | ScheddError):
            log.warning("stepping down", extra={"event": "leadership_lost", "reason": str(problem)})
        elif isinstance(problem, Exception):
            log.error("a leader's duty broke", exc_info=problem, extra={"event": "duty_broke"})

    async def _keep(self, tenure: Tenure) -> None:
        """Renew every retry period; return (and so end the term) on stop, raise Deposed when it is lost."""
        while not self._stopping.is_set():
            await self._pause(self._timings.retry_s, wake_on_change=False)
            if self._stopping.is_set():
                return
            tenure.check()
            if abs(self._clock.offset_s()) > SKEW_MAX_S:
                raise Deposed("the wall clock is more than 30 s off the server's")
            await self._renew(tenure)
            tenure.check()

    async def _renew(self, tenure: Tenure) -> None:
        sent_s = self._clock.boottime_s()
        self._nonce = secrets.token_hex(8)
        try:
            revision = await self._control.put(LEADER_KEY, self._lease_value(), expect=tenure.term.revision)
            tenure.extend(renewed(revision, sent_s, self._timings))
        except (Conflict, Unsure):
            await self._adopt_or_retire(tenure, sent_s)
        except ScheddError as problem:  # refused for now: the deadline stands, the next round tries again
            log.warning("renewal refused", extra={"event": "renewal_refused", "error": problem.message})

    async def _adopt_or_retire(self, tenure: Tenure, sent_s: float) -> None:
        try:
            revision, record = await self._read_lease()
        except ScheddError:
            return
        if owns(record, self.holder, self._nonce):
            tenure.extend(renewed(revision, sent_s, self._timings))
        elif record is None or record.holder != self.holder:
            raise Deposed("another replica holds the lease")
        elif revision != tenure.term.revision:  # an older renewal of ours landed late
            tenure.extend(Term(revision, tenure.term.deadline_s))

    async def _release(self, term: Term) -> None:
        """Empty the holder if the lease is still ours, so that candidates take over at once."""
        released = LeaseRecord("", secrets.token_hex(8), self._replica, self._version, 0.0, self._clock.now())
        with contextlib.suppress(ScheddError):
            await self._control.put(LEADER_KEY, encode_lease(released), expect=term.revision)

    # --- waiting

    def _spread(self, seconds: float) -> float:
        """Candidates wait a random 1 to 2.2 times as long, so that they do not collide for ever."""
        return seconds * (1.0 + 1.2 * secrets.randbelow(1000) / 1000)

    async def _pause(self, seconds: float, *, wake_on_change: bool = True) -> None:
        event = self._key_changed if wake_on_change else self._stopping
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        waking = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeping, waking):
                task.cancel()
            await asyncio.gather(sleeping, waking, return_exceptions=True)
