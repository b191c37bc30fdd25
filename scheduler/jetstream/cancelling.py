"""Cancel messages: core NATS, to whichever worker has the execution in hand."""

from __future__ import annotations

from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError

from scheduler.core.errors import Unavailable
from scheduler.core.model.execution import Action
from scheduler.wire.names import Names
from scheduler.wire.reports import Cancel, encode


class NatsCancels:
    """Implements `ports.queues.Cancels`."""

    def __init__(self, client: NatsClient, names: Names) -> None:
        self._client, self._names = client, names

    async def send(self, queue: str, execution_id: str, action: Action, grace_s: float | None, drive: int = 0) -> None:
        body = encode(Cancel(action=action, grace_s=grace_s, drive=drive or None))
        try:
            await self._client.publish(self._names.cancel(queue, execution_id), body)
        except (NatsError, OSError) as problem:
            raise Unavailable(f"a cancel message was not sent: {problem}") from None
