"""From an endpoint and a body to an answer: decode, carry out, encode; every failure becomes one sentence.

Nothing of the inside reaches the caller: what nobody foresaw is `internal`, and its traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from scheduler.core.errors import Internal, NotFound, ScheddError, Unsure
from scheduler.ports.api import Answer
from scheduler.services.api.endpoint import Endpoint, endpoints_of
from scheduler.services.api.nouns import Backing, nouns_of
from scheduler.services.api.status import Discover
from scheduler.services.api.telling import told_of
from scheduler.wire import api
from scheduler.wire.events import Kind

log = logging.getLogger(__name__)
ANSWER_S = 12.0  # writes wait 5 s until they are applied, and a store may take 5 s to answer


class Api:
    """Implements `ports.api.Api` over the use cases. `discover_replicas` is the transport's to set."""

    def __init__(self, backing: Backing, *, answer_s: float = ANSWER_S) -> None:
        self._telemetry, self._events, self._answer_s = backing.telemetry, backing.events, answer_s
        self.discover_replicas: Discover | None = None
        self.nouns = nouns_of(backing, self._discover)
        self._endpoints = {name: endpoint for noun in self.nouns for name, endpoint in endpoints_of(noun).items()}

    @property
    def endpoints(self) -> Sequence[str]:
        return list(self._endpoints)

    async def answer(self, endpoint: str, body: bytes, by: str | None = None) -> Answer:
        """See `ports.api.Api.answer`."""
        try:
            answer = Answer(await self._carry_out(self._endpoints.get(endpoint), endpoint, body, by))
        except ScheddError as problem:
            return self.refuse(endpoint, problem)
        self._count(endpoint, "ok")
        return answer

    def refuse(self, endpoint: str, error: ScheddError) -> Answer:
        """See `ports.api.Api.refuse`."""
        self._count(endpoint, error.code)
        return Answer(api.encode_error(error), error)

    def unsent(self, endpoint: str) -> None:
        """See `ports.api.Api.unsent`."""
        self._telemetry.dropped(what="api_reply", reason="disconnected")

    def _count(self, endpoint: str, code: str) -> None:
        known = endpoint if endpoint in self._endpoints else "_unknown"
        self._telemetry.api_request(endpoint=known, code=code)

    async def _tell(self, endpoint: str, request: api.Request, reply: object, by: str | None) -> None:
        told = told_of(endpoint, request, reply, by)
        if told is not None:
            schedule_id, data = told
            await self._events.publish(Kind.ADMIN, schedule_id, data)

    async def _discover(self) -> Sequence[api.ReplicaStatus]:
        return [] if self.discover_replicas is None else await self.discover_replicas()

    async def _carry_out(self, known: Endpoint | None, endpoint: str, body: bytes, by: str | None) -> bytes:
        if known is None:
            raise NotFound(f"there is no endpoint {endpoint!r:.80}")
        request = api.decode_request(body, known.request)
        within_s = known.within_s or self._answer_s
        try:
            async with asyncio.timeout(within_s):
                reply = await known.handle(request)
            await self._tell(endpoint, request, reply, by)
            return api.encode(reply)
        except ScheddError:
            raise
        except TimeoutError:
            raise Unsure(f"{endpoint} took longer than {within_s:g} s: look before repeating it") from None
        except Exception:
            log.exception("an API request broke", extra={"event": "api_broke", "endpoint": endpoint})
            raise Internal(f"{endpoint} failed inside the daemon; its log says more") from None
