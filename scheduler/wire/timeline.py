"""What stands on the timeline: the bodies of armed occurrences, epoch and watermark, and the subjects of due messages.

Contract, part 6: armed {v: 1, generation, fire_at, epoch} · epoch {holder, lease_rev, at} · watermark {until, applied,
calendars}. Reading raises InvalidArgument for whatever schedd cannot have written; an unknown field is ignored, so that
an older replica can read what a newer one wrote, and an unknown `v` is refused, because then it cannot.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.ids import is_schedule_id, parse_nominal
from scheduler.wire.instants import cut, format_instant

VERSION = 1
BATCH_MAX = 500
"""Arms and disarms of one fenced batch; the server refuses batches of more than 1000 messages."""

Instant = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0)]


class Armed(Struct, frozen=True, kw_only=True):
    """The body of an armed occurrence, and so of the due message that the server makes of it."""

    v: int
    generation: Count
    fire_at: Instant
    epoch: Count


class EpochBody(Struct, frozen=True, kw_only=True):
    """Who took office, with which revision of the lease, when."""

    holder: str
    lease_rev: Count
    at: Instant


class WatermarkBody(Struct, frozen=True, kw_only=True):
    """Planned up to nominal time `until`; edits applied up to `applied`, calendars up to `calendars`."""

    until: Instant
    applied: Count = 0
    calendars: Count = 0


class OccurrenceKey(NamedTuple):
    """Which occurrence a subject of the timeline names."""

    schedule_id: str
    nominal_at: datetime


_ARMED = msgspec.json.Decoder(Armed)
_EPOCH = msgspec.json.Decoder(EpochBody)
_WATERMARK = msgspec.json.Decoder(WatermarkBody)
_Body = TypeVar("_Body")


def encode_armed(*, generation: int, fire_at: str, epoch: int) -> bytes:
    """`fire_at` as text, which a planning batch needs for the header too; 500 times, so it is written by hand."""
    return b'{"v":1,"generation":%d,"fire_at":"%b","epoch":%d}' % (generation, fire_at.encode(), epoch)


def decode_armed(body: bytes) -> Armed:
    """Raises InvalidArgument for anything that is no armed body of this version."""
    armed = _decode(_ARMED, body, "armed body")
    if armed.v != VERSION:
        raise InvalidArgument(f"armed body: version {armed.v} is not known here, only {VERSION}", field="v")
    return msgspec.structs.replace(armed, fire_at=cut(armed.fire_at))


def fire_at_of(body: bytes) -> datetime | None:
    """The fire time in an armed body; None for what can be none, as the empty message that disarms."""
    try:
        return decode_armed(body).fire_at
    except InvalidArgument:
        return None


def encode_epoch(*, holder: str, lease_rev: int, at: datetime) -> bytes:
    return msgspec.json.encode({"holder": holder, "lease_rev": lease_rev, "at": format_instant(at)})


def decode_epoch(body: bytes) -> EpochBody:
    """Raises InvalidArgument."""
    epoch = _decode(_EPOCH, body, "epoch body")
    return msgspec.structs.replace(epoch, at=cut(epoch.at))


def encode_watermark(*, until: datetime, applied: int, calendars: int) -> bytes:
    """Also the value of the watermark's copy in the control bucket."""
    return b'{"until":"%b","applied":%d,"calendars":%d}' % (format_instant(until).encode(), applied, calendars)


def decode_watermark(body: bytes) -> WatermarkBody:
    """Raises InvalidArgument."""
    watermark = _decode(_WATERMARK, body, "watermark body")
    return msgspec.structs.replace(watermark, until=cut(watermark.until))


def parse_occurrence_subject(subject: str, prefix: str) -> OccurrenceKey:
    """`<prefix>.<schedule id>.<nominal>` taken apart, the id with its dots. Raises InvalidArgument."""
    schedule_id, _, nominal = subject[len(prefix) + 1 :].rpartition(".")
    if not subject.startswith(prefix + ".") or not is_schedule_id(schedule_id):
        raise InvalidArgument(f"{subject!r:.200} is not the subject of an occurrence", field="subject")
    try:
        return OccurrenceKey(schedule_id, parse_nominal(nominal))
    except ValueError as problem:
        raise InvalidArgument(f"{subject!r:.200} is not the subject of an occurrence: {problem}") from None


def _decode(decoder: msgspec.json.Decoder[_Body], body: bytes, what: str) -> _Body:
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as problem:
        reason, _, path = str(problem).partition(" - at `$.")
        field = path.rstrip("`") or None
        raise InvalidArgument(f"{what}: {field + ': ' if field else ''}{reason}", field=field) from None
