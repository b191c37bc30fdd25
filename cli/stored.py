"""What the daemon holds, as definitions: a few by their ids, or all that a selector names."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cli.bulk import carry_out
from scheduler.client import Client, schedules_request
from scheduler.core.errors import NotFound, ScheddError
from scheduler.wire import api
from scheduler.wire.applying import Stored

SINGLY_MAX = 100  # up to so many are asked for one by one; of more, everything is read
PAGE = 1000


async def fetch_some(client: Client, ids: Sequence[str]) -> dict[str, Stored]:
    """Those of these ids that exist. Raises ScheddError."""
    if len(ids) > SINGLY_MAX:
        wanted = set(ids)
        return {name: found for name, found in (await fetch_all(client, None)).items() if name in wanted}
    stored: dict[str, Stored] = {}
    async for schedule_id, outcome in carry_out(ids, client.schedules.get, title="Reading"):
        if isinstance(outcome, ScheddError):
            if not isinstance(outcome, NotFound):
                raise outcome
        else:
            stored[schedule_id] = stored_of(outcome)
    return stored


async def fetch_all(client: Client, selector: str | None) -> dict[str, Stored]:
    """All that the selector names (None: all), by id. Raises ScheddError."""
    request = schedules_request(selector=selector, limit=PAGE)
    stored: dict[str, Stored] = {}
    async for raw in client.calls.pages("schedule.list", request):
        item = api.decode_reply(bytes(raw), api.ScheduleItem)
        stored[item.id] = stored_of(item)
    return stored


def stored_of(item: api.ScheduleItem) -> Stored:
    document = None if item.raw_base64 is not None else json.loads(bytes(item.schedule))
    return Stored(item.revision, document if isinstance(document, dict) else None, item.status.error)
