"""The watch of a bucket: a push consumer that is replaced whenever there is doubt about it.

The consumer is ephemeral, keeps nothing and lives in the memory of one server, so it is lost with that server; it
sends heartbeats, so its silence is noticed; it numbers what it sends, so a loss is noticed. Whatever happens, a new one
starts behind the last message delivered. The server removes a consumer that we could not delete.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress

from nats.aio.msg import Msg

from scheduler.core.errors import ScheddError
from scheduler.jetstream.delivery import read_reply
from scheduler.jetstream.ephemeral import create_ephemeral, forget_ephemeral, stored_message
from scheduler.jetstream.errors import from_exception
from scheduler.jetstream.requests import Requests, StoredMessage

HEARTBEAT_S = 2.0
SILENCE_S = 5.0  # two heartbeats and a bit: the consumer is gone
FORGET_S = 30.0
TICK_S = 1.0
RESUBSCRIBING_S, LOOK_S = 1.0, 0.05
PAUSE_S = (0.1, 2.0)  # before the next attempt, doubling
_NS = 1_000_000_000
_LAST_CONSUMER = "Nats-Last-Consumer"
_STALLED = "Nats-Consumer-Stalled"

log = logging.getLogger(__name__)


class BucketWatch:
    """Implements `ports.stores.Watch`; `deliver` is called with messages behind `revision`, in order, in batches."""

    def __init__(
        self, requests: Requests, stream: str, revision: int, deliver: Callable[[Sequence[StoredMessage]], None]
    ) -> None:
        self._requests = requests
        self._stream = stream
        self._revision = revision
        self._deliver = deliver
        self._wake = asyncio.Event()
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"watch-{self._stream}")

    def restart(self, revision: int) -> None:
        self._revision = revision
        self._asked = True
        self._wake.set()

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        pause_s = PAUSE_S[0]
        while not self._requests.client.is_closed:
            before = self._revision
            try:
                reason = await self._session()
            except ScheddError as problem:
                reason = problem.message
            except Exception:  # a bug, ours or the receiver's: the watch has to outlive it
                log.exception("watch failed", extra={"event": "watch_failed", "stream": self._stream})
                reason = "an unexpected error"
            if self._asked:
                pause_s = PAUSE_S[0]
                continue
            log.info("watch begins again", extra={"event": "watch_restarted", "stream": self._stream, "why": reason})
            pause_s = PAUSE_S[0] if self._revision != before else min(PAUSE_S[1], pause_s * 2)
            await self._wait(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads replicas, guards nothing

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _session(self) -> str:
        """Follow one consumer until there is doubt; returns the reason. Raises Unavailable."""
        self._asked = False
        self._wake.clear()
        name = f"watch-{secrets.token_hex(6)}"
        session = _Session(self._requests, self._wake)
        try:
            inbox = await session.open()
            push = {
                "deliver_subject": inbox,
                "flow_control": True,
                "idle_heartbeat": int(HEARTBEAT_S * _NS),
                "inactive_threshold": int(FORGET_S * _NS),
            }
            await create_ephemeral(self._requests, self._stream, name, self._revision, push)
            return await self._follow(session)
        finally:
            await session.close()
            await forget_ephemeral(self._requests, self._stream, name)

    async def _follow(self, session: _Session) -> str:
        reconnects = self._requests.client.stats["reconnects"]
        while True:
            await self._wait(TICK_S)
            if self._asked:
                return "asked to"
            self._wake.clear()
            messages, doubt = await session.take()
            self._pass_on(messages)
            if doubt:
                return doubt
            if self._requests.client.stats["reconnects"] != reconnects:
                return "reconnected"

    def _pass_on(self, messages: Sequence[StoredMessage]) -> None:
        newer = [message for message in messages if message.seq > self._revision]
        if newer:
            self._deliver(newer)
            self._revision = newer[-1].seq


class _Session:
    """The receiving end of one consumer: what arrived, in order, and whether something is missing."""

    def __init__(self, requests: Requests, wake: asyncio.Event) -> None:
        self._client = requests.client
        self._wake = wake
        self._arrived: list[Msg] = []
        self._count = 0
        self._heard_s = asyncio.get_running_loop().time()

    async def open(self) -> str:
        inbox = str(self._client.new_inbox())
        try:
            self._subscription = await self._client.subscribe(inbox, cb=self._on_message)
        except Exception as problem:
            raise from_exception(problem, "watching") from None
        return inbox

    async def close(self) -> None:
        subscription = getattr(self, "_subscription", None)
        if subscription is not None and not self._client.is_closed:
            await self._subscribed_anew()
            with suppress(Exception):  # the connection is going: so is the subscription
                await subscription.unsubscribe()

    async def _subscribed_anew(self) -> None:
        """While it reconnects the client may just have sent the subscription anew, and would not send its end."""
        for _ in range(round(RESUBSCRIBING_S / LOOK_S)):
            if not self._client.is_reconnecting:
                return
            await asyncio.sleep(LOOK_S)

    async def _on_message(self, message: Msg) -> None:
        self._arrived.append(message)
        self._wake.set()

    async def take(self) -> tuple[list[StoredMessage], str]:
        """What has arrived up to the first doubt, and that doubt."""
        now_s = asyncio.get_running_loop().time()
        arrived, self._arrived = self._arrived, []
        if not arrived:
            return [], "" if now_s - self._heard_s < SILENCE_S else "no heartbeat"
        self._heard_s = now_s
        messages: list[StoredMessage] = []
        for message in arrived:
            if message.reply.startswith("$JS.ACK."):
                self._count += 1
                if read_reply(message.reply).consumer_seq != self._count:
                    return messages, "a message is missing"
                messages.append(stored_message(message))
            elif not await self._control(message):
                return messages, "a message went missing before a heartbeat"
        return messages, ""

    async def _control(self, message: Msg) -> bool:
        """Answer flow control; False if a heartbeat tells of messages that never arrived."""
        headers = message.headers or {}
        answer_to = message.reply or headers.get(_STALLED)
        if answer_to:
            with suppress(Exception):  # not connected: then all of this begins again anyway
                await self._client.publish(answer_to)
        return int(headers.get(_LAST_CONSUMER, self._count)) <= self._count
