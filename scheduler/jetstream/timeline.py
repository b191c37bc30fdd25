"""The timeline on JetStream: armed occurrences are message schedules (ADR-51), the fence is an expectation on them.

Each arm and disarm expects the epoch subject's last sequence to be the office's, and the watermark that closes the
batch expects its own: one atomic batch (ADR-50), so a stale office is refused whole, even when it arms nothing.
An arm replaces what stood on its subject. A disarm is a roll-up with a TTL, never a purge: a purge is not fenced, and
a plain message would leave the schedule behind for a crash to resurrect (notes/nats.md, 1.5 and 1.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from scheduler.core.errors import Conflict, Fenced, Internal, InvalidArgument, ScheddError
from scheduler.core.model.occurrence import Occurrence
from scheduler.jetstream.delivery import ACK, WORKING, answer, read_reply
from scheduler.jetstream.errors import InFlight
from scheduler.jetstream.pulling import Puller
from scheduler.jetstream.requests import Ack, Message, Requests, StoredMessage
from scheduler.ports.timeline import Due, Office, Poison, Stored, Watermark
from scheduler.wire import headers as h
from scheduler.wire.ids import format_nominal
from scheduler.wire.instants import EPOCH, format_instant
from scheduler.wire.names import DISPATCHER, Names
from scheduler.wire.timeline import (
    BATCH_MAX,
    decode_armed,
    decode_epoch,
    decode_watermark,
    encode_armed,
    encode_epoch,
    encode_watermark,
    fire_at_of,
    parse_occurrence_subject,
)

MARKER_TTL = "1"  # seconds that a disarm stays to be seen
LISTED_AT_ONCE = 2_000
NO_EPOCH = 2**53  # no stream gets that far
PROOF_PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # between two attempts to prove the fence


class NatsTimeline:
    """Implements `ports.timeline.Timeline`. `open` before use, `close` after."""

    def __init__(self, requests: Requests, client: NatsClient, names: Names) -> None:
        self._requests = requests
        self._client = client
        self._names = names
        self._puller = Puller(client, names.timeline, DISPATCHER)

    async def open(self) -> None:
        await self._puller.open()

    async def close(self) -> None:
        await self._puller.close()

    # --- the fence

    async def epoch(self) -> Stored | None:
        """Raises Internal when the message cannot be read, Unsure, Unavailable."""
        found = await self._last(self._names.epoch)
        if found is None:
            return None
        body = _own(decode_epoch, found)
        return Stored(found.seq, epoch_holder=body.holder, lease_rev=body.lease_rev)

    async def watermark(self) -> Stored | None:
        """Raises Internal when the message cannot be read, Unsure, Unavailable."""
        found = await self._last(self._names.watermark)
        if found is None:
            return None
        body = _own(decode_watermark, found)
        return Stored(found.seq, watermark=Watermark(body.until, body.applied, body.calendars))

    async def take_office(
        self,
        *,
        holder: str,
        lease_rev: int,
        at: datetime,
        expect_epoch: int,
        watermark: Watermark,
        expect_watermark: int,
    ) -> Office:
        body = encode_epoch(holder=holder, lease_rev=lease_rev, at=at)
        epoch = Message(self._names.epoch, body, _replacing(expect_epoch))
        ack = await self._publish([epoch, self._watermark_message(watermark, expect_watermark)], "taking office")
        return Office(epoch=ack.seq - 1, watermark_seq=ack.seq, watermark=watermark)

    async def commit(
        self,
        office: Office,
        *,
        arms: Sequence[Occurrence],
        disarms: Sequence[tuple[str, datetime]],
        watermark: Watermark,
    ) -> Office:
        if len(arms) + len(disarms) > BATCH_MAX:
            raise InvalidArgument(f"a planning batch holds at most {BATCH_MAX} arms and disarms")
        closing = self._watermark_message(watermark, office.watermark_seq)
        ack = await self._publish([*self._changes(office.epoch, arms, disarms), closing], "planning batch")
        return Office(epoch=office.epoch, watermark_seq=ack.seq, watermark=watermark)

    async def prove_fence(self) -> None:
        """The probe is a disarm of nothing: should the storage accept it, it has done no harm before we refuse.

        While a batch of the leader is being replicated, everything that names the epoch is refused for that (10164),
        which proves nothing: with several stream replicas and a busy leader that is nothing rare, so it asks again.
        """
        probe = f"{self._names.namespace}.arm._fence.{format_nominal(EPOCH)}"
        for pause_s in (*PROOF_PAUSES_S, None):
            try:
                await self._requests.publish(Message(probe, b"", _disarming(self._fence(NO_EPOCH))))
            except Conflict:
                return
            except InFlight:
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            else:
                break
        raise Internal(f"stream {self._names.timeline} accepted a write with a wrong epoch: refusing to plan on it")

    async def _publish(self, messages: Sequence[Message], doing: str) -> Ack:
        try:
            return await self._requests.publish_batch(messages)
        except Conflict as problem:
            raise Fenced(f"{doing}: {problem.message}") from None

    async def _last(self, subject: str) -> StoredMessage | None:
        return await self._requests.stored(self._names.timeline, {"last_by_subj": subject})

    # --- messages of a batch

    def _fence(self, epoch: int) -> dict[str, str]:
        return {
            h.EXPECTED_LAST_SUBJECT_SEQUENCE: str(epoch),
            h.EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT: self._names.epoch,
        }

    def _changes(
        self, epoch: int, arms: Sequence[Occurrence], disarms: Sequence[tuple[str, datetime]]
    ) -> Iterable[Message]:
        """One message per subject, since the server refuses a batch that rolls one up twice; an arm wins."""
        fence = self._fence(epoch)
        arm, due = f"{self._names.namespace}.arm.", f"{self._names.namespace}.due."
        messages: dict[str, Message] = {}
        for schedule_id, nominal_at in disarms:
            subject = self._names.arm(schedule_id, nominal_at)
            messages[subject] = Message(subject, b"", _disarming(fence))
        for occurrence in arms:
            key = f"{occurrence.schedule_id}.{format_nominal(occurrence.nominal_at)}"
            fire_at = format_instant(occurrence.fire_at)
            body = encode_armed(generation=occurrence.generation, fire_at=fire_at, epoch=epoch)
            headers = {h.SCHEDULE: "@at " + fire_at, h.SCHEDULE_TARGET: due + key, **fence}
            messages[arm + key] = Message(arm + key, body, headers)
        return messages.values()

    def _watermark_message(self, watermark: Watermark, expect: int) -> Message:
        body = encode_watermark(until=watermark.until, applied=watermark.applied, calendars=watermark.calendars)
        return Message(self._names.watermark, body, _replacing(expect))

    # --- what is armed

    async def armed(self, schedule_id: str) -> list[datetime]:
        """What was disarmed within the last second or so may still be listed: disarming it again is harmless."""
        return (await self._listed(self._names.arms_of(schedule_id))).get(schedule_id, [])

    async def undispatched(self, schedule_id: str) -> list[datetime]:
        return (await self._listed(self._names.due_of(schedule_id), "due")).get(schedule_id, [])

    async def armed_for(self, schedule_id: str, nominal_at: datetime) -> datetime | None:
        found = await self._last(self._names.arm(schedule_id, nominal_at))
        return None if found is None else fire_at_of(found.data)

    async def all_armed(self) -> dict[str, list[datetime]]:
        return await self._listed(self._names.all_arms)

    async def _listed(self, pattern: str, word: str = "arm") -> dict[str, list[datetime]]:
        found: dict[str, list[datetime]] = {}
        prefix = f"{self._names.namespace}.{word}"
        for number, subject in enumerate(await self._subjects(pattern)):
            if number % LISTED_AT_ONCE == 0:
                await asyncio.sleep(0)  # a hundred thousand take a while: the lease is to be renewed meanwhile
            try:
                key = parse_occurrence_subject(subject, prefix)
            except InvalidArgument:  # nothing schedd can have armed; should it fire, it comes out as poison
                continue
            found.setdefault(key.schedule_id, []).append(key.nominal_at)
        for nominals in found.values():
            nominals.sort()
        return found

    async def _subjects(self, pattern: str) -> set[str]:
        """Subjects that hold a message, page by page (the server gives at most 100,000 at once)."""
        found: set[str] = set()
        offset = 0
        while True:
            request = {"subjects_filter": pattern, "offset": offset}
            page = await self._requests.api(f"STREAM.INFO.{self._names.timeline}", request)
            subjects = page["state"].get("subjects") or {}
            found.update(subjects)
            offset += len(subjects)
            if not subjects or offset >= page.get("total", 0):
                return found

    # --- what is due

    async def pull_due(self, batch: int, expires_s: float) -> list[Due | Poison]:
        prefix = f"{self._names.namespace}.due"
        return [_read_due(message, prefix) for message in await self._puller.pull(batch, expires_s)]

    async def ack(self, tokens: Sequence[str]) -> None:
        await answer(self._client, tokens, ACK)

    async def working(self, tokens: Sequence[str]) -> None:
        await answer(self._client, tokens, WORKING)

    async def later(self, tokens: Sequence[str], delay_s: float) -> None:
        await answer(self._client, tokens, nak_body(delay_s))

    async def due_floor(self) -> int:
        info = await self._requests.api(f"CONSUMER.INFO.{self._names.timeline}.{DISPATCHER}")
        return int(info["ack_floor"]["stream_seq"])

    async def oldest_due(self) -> int | None:
        found = await self._requests.stored(self._names.timeline, {"seq": 1, "next_by_subj": self._names.all_due})
        return None if found is None else found.seq

    async def deliver_from(self, seq: int) -> None:
        await deliver_from(self._requests, self._names, seq)


async def deliver_from(requests: Requests, names: Names, seq: int) -> None:
    """See `ports.timeline.Timeline.deliver_from`. Raises NoConsumer as well."""
    await requests.api(f"CONSUMER.RESET.{names.timeline}.{DISPATCHER}", {"seq": seq})


_Body = TypeVar("_Body")


def _own(decode: Callable[[bytes], _Body], found: StoredMessage) -> _Body:
    """The body of a control message, which nobody but schedd writes. Raises Internal when it cannot be read."""
    try:
        return decode(found.data)
    except InvalidArgument as problem:
        raise Internal(f"{found.subject}, sequence {found.seq}: {problem.message}") from None


def _replacing(expect: int) -> dict[str, str]:
    """Headers of a control message: it replaces the one with that sequence (0: there is none yet)."""
    return {h.ROLLUP: "sub", h.EXPECTED_LAST_SUBJECT_SEQUENCE: str(expect)}


def _disarming(fence: dict[str, str]) -> dict[str, str]:
    return {h.ROLLUP: "sub", h.TTL: MARKER_TTL, **fence}


def _read_due(message: Msg, prefix: str) -> Due | Poison:
    try:
        delivery = read_reply(message.reply)
        key = parse_occurrence_subject(message.subject, prefix)
        armed = decode_armed(message.data)
    except ScheddError as problem:
        return Poison(subject=message.subject, ack=message.reply, problem=problem.message)
    return Due(
        schedule_id=key.schedule_id,
        nominal_at=key.nominal_at,
        fire_at=armed.fire_at,
        generation=armed.generation,
        epoch=armed.epoch,
        ack=message.reply,
        delivered=delivery.delivered,
        at=delivery.at,
    )


def nak_body(delay_s: float) -> bytes:
    """`-NAK {"delay": ns}`; without a delay the server would deliver it again at once."""
    return b"-NAK " + msgspec.json.encode({"delay": max(0, round(delay_s * 1e9))})
