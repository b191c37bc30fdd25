"""Raw pull batches: one `MSG.NEXT` for many messages, on one inbox, without a task per message (notes/nats.md, 4)."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from scheduler.jetstream.errors import from_exception

GRACE_S = 2.0  # how long after its expiry a pull request without any answer is given up
RETRY_S = 0.5  # pause after the server said that the consumer is gone or has no leader
HAND_BACK = b"-NAK"
FILL_S = 0.002  # how long the first message of a batch waits for company


class Puller:
    """Pulls from one consumer. At most one request is open, and at most two batches are held.

    `hands_back`: of no use, and a matter of permissions, where a consumer wants no acks.
    """

    def __init__(self, client: NatsClient, stream: str, consumer: str, *, hands_back: bool = True) -> None:
        self._client = client
        self._hands_back = hands_back
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._buffer: list[Msg] = []
        self._arrived = asyncio.Event()
        self._open_request = ""
        self._left = 0
        self._give_up_at = 0.0
        self._pause_until = 0.0
        self._numbers = itertools.count(1)
        self._inbox = ""
        self._subscription: Subscription | None = None
        self.trouble = ""  # the last status that was neither "no messages" nor "time-out"

    async def open(self) -> None:
        self._inbox = self._client.new_inbox() + "."
        self._subscription = await self._client.subscribe(self._inbox + "*", cb=self._on_message)

    async def close(self) -> None:
        """Pull no more, and hand back what nobody has taken yet: others shall not wait for it until the ack wait."""
        subscription, self._subscription = self._subscription, None
        if subscription is None or self._client.is_closed:
            return
        await subscription.unsubscribe()
        held, self._buffer = self._buffer, []
        if self._hands_back:
            for message in held:
                await self._client.publish(message.reply, HAND_BACK)
            await self._client.flush()

    async def pull(self, batch: int, expires_s: float) -> list[Msg]:
        """Up to `batch` messages; empty after about `expires_s` without any. Raises Unavailable when not connected."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + expires_s
        while not self._buffer:
            await self._ask(batch, expires_s)
            self._arrived.clear()
            left = deadline - loop.time()
            if left <= 0:
                return []
            try:
                async with asyncio.timeout(min(left, RETRY_S)):
                    await self._arrived.wait()
            except TimeoutError:
                continue
        if len(self._buffer) < batch and self._left:
            await asyncio.sleep(FILL_S)
        taken, self._buffer = self._buffer[:batch], self._buffer[batch:]
        if not self._buffer:
            await self._ask(batch, expires_s)  # the next batch travels while this one is worked on
        return taken

    async def _ask(self, batch: int, expires_s: float) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._pause_until or (self._left and now < self._give_up_at):
            return
        self._open_request = self._inbox + str(next(self._numbers))
        self._left = batch
        self._give_up_at = now + expires_s + GRACE_S
        request = msgspec.json.encode({"batch": batch, "expires": int(expires_s * 1e9)})
        try:
            await self._client.publish(self._subject, request, reply=self._open_request)
        except Exception as problem:
            self._left = 0
            raise from_exception(problem, self._subject) from None

    async def _on_message(self, message: Msg) -> None:
        if message.subject.startswith(self._inbox):
            self._on_status(message)
            return
        self._left = max(0, self._left - 1)
        self._buffer.append(message)
        self._arrived.set()

    def _on_status(self, message: Msg) -> None:
        if message.subject != self._open_request:
            return
        self._left = 0
        status = (message.headers or {}).get("Status", "")
        if status not in {"404", "408"}:
            told = (message.headers or {}).get("Description", "").partition("\n")[0]  # the client adds a header line
            self.trouble = f"{status} {told}".strip()
            self._pause_until = asyncio.get_running_loop().time() + RETRY_S
        self._arrived.set()
