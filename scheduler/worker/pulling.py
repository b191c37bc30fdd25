"""Pulling from one queue: one open request for as many tasks as there are places, answered on an inbox of our own.

A raw `MSG.NEXT` and a callback, since nats-py's fetch() spends a task and a timer per message (notes/nats.md, 4). A
request can be lost without notice (a restart of the server, a new leader, a consumer made anew): it has an end of its
own, and a reconnect or any status but "nothing there" ends it at once. While the queue does not exist, ask each second.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from scheduler.core.errors import ScheddError
from scheduler.jetstream.errors import from_exception
from scheduler.worker.claiming import bind
from scheduler.worker.link import Binding, Link, log
from scheduler.worker.slots import Slots

EXPIRES_S = 5.0
CONTENDED_EXPIRES_S = 1.0
"""With fewer places than queues: how long an idle queue may hold a place that another waits for."""
GRACE_S = 1.0
RETRY_S = 1.0
SOON_S = (0.05, 0.1, 0.2, 0.4)  # the first pauses: a queue may be there a moment after its first worker
REBIND_S = 60.0  # how old our knowledge of the ack wait may be; a third of it, where that is less
REBIND_LEAST_S = 1.0
LOOK_S = 0.25  # how soon a reconnect is noticed
_NOTHING_THERE = frozenset({"404", "408"})

Deliver = Callable[[Msg, Binding], Awaitable["asyncio.Task[Any] | None"]]


class QueuePuller:
    """Pulls tasks of one queue and has each carried out in a task of its own (`deliver`), kept in `working`.

    `room` waits until a type of the queue could start another task, and tells how many they could.
    """

    def __init__(
        self, link: Link, queue: str, slots: Slots, deliver: Deliver, working: set[asyncio.Task[None]], *,
        queues: int, bound: Callable[[], None], room: Callable[[], Awaitable[int | None]],
    ) -> None:  # fmt: skip
        self._link = link
        self._queue = queue
        self._slots = slots
        self._deliver = deliver
        self._working = working
        self._bound = bound
        self._room = room
        self._shares = queues > 1
        self._expires_s = CONTENDED_EXPIRES_S if queues > slots.count else EXPIRES_S
        self._numbers = itertools.count(1)
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._request = ""
        self._reserved = 0
        self._ended = asyncio.Event()
        self._failures = 0
        self._trouble = ""
        self._told = ""
        self._doubt = asyncio.Event()  # a task came again: the ack wait may be shorter than we know
        self.binding: Binding | None = None  # the last one known, kept while the queue is away

    async def run(self) -> None:
        """Pull until cancelled."""
        self._inbox = self._link.client.new_inbox() + "."
        self._subscription = await self._link.client.subscribe(self._inbox + "*", cb=self._on_message)
        keeping = asyncio.create_task(self._keep_bound(), name=f"keep bound to {self._queue}")
        try:
            while True:
                try:
                    await self._pull_until_trouble()
                except ScheddError as problem:
                    self._tell_trouble(problem.message)
                await asyncio.sleep(self._pause_s())
        finally:
            keeping.cancel()
            self._slots.release(self._reserved)
            self._reserved = 0

    def _pause_s(self) -> float:
        """Until the next try."""
        self._failures += 1
        return SOON_S[self._failures - 1] if self._failures <= len(SOON_S) else RETRY_S

    async def drain(self) -> None:
        """Take no more; what is on its way still arrives (and is handed back by whoever carries it out)."""
        if self._subscription is not None and self._link.client.is_connected:
            try:
                await self._subscription.drain()  # type: ignore[no-untyped-call]  # nats-py has no annotation there
            except Exception as problem:
                log.debug("drain: %s", from_exception(problem, self._queue))

    async def _keep_bound(self) -> None:
        """Follow the settings of the queue, also while all places are taken and nothing is pulled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rebind_after_s()):
                    await self._doubt.wait()
            if self.binding is not None:
                with contextlib.suppress(ScheddError):  # what is known holds until we know better
                    await self._bind()
            self._doubt.clear()
            await asyncio.sleep(REBIND_LEAST_S)

    def _rebind_after_s(self) -> float:
        return REBIND_S if self.binding is None else min(REBIND_S, self.binding.ack_wait_s / 3)

    async def _bind(self) -> None:
        before, self.binding = self.binding, await bind(self._link, self._queue)
        if before is None or before.ack_wait_s != self.binding.ack_wait_s:
            self._bound()

    async def _pull_until_trouble(self) -> None:
        """Bind, then one request after the other. Raises ScheddError when the queue or the server is away."""
        ask = 1
        await self._bind()
        while True:
            if not self._shares:
                ask = self._slots.count
            room = await self._room()
            asked = await self._slots.reserve(ask if room is None else min(ask, room))
            left = await self._one_request(asked)
            ask = 1 if left == asked else self._slots.count  # an idle queue holds one place only
            if self._trouble:
                self._tell_trouble(self._trouble)
                return
            self._tell_well()

    async def _one_request(self, batch: int) -> int:
        """Ask for so many tasks; how many places were not used when the request ended."""
        self._reserved, self._trouble = batch, ""
        self._ended.clear()
        self._request = self._inbox + str(next(self._numbers))
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._link.names.tasks}.{self._queue}"
        body = msgspec.json.encode({"batch": batch, "expires": int(self._expires_s * 1e9)})
        try:
            await self._link.client.publish(subject, body, reply=self._request)
            await self._wait()
        except Exception as problem:
            raise from_exception(problem, f"pulling from queue {self._queue}") from None
        finally:
            left, self._reserved, self._request = self._reserved, 0, ""
            self._slots.release(left)
        return left

    async def _wait(self) -> None:
        """Until the request was answered in full, ended by the server, or lost."""
        loop = asyncio.get_running_loop()
        lost_at = loop.time() + self._expires_s + GRACE_S
        reconnects = self._link.client.stats["reconnects"]
        while loop.time() < lost_at and self._link.client.stats["reconnects"] == reconnects:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._ended.wait()
                return
            except TimeoutError:
                continue

    async def _on_message(self, message: Msg) -> None:
        if message.subject.startswith(self._inbox):
            self._on_status(message)
            return
        has_slot = self._reserved > 0
        work = asyncio.create_task(self._work(message, has_slot=has_slot), name=f"task {message.subject}")
        self._working.add(work)
        work.add_done_callback(self._working.discard)
        if has_slot:
            self._reserved -= 1
            if self._reserved == 0:  # after the task was made: it is in the place of its type before we ask for room
                self._ended.set()

    def _on_status(self, message: Msg) -> None:
        if message.subject != self._request:
            return
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status not in _NOTHING_THERE:
            self._trouble = f"{status} {headers.get('Description', 'no answer')}"
        self._ended.set()

    async def _work(self, message: Msg, *, has_slot: bool) -> None:
        """Carry out one task in its place; the place is free again when the function has really ended."""
        if not has_slot:  # it answers a request that was given up: it waits for its turn, or runs out
            await self._slots.reserve(1)
        left_behind = None
        try:
            binding = self.binding or await bind(self._link, self._queue)
            left_behind = await self._deliver(message, binding)
        except ScheddError as problem:
            log.warning("left to its next delivery: %s", problem, extra={"event": "worker.left"})
        except Exception:
            log.exception("a defect of the worker; the task is left to its next delivery")
        finally:
            if left_behind is None:
                self._slots.release()
            else:
                left_behind.add_done_callback(lambda _: self._slots.release())

    def _tell_trouble(self, text: str) -> None:
        """Once per kind of trouble, not each second; and not what is over in a moment."""
        if self._failures >= len(SOON_S) and text != self._told:
            self._told = text
            log.warning(
                "queue %s cannot be pulled, trying each second: %s", self._queue, text,
                extra={"event": "worker.waiting", "queue": self._queue},
            )  # fmt: skip

    def _tell_well(self) -> None:
        self._failures = 0
        if self._told:
            self._told = ""
            log.info("queue %s is there", self._queue, extra={"event": "worker.bound", "queue": self._queue})
