"""Twin of the timeline: the same fence, the same firing, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scheduler.core.errors import Conflict, Fenced, Internal, InvalidArgument
from scheduler.core.model.occurrence import Occurrence
from scheduler.memory.messages import Delivery, Message, Write
from scheduler.memory.server import MemoryServer
from scheduler.ports.timeline import Due, Office, Poison, Stored, Watermark
from scheduler.wire.instants import format_instant
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

MARKER_TTL_S = 1.0
NO_EPOCH = 2**53


class MemoryTimeline:
    """Implements `ports.timeline.Timeline`; one instance per replica."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._stream = server.timeline
        self._names = server.names

    async def open(self) -> None:
        """Nothing to open: here so that a test may treat both timelines alike."""

    async def close(self) -> None:
        """Nothing to close."""

    # --- the fence

    async def epoch(self) -> Stored | None:
        found = self._last(self._names.epoch)
        if found is None:
            return None
        body = decode_epoch(found.data)
        return Stored(found.seq, epoch_holder=body.holder, lease_rev=body.lease_rev)

    async def watermark(self) -> Stored | None:
        found = self._last(self._names.watermark)
        if found is None:
            return None
        body = decode_watermark(found.data)
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
        epoch = Write(self._names.epoch, body, expect=expect_epoch, rollup=True)
        last = self._write([epoch, self._watermark_write(watermark, expect_watermark)])
        return Office(epoch=last - 1, watermark_seq=last, watermark=watermark)

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
        writes = {write.subject: write for write in self._disarms(disarms, office.epoch)}
        writes |= {write.subject: write for write in self._arms(arms, office.epoch)}
        last = self._write([*writes.values(), self._watermark_write(watermark, office.watermark_seq)])
        return Office(epoch=office.epoch, watermark_seq=last, watermark=watermark)

    async def prove_fence(self) -> None:
        probe = Write(f"{self._names.namespace}.arm._fence.0", expect=NO_EPOCH, expect_on=self._names.epoch, ttl_s=1.0)
        try:
            self._write([probe])
        except Fenced:
            return
        raise Internal("a write with a wrong epoch was accepted")

    def _write(self, batch: Sequence[Write]) -> int:
        try:
            return self._server.write(self._stream, batch)
        except Conflict as problem:
            raise Fenced(problem.message) from None

    def _last(self, subject: str) -> Message | None:
        self._server.check()
        return self._stream.last_of(subject)

    def _arms(self, arms: Sequence[Occurrence], epoch: int) -> list[Write]:
        return [
            Write(
                self._names.arm(each.schedule_id, each.nominal_at),
                encode_armed(generation=each.generation, fire_at=format_instant(each.fire_at), epoch=epoch),
                expect=epoch,
                expect_on=self._names.epoch,
                fire_at=each.fire_at,
                target=self._names.due(each.schedule_id, each.nominal_at),
            )
            for each in arms
        ]

    def _disarms(self, disarms: Sequence[tuple[str, datetime]], epoch: int) -> list[Write]:
        return [
            Write(
                self._names.arm(schedule_id, nominal_at),
                expect=epoch,
                expect_on=self._names.epoch,
                rollup=True,
                ttl_s=MARKER_TTL_S,
            )
            for schedule_id, nominal_at in disarms
        ]

    def _watermark_write(self, watermark: Watermark, expect: int) -> Write:
        body = encode_watermark(until=watermark.until, applied=watermark.applied, calendars=watermark.calendars)
        return Write(self._names.watermark, body, expect=expect, rollup=True)

    # --- what is armed

    async def armed(self, schedule_id: str) -> list[datetime]:
        return self._listed(self._names.arms_of(schedule_id)).get(schedule_id, [])

    async def undispatched(self, schedule_id: str) -> list[datetime]:
        return self._listed(self._names.due_of(schedule_id), "due").get(schedule_id, [])

    async def armed_for(self, schedule_id: str, nominal_at: datetime) -> datetime | None:
        found = self._last(self._names.arm(schedule_id, nominal_at))
        return None if found is None else fire_at_of(found.data)

    async def all_armed(self) -> dict[str, list[datetime]]:
        return self._listed(self._names.all_arms)

    def _listed(self, pattern: str, word: str = "arm") -> dict[str, list[datetime]]:
        self._server.check()
        found: dict[str, list[datetime]] = {}
        for subject in self._stream.subjects(pattern):
            try:
                key = parse_occurrence_subject(subject, f"{self._names.namespace}.{word}")
            except InvalidArgument:
                continue
            found.setdefault(key.schedule_id, []).append(key.nominal_at)
        return {schedule_id: sorted(nominals) for schedule_id, nominals in found.items()}

    # --- what is due

    async def pull_due(self, batch: int, expires_s: float) -> list[Due | Poison]:
        self._server.check()
        return [self._read(delivery) for delivery in await self._server.due.pull(batch, expires_s)]

    def _read(self, delivery: Delivery) -> Due | Poison:
        message = delivery.message
        try:
            key = parse_occurrence_subject(message.subject, f"{self._names.namespace}.due")
            armed = decode_armed(message.data)
        except InvalidArgument as problem:
            return Poison(subject=message.subject, ack=delivery.token, problem=problem.message)
        return Due(
            schedule_id=key.schedule_id,
            nominal_at=key.nominal_at,
            fire_at=armed.fire_at,
            generation=armed.generation,
            epoch=armed.epoch,
            ack=delivery.token,
            delivered=delivery.delivered,
            at=message.at,
        )

    async def ack(self, tokens: Sequence[str]) -> None:
        self._server.check()
        for token in tokens:
            self._server.due.ack(token)

    async def working(self, tokens: Sequence[str]) -> None:
        self._server.check()
        for token in tokens:
            self._server.due.working(token)

    async def later(self, tokens: Sequence[str], delay_s: float) -> None:
        self._server.check()
        for token in tokens:
            self._server.due.nak(token, delay_s)

    async def due_floor(self) -> int:
        self._server.check()
        return self._server.due.ack_floor

    async def oldest_due(self) -> int | None:
        self._server.check()
        return self._stream.first_matching(self._names.all_due)

    async def deliver_from(self, seq: int) -> None:
        self._server.check()
        self._server.due.reset(seq)
