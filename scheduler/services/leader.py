"""Who leads: campaigns for the lease, takes office with a fenced epoch, renews, and steps down in time.

The lease makes one leader likely; the epoch makes a second one harmless. From the moment the lease is won it is renewed
by the clock, beside everything else: taking office may take its time, and on a slow link a renewal is sent although the
last one is not answered yet. `control` is a bucket on a connection of its own, where nothing stands before a renewal.
While in office the duty runs as one task, and the term ends with it. The moment the term ends otherwise (no renewal in
time, another holder, a deadline that passed while the process slept, deafness) every `Tenure.check` raises and the duty
is cancelled. A replica that lost office lets others go first, and never stops standing.
Decisions are `core.leadership`; interleavings are in mechanisms.md, part 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NoReturn

from scheduler.core.errors import Conflict, Fenced, ScheddError, Unavailable, Unsure
from scheduler.core.leadership import (
    Hold,
    LeaseRecord,
    LeaseTimings,
    LeaseView,
    Term,
    decide_candidate,
    later,
    observe,
    owns,
    renewed,
)
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Office, Stored, Timeline, Watermark
from scheduler.services.hearing import Hearing
from scheduler.services.together import sleep_unless
from scheduler.wire.names import LEADER_KEY
from scheduler.wire.status import decode_lease, encode_lease

log = logging.getLogger(__name__)
SKEW_MAX_S = 30.0  # a wall clock further off than this neither leads nor is ready
OFFICE_RETRY_S = 0.2
RELEASE_TRIES = 2
REFUSED_S = 5.0  # an election takes a moment; what is refused for longer is told


class Deposed(Exception):
    """The term is over: stop writing. Raised by a duty that found out, and by the checks before each write."""


class Tenure:
    """What a duty holds of its term: may it still write, and with what."""

    def __init__(self, clock: Clock, term: Term, office: Office | None = None) -> None:
        self._clock = clock
        self._term = term
        self._office = office
        self._over = False

    @property
    def office(self) -> Office:
        """Epoch and watermark as last written. Raises Deposed before the office is taken."""
        if self._office is None:
            raise Deposed("the office is not taken yet")
        return self._office

    @office.setter
    def office(self, office: Office) -> None:
        self._office = office

    def extend(self, term: Term) -> None:
        """Go on by this write of ours; answers may come in any order, so nothing goes back."""
        self._term = later(self._term, term)

    def end(self) -> None:
        """The term is over, whatever its deadline says."""
        self._over = True

    @property
    def term(self) -> Term:
        return self._term

    @property
    def remaining_s(self) -> float:
        """Until the deadline."""
        return self._term.deadline_s - self._clock.boottime_s()

    def check(self) -> None:
        """Raise Deposed when the term is over; called before every write of a duty."""
        if self._over:
            raise Deposed("the term is over")
        if not self._term.is_trusted(self._clock.boottime_s()):
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
        hearing: Hearing | None = None,
    ) -> None:
        self.holder = f"{replica}-{secrets.token_hex(4)}"
        self._control, self._timeline, self._clock, self._telemetry = control, timeline, clock, telemetry
        self._replica, self._version, self._timings = replica, version, timings
        self._duty, self._first_watermark, self._hearing = duty, first_watermark, hearing
        self._view: LeaseView | None = None
        self._since = clock.now()
        self._key_changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._sent: dict[str, float] = {}  # nonces of writes that may have landed, and when each was sent
        self._refused: tuple[float, str] | None = None  # since when no write of the lease got through, and why
        self.tenure: Tenure | None = None

    async def run(self) -> None:
        """Campaign and lead, again and again, until `stop`."""
        watch = self._control.watch(await self._newest_revision(), self._on_change)
        try:
            while not self._stopping.is_set():
                await self._stand()
        finally:
            await watch.stop()

    async def _stand(self) -> None:
        """One campaign, and the term that it may win. After a term, and whatever broke, others get their chance."""
        try:
            term = await self._campaign()
            if term is None:
                return
            await self._lead(term)
        except Exception:
            log.exception("standing for office broke", extra={"event": "campaign_broke"})
        await sleep_unless(self._stopping, self._clock, self._spread(self._timings.retry_s))

    @property
    def problem(self) -> str | None:
        """Why nobody can lead: the lease cannot be written, by us or by anybody (a full disk, no majority)."""
        if self._refused is None or self._clock.boottime_s() - self._refused[0] < REFUSED_S:
            return None
        return f"NATS stores nothing, so nobody can lead: {self._refused[1]}"

    def stop(self) -> None:
        """Ask for the end: the duty is cancelled and the lease released, so that a successor need not wait."""
        self._stopping.set()
        self._key_changed.set()

    async def _newest_revision(self) -> int:
        while not self._stopping.is_set():
            with contextlib.suppress(ScheddError):
                return await self._control.last_revision()
            await sleep_unless(self._stopping, self._clock, self._timings.retry_s)
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
        if self._view is not None and self._view.revision != revision:
            self._refused = None  # somebody could write it
        self._view = observe(self._view, revision, record, now_s)
        decision = decide_candidate(self._view, now_s, self._spread(self._timings.retry_s), holder=self.holder)
        if isinstance(decision, Hold):
            await self._pause(decision.seconds)
            return None
        if unfit := self._unfit():
            event, reason = unfit
            log.error("cannot lead: %s", reason, extra={"event": event, "offset_s": self._clock.offset_s()})
            await self._pause(self._timings.retry_s)
            return None
        return None if self._stopping.is_set() else await self._write_lease(decision.expect)

    def _unfit(self) -> tuple[str, str] | None:
        """Why this replica should not lead though the lease is its own to have: an event for the log, and a reason."""
        if abs(self._clock.offset_s()) > SKEW_MAX_S:
            return "clock_skew", "the wall clock is more than 30 s off the server's"
        if self._hearing is not None and self._hearing.is_deaf():
            return "deaf", "nothing comes from NATS on the connection that planning needs"
        return None

    async def _read_lease(self) -> tuple[int, LeaseRecord | None]:
        entry = await self._control.get(LEADER_KEY)
        if entry is None:
            return 0, None
        return entry.revision, None if entry.deleted else decode_lease(entry.value)

    async def _write_lease(self, expect: int) -> Term | None:
        """Compare-and-set of the lease; None if somebody else was faster or we cannot know."""
        self._sent, self._since = {}, self._clock.now()
        try:
            return await self._put_lease(expect)
        except (Conflict, Unsure) as problem:
            self._note_refusal(problem)
            with contextlib.suppress(ScheddError):
                return self._own_term(*await self._read_lease())
        except ScheddError as problem:
            self._note_refusal(problem)
            await self._pause(self._spread(0.2))
        return None

    async def _put_lease(self, expect: int) -> Term:
        sent_s, nonce = self._clock.boottime_s(), secrets.token_hex(8)
        forgotten_s = sent_s - self._timings.renew_deadline_s  # what was sent before that makes no term
        self._sent = {each: at_s for each, at_s in self._sent.items() if at_s > forgotten_s} | {nonce: sent_s}
        record = LeaseRecord(self.holder, nonce, self._replica, self._version, self._timings.lease_s, self._since)
        revision = await self._control.put(LEADER_KEY, encode_lease(record), expect=expect)
        self._refused = None
        return renewed(revision, sent_s, self._timings)

    def _note_refusal(self, problem: ScheddError) -> None:
        """A conflict is an answer of a storage that is well; no answer, or a refusal, may be a full disk."""
        if not isinstance(problem, Conflict):
            since_s = self._clock.boottime_s() if self._refused is None else self._refused[0]
            self._refused = (since_s, problem.message)

    def _own_term(self, revision: int, record: LeaseRecord | None) -> Term | None:
        """The term by a record that was read back, if it is a write of ours: its nonce tells when that was sent."""
        sent_s = None if record is None else self._sent.get(record.nonce)
        if record is None or sent_s is None or not owns(record, self.holder, record.nonce):
            return None
        return renewed(revision, sent_s, self._timings)

    # --- in office

    async def _lead(self, term: Term) -> None:
        """Renew the lease, take office and do the duty, until one of them ends, the deadline passes or `stop`."""
        tenure = Tenure(self._clock, term)
        try:
            await self._until_one_ends(
                self._govern(tenure), self._keep(tenure), self._expire(tenure), self._stopping.wait(), tenure=tenure
            )
        finally:
            if self.tenure is not None:
                self._telemetry.leadership(leading=False, epoch=tenure.office.epoch)
            self.tenure, self._view = None, None
            await self._release(tenure.term)

    async def _govern(self, tenure: Tenure) -> None:
        office = await self._take_office(tenure)
        if office is None:
            return
        tenure.office, self.tenure = office, tenure
        log.info("leading", extra={"event": "leadership_gained", "epoch": office.epoch, "holder": self.holder})
        self._telemetry.leadership(leading=True, epoch=office.epoch)
        await self._duty(tenure)

    async def _take_office(self, tenure: Tenure) -> Office | None:
        """Epoch and unchanged watermark in one batch; None when a later lease holder already did it."""
        while not self._stopping.is_set():
            try:
                epoch, mark = await asyncio.gather(self._timeline.epoch(), self._timeline.watermark())
                if epoch is not None and await self._is_of_later_lease(epoch, tenure.term):
                    return None
                watermark = mark.watermark if mark is not None and mark.watermark else await self._first_watermark()
                tenure.check()
                return await self._timeline.take_office(
                    holder=self.holder,
                    lease_rev=tenure.term.revision,
                    at=self._clock.now(),
                    expect_epoch=0 if epoch is None else epoch.seq,
                    watermark=watermark,
                    expect_watermark=0 if mark is None else mark.seq,
                )
            except (Fenced, Unavailable) as problem:
                log.info("office not taken yet", extra={"event": "office_retry", "error": problem.message})
                await sleep_unless(self._stopping, self._clock, OFFICE_RETRY_S)
        return None

    async def _is_of_later_lease(self, epoch: Stored, term: Term) -> bool:
        """Epochs follow the order of leases. A revision that the bucket never had is of a bucket that was lost."""
        return epoch.lease_rev > term.revision and epoch.lease_rev <= await self._control.last_revision()

    async def _until_one_ends(self, *together: Coroutine[Any, Any, Any], tenure: Tenure) -> None:
        """Run them side by side until the first ends; the term is over then, and the others are cancelled."""
        tasks = [asyncio.ensure_future(each) for each in together]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tenure.end()
            for task in tasks:
                task.cancel()
            self._log_end(await asyncio.gather(*tasks, return_exceptions=True))

    def _log_end(self, ends: Sequence[object]) -> None:
        """Why the term ended, once, however many found out."""
        reasons = [end for end in ends if isinstance(end, Deposed | ScheddError)]
        for reason in reasons[:1]:
            log.warning("stepping down", extra={"event": "leadership_lost", "reason": str(reason)})
        for broken in ends:
            if isinstance(broken, Exception) and broken not in reasons:
                log.error("a leader's duty broke", exc_info=broken, extra={"event": "duty_broke"})

    async def _keep(self, tenure: Tenure) -> None:
        """Send a renewal every retry period, answered or not; raise Deposed when the lease is lost.

        An answer counts whenever it comes before the deadline: to wait no longer than the period for it would cost the
        office on each link that is slower than that. To wait for it alone would cost it when NATS has dropped it.
        """
        try:
            async with asyncio.TaskGroup() as renewals:
                while True:
                    await self._clock.sleep(self._timings.retry_s)
                    tenure.check()
                    if unfit := self._unfit():
                        raise Deposed(unfit[1])
                    renewals.create_task(self._renew(tenure))
        except ExceptionGroup as problems:
            raise problems.exceptions[0] from None

    async def _expire(self, tenure: Tenure) -> NoReturn:
        """Raise Deposed at the deadline, even while a renewal still waits for its answer."""
        while True:
            tenure.check()
            await self._clock.sleep(max(0.001, tenure.remaining_s))

    async def _renew(self, tenure: Tenure) -> None:
        expect = tenure.term.revision
        try:
            tenure.extend(await self._put_lease(expect))
        except (Conflict, Unsure) as problem:
            self._note_refusal(problem)
            if tenure.term.revision == expect:  # else one that was sent before it has been answered since
                await self._adopt_or_retire(tenure)
        except ScheddError as problem:  # refused for now: the deadline stands, the next round tries again
            self._note_refusal(problem)
            log.warning("renewal refused", extra={"event": "renewal_refused", "error": problem.message})

    async def _adopt_or_retire(self, tenure: Tenure) -> None:
        """This renewal, or one before it, may have landed unseen or late: the term goes on by the one that stands."""
        with contextlib.suppress(ScheddError):
            revision, record = await self._read_lease()
            if record is None or record.holder != self.holder:
                raise Deposed("another replica holds the lease")
            tenure.extend(self._own_term(revision, record) or Term(revision, tenure.term.deadline_s))

    async def _release(self, term: Term) -> None:
        """Empty the holder if the lease is still ours, if only by a write whose answer never came: candidates take
        over at once then. Another's lease is never touched: each try expects a revision that we know to be ours."""
        released = LeaseRecord("", secrets.token_hex(8), self._replica, self._version, 0.0, self._clock.now())
        revision = term.revision
        with contextlib.suppress(ScheddError):
            for _ in range(RELEASE_TRIES):
                try:
                    await self._control.put(LEADER_KEY, encode_lease(released), expect=revision)
                    return
                except (Conflict, Unsure):
                    revision, record = await self._read_lease()
                    if record is None or record.holder != self.holder:
                        return

    # --- waiting

    def _spread(self, seconds: float) -> float:
        """Candidates wait a random 1 to 2.2 times as long, so that they do not collide for ever."""
        return seconds * (1.0 + 1.2 * secrets.randbelow(1000) / 1000)

    async def _pause(self, seconds: float) -> None:
        """Wait that long, until the key changes, or until the stop."""
        await sleep_unless(self._key_changed, self._clock, seconds)
