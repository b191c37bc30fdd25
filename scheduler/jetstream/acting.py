"""Calls of custom actions: core requests, answered by one worker of the queue group."""

from __future__ import annotations

from nats.aio.client import Client as NatsClient
from nats.errors import NoRespondersError

from scheduler.core.errors import Internal, InvalidArgument, Unavailable, Unsure
from scheduler.jetstream.errors import from_exception
from scheduler.wire.actions import Answer, Call, decode_answer
from scheduler.wire.names import Names
from scheduler.wire.reports import encode


class NatsActions:
    """Implements `ports.actions.Actions`."""

    def __init__(self, client: NatsClient, names: Names) -> None:
        self._client, self._names = client, names

    async def call(self, schedule_id: str, action: str, call: Call, within_s: float) -> Answer:
        subject = self._names.action(action, schedule_id)
        try:
            reply = await self._client.request(subject, encode(call), timeout=within_s)
        except NoRespondersError:
            raise Unavailable(f"no worker listens for action {action!r} of schedule {schedule_id!r}") from None
        except TimeoutError:
            raise Unsure(f"no worker answered within {within_s:g} s") from None
        except Exception as problem:
            raise from_exception(problem, f"action {action}") from None
        try:
            return decode_answer(reply.data)
        except InvalidArgument as problem:
            raise Internal(f"a worker's answer makes no sense: {problem.message}") from None
