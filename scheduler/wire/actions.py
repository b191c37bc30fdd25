"""Custom actions: what a worker offers for a schedule, the call that a daemon sends it, and its answer.

A call is a core request on `<namespace>.action.<action>.<schedule-id>`, queue group `actions`: one of the workers that
offer it answers. `action` is a token in subjects and on command lines; its title is for people.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import cut

ACTION_GROUP = "actions"
TITLE_MAX = 128
OFFERS_MAX = 100
"""Actions of one worker: they stand in its row, which is written every few seconds."""
TIMEOUT_DEFAULT_S = 30.0
TIMEOUT_MAX_S = 300.0
NO_PAYLOAD = Raw(b"")

_Body = TypeVar("_Body", bound=Struct)
_ACTION = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


class Offer(Struct, frozen=True, kw_only=True):
    """One action of a worker, as it stands in its row."""

    schedule: str
    action: str
    title: str = ""


class Call(Struct, frozen=True, kw_only=True):
    """What a worker is asked. Who has not begun at `until` leaves it: nobody waits any more."""

    payload: Raw = NO_PAYLOAD
    timeout_s: Annotated[float, Meta(gt=0, le=TIMEOUT_MAX_S)] = TIMEOUT_DEFAULT_S
    until: Annotated[datetime, Meta(tz=True)] | None = None


class Fault(Struct, frozen=True):
    """Why an action did not succeed; the traceback is in the worker's log."""

    type: str
    message: str


class Answer(Struct, frozen=True, kw_only=True):
    """How it ended: succeeded, failed, timed_out, or `refused` (not begun: the worker has no place, or stops)."""

    outcome: str
    worker: str
    duration_s: float = 0.0
    result: Raw = Raw(b"null")
    error: Fault | None = None


def check_action(text: str, field: str = "action") -> str:
    """The token, or InvalidArgument."""
    if not _ACTION.fullmatch(text):
        said = "write it in small letters, digits, - and _, at most 64 of them"
        raise InvalidArgument(f"{field}: {text[:80]!r} is no name of an action: {said}", field=field)
    return text


def slug(title: str) -> str:
    """The token of a title: "Rebuild index!" is `rebuild-index`; empty where nothing of it can be one."""
    plain = unicodedata.normalize("NFKD", title.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64].rstrip("-")


def decode_call(body: bytes) -> Call:
    """Raises InvalidArgument."""
    call = _decode(body, Call)
    return call if call.until is None else msgspec.structs.replace(call, until=cut(call.until))


def decode_answer(body: bytes) -> Answer:
    """Raises InvalidArgument."""
    return _decode(body, Answer)


def _decode(body: bytes, kind: type[_Body]) -> _Body:
    try:
        body.decode()  # what is kept raw would not be looked at
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as problem:
        raise InvalidArgument(f"this is no {kind.__name__.lower()} of an action: {problem}") from None
