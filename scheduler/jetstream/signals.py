"""The advisories stream: what the server told about tasks, kept for 24 h, so that no replica need be there to hear."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from scheduler.core.errors import InvalidArgument
from scheduler.jetstream.delivery import ACK, answer
from scheduler.jetstream.errors import ApiError, Place, check_led, from_api, from_exception
from scheduler.jetstream.pulling import Puller
from scheduler.ports.queues import Poison, Progress, Signal
from scheduler.wire.advisories import decode_advisory
from scheduler.wire.names import TRACKER, Names

INFO_TIMEOUT_S = 2.0


class _Position(msgspec.Struct, frozen=True):
    stream_seq: int = 0


class _Info(msgspec.Struct):
    error: ApiError | None = None
    ack_floor: _Position = _Position()
    delivered: _Position = _Position()
    num_pending: int = 0
    num_ack_pending: int = 0
    cluster: Place | None = None


class NatsSignals:
    """Implements `ports.queues.Signals`. `open` before pulling, `close` after."""

    def __init__(self, client: NatsClient, names: Names) -> None:
        self._client = client
        self._names = names
        self._puller = Puller(client, names.advisories, TRACKER)

    async def open(self) -> None:
        await self._puller.open()

    async def close(self) -> None:
        await self._puller.close()

    async def pull(self, batch: int, expires_s: float) -> list[Signal | Poison]:
        return [self._read(message) for message in await self._puller.pull(batch, expires_s)]

    async def ack(self, tokens: Sequence[str]) -> None:
        await answer(self._client, tokens, ACK)

    async def progress(self) -> Progress:
        """The consumer has no filter and the stream no holes, so what is pending follows what was delivered."""
        subject = f"CONSUMER.INFO.{self._names.advisories}.{TRACKER}"
        try:
            reply = await self._client.request(f"$JS.API.{subject}", timeout=INFO_TIMEOUT_S)
        except Exception as problem:
            raise from_exception(problem, subject) from None
        info = msgspec.json.decode(reply.data, type=_Info)
        if info.error is not None:
            raise from_api(info.error, subject)
        check_led(info.cluster, subject)
        delivered = info.delivered.stream_seq
        folded = info.ack_floor.stream_seq if info.num_ack_pending else delivered
        return Progress(folded, delivered + info.num_pending)

    def _read(self, message: Msg) -> Signal | Poison:
        try:
            found = decode_advisory(self._names, message.data)
        except InvalidArgument as problem:
            return Poison(subject=message.subject, ack=message.reply, problem=problem.message)
        return Signal.of(found, ack=message.reply)
