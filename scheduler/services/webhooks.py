"""Webhooks: events POSTed to endpoints, each with its own place in the events stream. A duty of the leader.

What an endpoint does not have yet waits in the stream, not here: in hand are a few events of each webhook, those of one
schedule in order, and a dead endpoint costs no more than that, and nobody else anything. The place of a webhook is
where everything before is delivered, given up or of no interest to it; a successor goes on from there, so an event may
arrive twice, always under the same `webhook-id`. Given up is told: a counter, a log line, an event `undelivered`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from scheduler.core.delivering import Answer, Hand, Item, Verdict, judge, wait_before
from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.ports.clock import Clock
from scheduler.ports.feeds import EventFeed, Feeds, Page, Told
from scheduler.ports.queues import Events, Fact
from scheduler.ports.stores import Bucket
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.webhooks import Post, Poster
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.places import PlaceKeeper
from scheduler.services.schedules import ScheduleCache
from scheduler.services.together import run_together
from scheduler.wire.events import Event, Kind
from scheduler.wire.names import Names, webhook_key
from scheduler.wire.schedule_json import labels_of
from scheduler.wire.signing import message_id, signed_headers
from scheduler.wire.webhooks import Webhook

log = logging.getLogger(__name__)
AT_ONCE = 4  # requests under way to one endpoint
WAIT_S = 2.0
TICK_S = 1.0
COUNT_EVERY_S = 10.0
RETRY_S = 2.0
LAST_WORD_S = 0.5
DELIVERED_MAX = 4096  # ids of events remembered as delivered
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


def request_of(webhook: Webhook, *, source: str, event_id: str, body: bytes, at_s: int, agent: str) -> Post:
    """One try to deliver an event: what is sent where."""
    headers = {"User-Agent": agent, "Content-Type": CONTENT_TYPE, **webhook.headers}
    signed = signed_headers(webhook.keys, message_id(source, event_id), at_s, body)
    return Post(webhook.target, {**headers, **signed}, body, webhook.timeout_s)


class Webhooks:
    """`run` while its replica leads."""

    def __init__(
        self,
        *,
        webhooks: Sequence[Webhook],
        feeds: Feeds,
        poster: Poster,
        events: Events,
        control: Bucket,
        schedules: ScheduleCache,
        names: Names,
        clock: Clock,
        telemetry: Telemetry,
        agent: str,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.poster, self.events, self.control, self.schedules = poster, events, control, schedules
        self.names, self.clock, self.telemetry, self.agent, self.dice = names, clock, telemetry, agent, dice
        self._deliveries = [_Delivery(self, webhook, feeds()) for webhook in webhooks]

    async def run(self, tenure: Tenure) -> None:
        """Raises Deposed when the term is over."""
        await run_together(*(delivery.run(tenure) for delivery in self._deliveries))

    def labels_of(self, event: Event) -> Mapping[str, str]:
        """Those that are told with the event, else those of the schedule now."""
        told = event.data.get("labels")
        if isinstance(told, dict):
            return told
        known = None if event.schedule_id is None else self.schedules.get(event.schedule_id)
        return {} if known is None else labels_of(known.raw)


class _Delivery:
    """One webhook."""

    def __init__(self, shared: Webhooks, webhook: Webhook, feed: EventFeed) -> None:
        self._shared, self._webhook, self._feed = shared, webhook, feed
        self._clock, self._telemetry = shared.clock, shared.telemetry
        self._trouble = ""
        self._begin(0)

    def _begin(self, place: int) -> None:
        self._hand = Hand(place)
        self._told: dict[int, tuple[Event, bytes]] = {}
        self._delivered: OrderedDict[str, None] = OrderedDict()
        self._sending: dict[asyncio.Task[Answer], Item] = {}
        self._reading: asyncio.Task[Page] | None = None
        self._counted_s = 0.0

    async def run(self, tenure: Tenure) -> None:
        """Whatever goes wrong with an endpoint is no reason to lead no longer."""
        extra = {"event": "webhook_waits", "webhook": self._webhook.name}
        try:
            while True:
                tenure.check()
                try:
                    await self._follow(tenure)
                except Deposed:
                    raise
                except ScheddError as problem:
                    log.warning("a webhook waits for NATS", extra={**extra, "error": problem.message})
                except Exception:
                    log.exception("a webhook broke and begins anew", extra=extra)
                await self._clock.sleep(RETRY_S)
        finally:
            self._telemetry.webhook_pending(webhook=self._webhook.name, count=0)  # the next leader counts

    async def _follow(self, tenure: Tenure) -> None:
        """From the stored place on, until something fails. Raises Deposed, ScheddError."""
        place = PlaceKeeper(self._shared.control, webhook_key(self._webhook.name), self._clock)
        self._begin(await place.open(self._feed.newest))
        try:
            while True:
                self._start()
                await self._wait()
                tenure.check()
                await self._take_answers()
                self._take_page()
                await place.move(self._hand.settled)
                await self._count()
        finally:
            await self._stop()
            with suppress(ScheddError, TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await place.move(self._hand.settled, at_once=True)

    async def _stop(self) -> None:
        tasks: list[asyncio.Task[Any]] = [*self._sending, *([self._reading] if self._reading else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._feed.close()

    # --- reading and sending

    def _start(self) -> None:
        if self._reading is None and self._hand.room:
            read = self._feed.read(self._hand.taken, self._webhook.kinds, most=self._hand.room, wait_s=WAIT_S)
            self._reading = asyncio.create_task(read, name="webhook-read")
        while len(self._sending) < AT_ONCE and (item := self._hand.next_due(self._clock.now())) is not None:
            item.under_way = True
            item.tries += 1
            self._sending[asyncio.create_task(self._post(item), name="webhook-post")] = item

    async def _post(self, item: Item) -> Answer:
        event, body = self._told[item.seq]
        source, at_s = self._shared.names.event_source, int(self._clock.now().timestamp())
        request = request_of(
            self._webhook, source=source, event_id=event.id, body=body, at_s=at_s, agent=self._shared.agent
        )
        return await self._shared.poster.post(request)

    async def _wait(self) -> None:
        """Until an answer or a page is there, or the next try is due."""
        next_at = None if len(self._sending) >= AT_ONCE else self._hand.next_at()
        wait_s = TICK_S if next_at is None else min(TICK_S, (next_at - self._clock.now()).total_seconds())
        timer = asyncio.create_task(self._clock.sleep(max(0.0, wait_s)))
        tasks: set[asyncio.Task[Any]] = {timer, *self._sending, *([self._reading] if self._reading else [])}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()

    def _take_page(self) -> None:
        if self._reading is None or not self._reading.done():
            return
        reading, self._reading = self._reading, None
        for told in reading.result().items:
            self._take(told)

    def _take(self, told: Told) -> None:
        event = told.event
        if event is None:
            self._telemetry.dropped(what="webhook", reason="unreadable")
        elif event.id in self._delivered:
            self._telemetry.dropped(what="webhook", reason="repeated")
        elif self._webhook.wants(event.schedule_id, self._shared.labels_of(event)):
            self._told[told.seq] = (event, told.body)
            self._hand.put(Item(told.seq, event.schedule_id or "_", event.at, self._clock.now()))
        self._hand.skip(told.seq)

    # --- what came of it

    async def _take_answers(self) -> None:
        for task in [task for task in self._sending if task.done()]:
            item = self._sending.pop(task)
            await self._conclude(item, task.result())

    async def _conclude(self, item: Item, answer: Answer) -> None:
        item.under_way = False
        now = self._clock.now()
        verdict = judge(answer, item, self._webhook.patience, now)
        self._telemetry.webhook(webhook=self._webhook.name, outcome=verdict)
        self._note_trouble("" if answer.is_good else answer.reason)
        if verdict is Verdict.AGAIN:
            item.not_before = now + wait_before(item.tries, answer, self._shared.dice())
            return
        event, _ = self._told[item.seq]
        if verdict is Verdict.GIVEN_UP:
            await self._tell_given_up(event, item, answer)
        else:
            self._remember(event.id)
        del self._told[item.seq]
        self._hand.drop(item.seq)

    def _remember(self, event_id: str) -> None:
        self._delivered[event_id] = None
        if len(self._delivered) > DELIVERED_MAX:
            self._delivered.popitem(last=False)

    async def _tell_given_up(self, event: Event, item: Item, answer: Answer) -> None:
        """Told before the place moves on. Of an event that tells just that, nothing is told: it would never end."""
        name = self._webhook.name
        told: dict[str, object] = {"webhook": name, "event_id": event.id, "reason": answer.reason, "tries": item.tries}
        log.error("an event is not delivered", extra={"event": "webhook_given_up", **told})
        if event.kind == Kind.UNDELIVERED:
            return
        data = {**told, "kind": event.kind, "labels": dict(self._shared.labels_of(event))}
        fact = Fact(f"undelivered-{name}-{event.id}", Kind.UNDELIVERED, event.schedule_id, data)
        with suppress(InvalidArgument):
            await self._shared.events.store([fact])

    def _note_trouble(self, trouble: str) -> None:
        """Log when it begins, changes and ends, not with every try."""
        if trouble != self._trouble:
            self._trouble = trouble
            extra = {"event": "webhook_endpoint", "webhook": self._webhook.name, "problem": trouble or None}
            log.log(logging.WARNING if trouble else logging.INFO, "an endpoint %s", _words(trouble), extra=extra)

    async def _count(self) -> None:
        now_s = self._clock.boottime_s()
        if now_s - self._counted_s >= COUNT_EVERY_S:
            self._counted_s = now_s
            count = len(self._hand) + await self._feed.pending()
            self._telemetry.webhook_pending(webhook=self._webhook.name, count=count)


def _words(trouble: str) -> str:
    return f"does not take events: {trouble}" if trouble else "takes events"
