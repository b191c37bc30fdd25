"""Registering what the code declares, when a worker starts: beside its work, and as often as it takes.

A worker serves its queues at once, whether or not a daemon answers: registering is tried until one does. Only a
conflict that the code calls an error, or a definition that the daemon refuses, ends the worker, with that sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nats.aio.client import Client as NatsClient

from scheduler.client import Client
from scheduler.core.errors import Conflict, NotFound, Unavailable
from scheduler.wire.applying import OWNER_LABEL
from scheduler.worker.declaring import Declared, Kept, Put, Refused, Stored, decide, orphans
from scheduler.worker.link import log

RETRY_S = 2.0
ROUNDS_MAX = 5  # others may edit the same schedule at the same time


class Registrar:
    """Registers the declared schedules of one worker over its own connection."""

    def __init__(
        self, connection: NatsClient, namespace: str, declared: Sequence[Declared], *, owner: str | None, force: bool
    ) -> None:
        self._client = Client(connection, namespace=namespace)
        self._declared, self._owner, self._force = declared, owner, force

    async def run(self) -> None:
        """Until everything is registered. Raises Conflict (`fail`), InvalidArgument (refused by the daemon)."""
        told = False
        while True:
            try:
                for declared in self._declared:
                    await self._register(declared)
                await self._tell_orphans()
            except Unavailable as problem:
                if not told:
                    log.warning("schedules are not registered yet: %s", problem, extra={"event": "worker.unregistered"})
                told = True
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _register(self, declared: Declared) -> None:
        """Read, decide, write; what somebody else wrote in between is read again. Raises Conflict, InvalidArgument."""
        for _ in range(ROUNDS_MAX):
            step = decide(declared, await self._stored(declared.id), force=self._force)
            extra = {"event": "worker.schedule", "schedule": declared.id}
            if isinstance(step, Refused):
                fields = ", ".join(step.fields)
                raise Conflict(f"schedule {declared.id!r} is stored with another {fields} than the code declares")
            if isinstance(step, Kept):
                log.warning(
                    "schedule %s is kept as stored: %s differ", declared.id, ", ".join(step.fields), extra=extra
                )
            if not isinstance(step, Put):
                return
            try:
                reply = await self._client.schedules.put(
                    declared.id, declared.definition, expected_revision=step.expected_revision
                )
            except Conflict:
                continue
            log.info("schedule %s stored as revision %d", declared.id, reply.revision, extra=extra)
            return
        raise Unavailable(f"schedule {declared.id!r} keeps changing")

    async def _stored(self, schedule_id: str) -> Stored | None:
        try:
            item = await self._client.schedules.get(schedule_id)
        except NotFound:
            return None
        return Stored(item.revision, bytes(item.schedule))

    async def _tell_orphans(self) -> None:
        if self._owner is None:
            return
        labels = {OWNER_LABEL: self._owner}
        owned = [item.id async for item in self._client.schedules.list(labels=labels)]
        gone = orphans(self._declared, owned)
        if gone:
            text = "stored, and declared no more: %s; `schedctl worker prune MODULE:NAME` exports and deletes them"
            log.warning(text, ", ".join(gone), extra={"event": "worker.orphans", "schedules": gone})
