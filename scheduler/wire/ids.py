"""Ids and tokens: what may be one, how an execution id is made and taken apart (contract, part 2).

The execution id is deterministic: whoever computes it for one occurrence computes the same, and that is what makes
every repeat harmless. Its last token (no dots in it) holds the nominal time, so that `<schedule>.*` names exactly the
executions of one schedule even though `a` and `a.b` are both schedule ids.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from scheduler.core.errors import InvalidArgument

SCHEDULE_ID_MAX = 128
_SCHEDULE_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_CALENDAR = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_NAMESPACE = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}", re.ASCII)
_NOMINAL = re.compile(r"[0-9]{8}T[0-9]{9}Z", re.ASCII)
_TAIL = re.compile(r"(?P<at>[0-9]{8}T[0-9]{9}Z)(?:-(?P<kind>[mb])(?P<token>[A-Za-z0-9_-]{1,32}))?", re.ASCII)
_KINDS = {None: "auto", "m": "manual", "b": "backfill"}


def is_schedule_id(text: str) -> bool:
    return len(text) <= SCHEDULE_ID_MAX and ".." not in text and _SCHEDULE_ID.fullmatch(text) is not None


def check_schedule_id(text: str, *, field: str = "id") -> str:
    """The id itself, or InvalidArgument."""
    if not isinstance(text, str) or not is_schedule_id(text):
        rule = "letters, digits, '.', '_' and '-', beginning and ending with a letter or digit, no '..', at most 128"
        raise InvalidArgument(f"{text!r:.80} is not a schedule id: use {rule}", field=field)
    return text


def _check(pattern: re.Pattern[str], text: str, field: str, rule: str) -> str:
    if not isinstance(text, str) or pattern.fullmatch(text) is None:
        raise InvalidArgument(f"{text!r:.80} is not a {field}: use {rule}", field=field)
    return text


def check_queue(text: str, *, field: str = "queue") -> str:
    return _check(_QUEUE, text, field, "1 to 64 letters, digits, '_' and '-'")


def check_calendar_name(text: str, *, field: str = "id") -> str:
    """The name itself, or InvalidArgument."""
    if not is_calendar_name(text):
        rule = "1 to 64 letters, digits, '_' and '-'"
        raise InvalidArgument(f"{text!r:.80} is not the name of a calendar: use {rule}", field=field)
    return text


def is_calendar_name(text: str) -> bool:
    return isinstance(text, str) and _CALENDAR.fullmatch(text) is not None


def check_nonce(text: str, *, field: str = "nonce") -> str:
    return _check(_NONCE, text, field, "1 to 32 letters, digits, '_' and '-'")


def check_backfill_id(text: str, *, field: str = "backfill_id") -> str:
    return _check(_NONCE, text, field, "1 to 32 letters, digits, '_' and '-'")


def check_namespace(text: str, *, field: str = "namespace") -> str:
    return _check(_NAMESPACE, text, field, "lower-case letters, digits and '-', beginning with a letter, at most 32")


def check_type(text: str, *, field: str = "type") -> str:
    return _check(_TYPE, text, field, "letters, digits and '._:/-', beginning with a letter or digit, at most 128")


def format_nominal(at: datetime) -> str:
    """`20261121T080000000Z`: the nominal time as one subject token. The instant must be in UTC."""
    date = f"{at.year:04d}{at.month:02d}{at.day:02d}"  # strftime would write year 999 with three digits
    return f"{date}T{at.hour:02d}{at.minute:02d}{at.second:02d}{at.microsecond // 1000:03d}Z"


def parse_nominal(text: str) -> datetime:
    """The inverse of `format_nominal`. Raises ValueError for anything it cannot have made."""
    if _NOMINAL.fullmatch(text) is None:
        raise ValueError(f"not a nominal time: {text!r:.40}")
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    hour, minute, second, ms = int(text[9:11]), int(text[11:13]), int(text[13:15]), int(text[15:18])
    return datetime(year, month, day, hour, minute, second, ms * 1000, tzinfo=UTC)


def execution_id(schedule_id: str, nominal_at: datetime) -> str:
    return f"{schedule_id}.{format_nominal(nominal_at)}"


def manual_execution_id(schedule_id: str, nominal_at: datetime, nonce: str) -> str:
    return f"{schedule_id}.{format_nominal(nominal_at)}-m{nonce}"


def backfill_execution_id(schedule_id: str, nominal_at: datetime, backfill_id: str) -> str:
    return f"{schedule_id}.{format_nominal(nominal_at)}-b{backfill_id}"


class ExecutionKey(NamedTuple):
    """An execution id taken apart. `kind` is auto, manual or backfill; `token` the nonce or the backfill id."""

    schedule_id: str
    nominal_at: datetime
    kind: str
    token: str | None


def parse_execution_id(text: str, *, field: str = "id") -> ExecutionKey:
    """Raises InvalidArgument for anything that schedd cannot have made."""
    schedule_id, _, tail = text.rpartition(".") if isinstance(text, str) else ("", "", "")
    match = _TAIL.fullmatch(tail)
    if match is None or not is_schedule_id(schedule_id):
        raise InvalidArgument(f"{text!r:.80} is not an execution id", field=field)
    try:
        nominal_at = parse_nominal(match["at"])
    except ValueError:
        raise InvalidArgument(f"{text!r:.80} is not an execution id: its time is impossible", field=field) from None
    return ExecutionKey(schedule_id, nominal_at, _KINDS[match["kind"]], match["token"])


def is_execution_id(text: str) -> bool:
    """Whether schedd can have made it: anybody may put a task or a report under any name."""
    try:
        parse_execution_id(text)
    except InvalidArgument:
        return False
    return True
