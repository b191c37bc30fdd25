"""Custom actions: what workers offer for schedules, and having it carried out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from msgspec import UNSET, Raw, UnsetType

from scheduler.client.calls import Calls, Patience
from scheduler.client.requests import PAGE
from scheduler.core.errors import InvalidArgument
from scheduler.wire import api
from scheduler.wire.actions import TIMEOUT_DEFAULT_S, TIMEOUT_MAX_S, check_action
from scheduler.wire.ids import check_schedule_id
from scheduler.wire.schedule_json import encode_value

ANSWER_S = 8.0
"""How long worker and daemon may take on top of the action's own time."""


def actions_request(*, schedule: str | None = None) -> api.ListActions:
    """A page of `action.list`. Raises InvalidArgument."""
    checked = None if schedule is None else check_schedule_id(schedule, field="schedule")
    return api.ListActions(schedule=checked, limit=PAGE)


def action_request(
    schedule_id: str,
    action: str,
    *,
    payload: Any | UnsetType = UNSET,
    timeout: float | timedelta = TIMEOUT_DEFAULT_S,
) -> api.InvokeAction:
    """Raises InvalidArgument that names the field."""
    timeout_s = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    if not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise InvalidArgument(f"timeout: use up to {TIMEOUT_MAX_S:g} s", field="timeout")
    return api.InvokeAction(
        schedule=check_schedule_id(schedule_id, field="schedule"),
        action=check_action(action),
        payload=UNSET if payload is UNSET else Raw(encode_value(payload, "payload")),
        timeout_s=timeout_s,
    )


class Actions:
    """What workers offer to do by hand for schedules."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(self, schedule: str | None = None) -> AsyncIterator[api.ActionItem]:
        """Those of a schedule, or all, by schedule and action."""
        async for item in self._calls.pages("action.list", actions_request(schedule=schedule)):
            yield api.decode_reply(bytes(item), api.ActionItem)

    async def invoke(
        self,
        schedule_id: str,
        action: str,
        payload: Any | UnsetType = UNSET,
        *,
        timeout: float | timedelta = TIMEOUT_DEFAULT_S,
    ) -> api.ActionReply:
        """Have one of the workers that offer it carry it out, and wait for its end, at most `timeout` (seconds).

        Never repeated by itself. Raises NotFound, Unavailable (nothing has happened), Unsure (it may have happened).
        """
        request = action_request(schedule_id, action, payload=payload, timeout=timeout)
        patience = Patience(request.timeout_s + ANSWER_S, 0.0)
        deadline = asyncio.get_running_loop().time() + patience.try_s
        return await self._calls.call("action.invoke", request, api.ActionReply, patience, deadline)
