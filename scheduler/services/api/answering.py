"""From an endpoint and a body to an answer: decode, carry out, encode; every failure becomes one sentence.

Nothing of the inside reaches the caller: what nobody foresaw is `internal`, and its traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from scheduler.core.errors import Internal, NotFound, ScheddError, Unsure
from scheduler.ports.api import Answer
from scheduler.ports.telemetry import Telemetry
from scheduler.services.api.executions import Executions
from scheduler.services.api.schedules import Schedules
from scheduler.services.api.status import Status
from scheduler.wire import api

log = logging.getLogger(__name__)
ANSWER_S = 12.0  # writes wait 5 s until they are applied, and a store may take 5 s to answer
Handle = Callable[[Any], Awaitable[Any]]


class Endpoint(Struct, frozen=True):
    """The type of the request, and who answers it."""

    request: type[api.Request]
    handle: Handle


class Answering:
    """Implements `ports.api.Api` over the use cases."""

    def __init__(self, endpoints: Mapping[str, Endpoint], telemetry: Telemetry, *, answer_s: float = ANSWER_S) -> None:
        self._endpoints, self._telemetry, self._answer_s = dict(endpoints), telemetry, answer_s

    @property
    def endpoints(self) -> Sequence[str]:
        return list(self._endpoints)

    async def answer(self, endpoint: str, body: bytes) -> Answer:
        """See `ports.api.Api.answer`."""
        known = self._endpoints.get(endpoint)
        try:
            answer = Answer(await self._carry_out(known, endpoint, body))
        except ScheddError as problem:
            answer = Answer(api.encode_error(problem), problem)
        code = "ok" if answer.error is None else answer.error.code
        self._telemetry.api_request(endpoint="_unknown" if known is None else endpoint, code=code)
        return answer

    async def _carry_out(self, known: Endpoint | None, endpoint: str, body: bytes) -> bytes:
        if known is None:
            raise NotFound(f"there is no endpoint {endpoint!r:.80}")
        request = api.decode_request(body, known.request)
        try:
            async with asyncio.timeout(self._answer_s):
                return api.encode(await known.handle(request))
        except ScheddError:
            raise
        except TimeoutError:
            raise Unsure(f"{endpoint} took longer than {self._answer_s:g} s: look before repeating it") from None
        except Exception:
            log.exception("an API request broke", extra={"event": "api_broke", "endpoint": endpoint})
            raise Internal(f"{endpoint} failed inside the daemon; its log says more") from None


def endpoints_of(schedules: Schedules, executions: Executions, status: Status) -> dict[str, Endpoint]:
    """Every endpoint of this version (contract, part 7)."""
    return {
        "schedule.put": Endpoint(api.PutSchedule, schedules.put),
        "schedule.get": Endpoint(api.Id, schedules.get),
        "schedule.list": Endpoint(api.ListSchedules, schedules.list),
        "schedule.delete": Endpoint(api.Id, schedules.delete),
        "schedule.pause": Endpoint(api.PauseSchedule, schedules.pause),
        "schedule.resume": Endpoint(api.Id, schedules.resume),
        "schedule.trigger": Endpoint(api.TriggerSchedule, schedules.trigger),
        "schedule.preview": Endpoint(api.PreviewSchedule, schedules.preview),
        "execution.list": Endpoint(api.ListExecutions, executions.list),
        "execution.get": Endpoint(api.Id, executions.get),
        "status.get": Endpoint(api.Nothing, status.get),
    }
