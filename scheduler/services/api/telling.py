"""Events `admin`: who did what through the API, told once it is done.

Reads tell nothing, and neither do `put`, `delete`, `pause` and `resume` of schedules: what those change is told as
`applied`, `deleted`, `paused`, `resumed`, whichever way it was changed. Of a request only plain fields are told, never
a payload, a definition or whatever else may be large or secret.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.api import Request
from scheduler.wire.ids import is_schedule_id, parse_execution_id

READS = frozenset({"get", "list", "logs", "preview", "audit", "health"})
TOLD_OTHERWISE = frozenset({"schedule.put", "schedule.delete", "schedule.pause", "schedule.resume"})
SHOWN = frozenset({"id", "execution_id", "backfill_id", "state", "revision", "count", "outcome"})
BY_MAX = 128
TEXT_MAX = 256


def told_of(endpoint: str, request: Request, reply: Any, by: str | None) -> tuple[str | None, dict[str, object]] | None:
    """The schedule and the data of the event for a request that was carried out; None where there is none to tell."""
    if endpoint.rpartition(".")[2] in READS or endpoint in TOLD_OTHERWISE or getattr(request, "dry_run", False):
        return None
    asked = {name: value for name, value in _plain(request).items() if name != "id"}
    result = {name: value for name, value in _plain(reply).items() if name in SHOWN and name != "id"}
    target = getattr(request, "id", None)
    data: dict[str, object] = {"action": endpoint, "target": target, "by": by and by[:BY_MAX]}
    return _schedule_of(endpoint, request, reply), {**data, "request": asked, "result": result}


def _schedule_of(endpoint: str, request: Request, reply: Any) -> str | None:
    """Which schedule it was about."""
    target = getattr(request, "id", None)
    if endpoint.startswith("schedule."):
        return target
    if endpoint.startswith("execution.") and target is not None:
        try:
            return parse_execution_id(target).schedule_id
        except InvalidArgument:
            return None
    named = getattr(request, "schedule", None) or getattr(reply, "schedule", None)
    return named if isinstance(named, str) and is_schedule_id(named) else None


def _plain(body: Any) -> dict[str, Any]:
    """Texts, numbers and truth values among the fields that say something; of a record, which is raw, all of them."""
    if isinstance(body, Raw):
        fields: dict[str, Any] = msgspec.json.decode(body)
    elif isinstance(body, Struct):
        names = zip(body.__struct_fields__, body.__struct_encode_fields__, strict=True)
        fields = {shown: getattr(body, name) for name, shown in names}
    else:
        return {}
    told = {name: value for name, value in fields.items() if value is not UNSET and value is not None}
    return {
        name: value[:TEXT_MAX] if isinstance(value, str) else value
        for name, value in told.items()
        if isinstance(value, str | int | float)
    }
