"""A schedule as stored JSON: reading it without losing a byte of the payload, and changing its state only.

A worker gets its payload "as stored", so whatever edits a stored definition keeps every other value byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NoReturn

import msgspec

from scheduler.core.errors import InvalidArgument, PayloadTooLarge
from scheduler.wire.instants import format_instant
from scheduler.wire.nesting import DEPTH_MAX, is_too_deep
from scheduler.wire.schedule_values import RepeatedName

_PAYLOADS: Final = ("payload", "payload_base64")
STATE_FIELDS: Final = ("paused", "pause_note", "paused_until")


class _PayloadOnly(msgspec.Struct):
    payload: msgspec.Raw = msgspec.Raw(b"")


class _LabelsOnly(msgspec.Struct):
    labels: dict[str, str] = {}


_read_labels = msgspec.json.Decoder(_LabelsOnly).decode
_read_payload = msgspec.json.Decoder(_PayloadOnly).decode
_read_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_document(raw: bytes, bytes_max: int) -> tuple[Any, bytes | None]:
    """The decoded JSON and the payload's bytes exactly as they stand in it (None: no payload field).

    Raises InvalidArgument for what is no JSON (nor NaN and other extensions), PayloadTooLarge above `bytes_max`.
    Objects in which a name came twice are `RepeatedName`.
    """
    if len(raw) > bytes_max:
        raise PayloadTooLarge(f"the definition has {len(raw)} bytes, more than {bytes_max}", field="payload")
    if not raw:
        raise InvalidArgument("the value is empty: store a schedule as a JSON object")
    if is_too_deep(raw):
        raise InvalidArgument(f"the value is nested too deeply: at most {DEPTH_MAX} levels")
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
        has_payload = isinstance(document, dict) and "payload" in document
        return document, bytes(_read_payload(raw).payload) if has_payload else None
    except UnicodeDecodeError:
        raise InvalidArgument("the value is not UTF-8 text: store a schedule as a JSON object") from None
    except RecursionError:
        raise InvalidArgument("the value is nested too deeply to be read") from None
    except (ValueError, msgspec.MsgspecError) as problem:
        raise InvalidArgument(f"the value is not valid JSON: {str(problem)[:120]}") from None


def fields_of(raw: bytes) -> dict[str, Any]:
    """The values of a stored JSON object as `msgspec.Raw`, by name. Raises InvalidArgument if it is none."""
    try:
        document: dict[str, Any] = dict(_read_top(raw))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise InvalidArgument("the stored value is not a JSON object: put a valid schedule first") from None
    return document


def encode_document(document: Mapping[str, Any]) -> bytes:
    """The JSON to store for a decoded document: compact, its fields in the given order.

    A value that is `msgspec.Raw` goes in as it is. Raises InvalidArgument for what JSON cannot say.
    """
    parts = [encode_value(name, "") + b":" + encode_value(value, str(name)[:64]) for name, value in document.items()]
    return b"{" + b",".join(parts) + b"}"


def encode_value(value: Any, field: str) -> bytes:
    """Compact JSON of one value, in UTF-8. Raises InvalidArgument that names `field`."""
    if isinstance(value, msgspec.Raw):
        return bytes(value)
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as problem:
        raise InvalidArgument(f"{field} cannot be written as JSON: {str(problem)[:120]}", field=field) from None


def same_definition(one: bytes, other: bytes) -> bool:
    """Whether two stored values say the same: order of fields, spaces and escapes apart. 1, 1.0 and true differ."""
    if one == other:
        return True
    try:
        return _canonical(one) == _canonical(other)
    except (ValueError, RecursionError):
        return False


def with_pause(raw: bytes, *, paused: bool, note: str | None = None, until: datetime | None = None) -> bytes:
    """The stored JSON, paused or not; every other field stays as it is. Resuming drops note and end.

    Raises InvalidArgument if the value is no JSON object.
    """
    document = fields_of(raw)
    for name in STATE_FIELDS:
        document.pop(name, None)
    if paused:
        document["paused"] = True
        if note is not None:
            document["pause_note"] = note
        if until is not None:
            document["paused_until"] = format_instant(until)
    return encode_document(document)


def without_payload(raw: bytes) -> bytes:
    """The stored JSON without what its workers get: all that says when it fires. Raises InvalidArgument."""
    document = fields_of(raw)
    return encode_document({name: value for name, value in document.items() if name not in _PAYLOADS})


def labels_of(raw: bytes) -> dict[str, str]:
    """The labels in a stored value, valid or not, so that what is invalid can be selected too."""
    try:
        return _read_labels(raw).labels
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return {}


def keep_pause(document: Mapping[str, Any], stored: bytes | None) -> dict[str, Any]:
    """The new document with the pause of the stored one, unless it says something about state itself."""
    if stored is None or any(name in document for name in STATE_FIELDS):
        return dict(document)
    try:
        old = fields_of(stored)
    except InvalidArgument:
        return dict(document)
    return {**document, **{name: json.loads(bytes(old[name])) for name in STATE_FIELDS if name in old}}


def keep_pause_raw(raw: bytes, stored: bytes | None) -> bytes:
    """`keep_pause` for a new definition that is JSON text itself: its bytes, if there is no pause to keep."""
    new = fields_of(raw)
    kept = keep_pause(new, stored)
    return raw if len(kept) == len(new) else encode_document(kept)


def _canonical(raw: bytes) -> str:
    loaded = json.loads(raw.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_repeats)
    return json.dumps(loaded, sort_keys=True)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else RepeatedName(pairs)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name came twice")
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")
