"""Pipelined requests to JetStream over one inbox, and atomic batches (ADR-50).

`nats-py` spends a task and a timer on each request; here a request costs a dictionary entry and a future, and only a
whole group has a timer. A time-out means *unknown*, never *failed*: it comes out as `Unsure`.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from scheduler.core.errors import ScheddError, Unavailable, Unsure
from scheduler.jetstream.errors import ApiError, Place, check_led, from_api, from_exception, refusal
from scheduler.wire import headers as h

TIMEOUT_S = 5.0
_TOLD_BY_A_LEADER = ("STREAM.INFO.", "CONSUMER.INFO.")


class Ack(Struct):
    """A publish acknowledgement, or the refusal in its place."""

    seq: int = 0
    stream: str = ""
    duplicate: bool = False
    count: int = 0
    error: ApiError | None = None


class Message(Struct):
    """One message to publish."""

    subject: str
    payload: bytes = b""
    headers: dict[str, str] | None = None


class _Stored(Struct):
    subject: str = ""
    seq: int = 0
    data: str = ""
    hdrs: str = ""
    time: datetime | None = None


class _StoredReply(Struct):
    message: _Stored | None = None
    error: ApiError | None = None


class StoredMessage(Struct, frozen=True):
    """A message read from a stream by the leader."""

    subject: str
    seq: int
    data: bytes
    headers: Mapping[str, str]
    at: datetime


_ACK = msgspec.json.Decoder(Ack)
_STORED = msgspec.json.Decoder(_StoredReply)
_encode = msgspec.json.encode


class Requests:
    """Sends requests and publishes with acknowledgements; one instance per connection."""

    def __init__(self, client: NatsClient, *, timeout_s: float = TIMEOUT_S) -> None:
        self.client = client
        self.timeout_s = timeout_s
        self.before_commit: Callable[[], Awaitable[None]] | None = None  # a test's stop point
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._numbers = itertools.count(1)
        self._inbox = ""
        self._subscription: Subscription | None = None

    @property
    def is_open(self) -> bool:
        return self._subscription is not None

    async def open(self) -> None:
        self._inbox = self.client.new_inbox() + "."
        self._subscription = await self.client.subscribe(self._inbox + "*", cb=self._on_reply)

    async def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self.client.is_closed:
            await subscription.unsubscribe()
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    async def _on_reply(self, message: Msg) -> None:
        future = self._waiting.pop(message.subject, None)
        if future is not None and not future.done():
            future.set_result(message)

    async def send(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None
    ) -> asyncio.Future[Msg]:
        """Send one request and return the future of its reply. Raises Unavailable when not connected."""
        reply = self._inbox + str(next(self._numbers))
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = future
        try:
            await self.client.publish(subject, payload, reply=reply, headers=headers)
        except BaseException as problem:
            self._waiting.pop(reply, None)
            if isinstance(problem, Exception):
                raise from_exception(problem, subject) from None
            raise
        return future

    async def collect(
        self, futures: Sequence[asyncio.Future[Msg]], timeout_s: float | None = None
    ) -> list[Msg | ScheddError]:
        """The replies, in order; what did not come in time is `Unsure`, what nobody serves `Unavailable`."""
        waiting = [future for future in futures if not future.done()]
        if waiting:
            try:
                await asyncio.wait(waiting, timeout=timeout_s or self.timeout_s)
            finally:
                self._forget([future for future in waiting if not future.done()])
        return [_reply_of(future) or self._silence() for future in futures]

    def _silence(self) -> Unsure:
        refused = refusal(self.client)
        return Unsure("no answer from NATS in time" + (f", which has refused: {refused}" if refused else ""))

    def _forget(self, futures: Sequence[asyncio.Future[Msg]]) -> None:
        if not futures:
            return
        gone = set(map(id, futures))
        self._waiting = {key: future for key, future in self._waiting.items() if id(future) not in gone}
        for future in futures:
            future.cancel()

    async def call(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, timeout_s: float | None = None
    ) -> Msg:
        """One request, one reply. Raises Unsure, Unavailable."""
        (reply,) = await self.collect([await self.send(subject, payload, headers)], timeout_s)
        if isinstance(reply, ScheddError):
            raise type(reply)(f"{subject}: {reply.message}")
        return reply

    async def api(
        self, subject: str, request: Any = None, timeout_s: float | None = None, *, by_leader: bool = True
    ) -> dict[str, Any]:
        """One `$JS.API` request as a dictionary. Raises what its `error` stands for; Unavailable for what is told of a
        stream or consumer `by_leader` alone, and is not."""
        payload = b"" if request is None else _encode(request)
        reply = await self.call(f"$JS.API.{subject}", payload, timeout_s=timeout_s)
        body: dict[str, Any] = msgspec.json.decode(reply.data)
        if body.get("error"):
            raise from_api(msgspec.convert(body["error"], ApiError), subject)
        if by_leader and subject.startswith(_TOLD_BY_A_LEADER):
            check_led(msgspec.convert(body.get("cluster"), Place | None), subject)
        return body

    # --- publishing

    async def publish_many(
        self, messages: Sequence[Message], timeout_s: float | None = None
    ) -> list[Ack | ScheddError]:
        """Publish each message on its own, pipelined; for each its ack or its error, in order."""
        futures: list[asyncio.Future[Msg]] = []
        failure: ScheddError | None = None
        for message in messages:
            try:
                futures.append(await self.send(message.subject, message.payload, message.headers))
            except ScheddError as problem:
                failure = problem
                break
        replies = await self.collect(futures, timeout_s)
        results: list[Ack | ScheddError] = [
            read_ack(reply, message.subject) for reply, message in zip(replies, messages, strict=False)
        ]
        if failure is not None:
            results += [failure] * (len(messages) - len(results))
        return results

    async def publish(self, message: Message, timeout_s: float | None = None) -> Ack:
        """Publish one message. Raises Conflict, Unsure, Unavailable."""
        (result,) = await self.publish_many([message], timeout_s)
        if isinstance(result, ScheddError):
            raise result
        return result

    async def publish_batch(self, messages: Sequence[Message], timeout_s: float | None = None) -> Ack:
        """Publish up to 1000 messages of one stream atomically; the ack carries the sequence of the last one.

        They get contiguous sequences (measured, R1 and R3). Raises Conflict, Unsure, Unavailable.
        """
        return await (await self.start_batch(messages)).result(timeout_s)

    async def start_batch(self, messages: Sequence[Message]) -> PendingBatch:
        """Send a whole atomic batch without waiting for its answer: several may be under way at once."""
        batch_id, last = secrets.token_hex(8), len(messages)
        first_reply: asyncio.Future[Msg] | None = None
        for number, message in enumerate(messages, start=1):
            headers = {**(message.headers or {}), h.BATCH_ID: batch_id, h.BATCH_SEQUENCE: str(number)}
            if number == last:
                await self._staged()
                headers[h.BATCH_COMMIT] = "1"
                commit = await self.send(message.subject, message.payload, headers)
            elif number == 1:
                first_reply = await self.send(message.subject, message.payload, headers)
            else:
                await self._publish_plain(message.subject, message.payload, headers)
        return PendingBatch(self, messages[-1].subject, first_reply, commit)

    async def _staged(self) -> None:
        """Between the last staged message and the commit: where a test stops a leader, with all of it sent."""
        if self.before_commit is not None:
            await self.client.flush()
            await self.before_commit()

    async def _publish_plain(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        try:
            await self.client.publish(subject, payload, headers=headers)
        except Exception as problem:
            raise from_exception(problem, subject) from None

    # --- reading

    async def stored_many(self, stream: str, queries: Sequence[dict[str, Any]]) -> list[StoredMessage | None]:
        """Leader reads (`STREAM.MSG.GET`), pipelined: None where there is no such message. Raises Unsure, Unavailable.

        A query is {"seq": n}, {"last_by_subj": s} (wildcards allowed) or {"seq": n, "next_by_subj": s}.
        """
        subject = f"$JS.API.STREAM.MSG.GET.{stream}"
        futures = [await self.send(subject, _encode(query)) for query in queries]
        return [read_stored(reply, subject) for reply in await self.collect(futures)]

    async def stored(self, stream: str, query: dict[str, Any]) -> StoredMessage | None:
        (message,) = await self.stored_many(stream, [query])
        return message


class PendingBatch:
    """An atomic batch that is under way."""

    def __init__(
        self, requests: Requests, subject: str, first: asyncio.Future[Msg] | None, commit: asyncio.Future[Msg]
    ) -> None:
        self._requests, self._subject, self._first, self._commit = requests, subject, first, commit

    async def result(self, timeout_s: float | None = None) -> Ack:
        """The commit's ack. Raises Conflict (an expectation failed, nothing is stored), Unsure, Unavailable."""
        futures = [self._commit] if self._first is None else [self._first, self._commit]
        *opening, reply = await self._requests.collect(futures, timeout_s)  # both, so that neither is waited for on
        for message in opening:
            if isinstance(message, Msg) and message.data:
                _raise_error(read_ack(message, self._subject))
        return _raise_error(read_ack(reply, self._subject))


def _raise_error(ack: Ack | ScheddError) -> Ack:
    if isinstance(ack, ScheddError):
        raise ack
    return ack


def _reply_of(future: asyncio.Future[Msg]) -> Msg | ScheddError | None:
    if not future.done() or future.cancelled():
        return None
    message = future.result()
    if message.headers and message.headers.get("Status") == "503":
        return Unavailable("nobody serves this: JetStream is off, or the stream is not there yet")
    return message


def read_ack(reply: Msg | ScheddError, doing: str) -> Ack | ScheddError:
    """A publish acknowledgement, or the error it tells."""
    if isinstance(reply, ScheddError):
        return type(reply)(f"{doing}: {reply.message}")
    try:
        ack = _ACK.decode(reply.data)
    except msgspec.DecodeError as problem:
        return Unavailable(f"{doing}: unreadable acknowledgement: {problem}")
    return from_api(ack.error, doing) if ack.error else ack


def read_stored(reply: Msg | ScheddError, doing: str) -> StoredMessage | None:
    """A message read by `STREAM.MSG.GET`; None for "no message found". Raises the rest."""
    if isinstance(reply, ScheddError):
        raise type(reply)(f"{doing}: {reply.message}")
    body = _STORED.decode(reply.data)
    if body.error is not None:
        if body.error.code == 404 and body.error.err_code != 10059:
            return None
        raise from_api(body.error, doing)
    stored = body.message
    if stored is None or stored.time is None:
        raise Unavailable(f"{doing}: unreadable answer")
    return StoredMessage(
        subject=stored.subject,
        seq=stored.seq,
        data=_base64(stored.data),
        headers=_parse_headers(_base64(stored.hdrs)),
        at=stored.time.replace(microsecond=stored.time.microsecond // 1000 * 1000),
    )


def _base64(text: str) -> bytes:
    return msgspec.convert(text, bytes) if text else b""


def _parse_headers(raw: bytes) -> dict[str, str]:
    """`NATS/1.0\\r\\nName: value\\r\\n\\r\\n` as a dictionary."""
    found: dict[str, str] = {}
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found[name.decode("utf-8", "replace")] = value.strip().decode("utf-8", "replace")
    return found
