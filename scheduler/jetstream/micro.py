"""A NATS micro service as other tools see it (ADR-32): who is there, what it serves, how it does.

`nats-py` has a Service of its own; it handles the requests of an endpoint one after the other, counts what it did not
wait for, and throws away requests that are in flight when it stops. Here an endpoint only hands over, and stopping
drains. The bodies are the same, so `nats micro ls`, `info` and `stats` know it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

QUEUE_GROUP: Final = "q"  # ADR-32's default: the replicas share each endpoint
PREFIX: Final = "$SRV"
_SEMVER: Final = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)
_RELEASE: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?", re.ASCII)


class EndpointStats(Struct):
    """What one endpoint did since the start; times are nanoseconds."""

    name: str
    subject: str
    queue_group: str = QUEUE_GROUP
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0
    average_processing_time: int = 0

    def count(self, elapsed_s: float, error: str | None) -> None:
        """One more request was answered, or refused."""
        self.num_requests += 1
        self.processing_time += max(0, int(elapsed_s * 1e9))
        self.average_processing_time = self.processing_time // self.num_requests
        if error is not None:
            self.num_errors += 1
            self.last_error = error


class Identity(Struct, frozen=True):
    """Of one instance. `id` is unique per process, `metadata` free text by name."""

    name: str
    id: str
    version: str
    metadata: Mapping[str, str]
    description: str = ""


class Monitoring:
    """Answers `$SRV.{PING,INFO,STATS}[.<name>[.<id>]]`."""

    def __init__(
        self, client: NatsClient, identity: Identity, endpoints: Sequence[EndpointStats], *, started_at: str
    ) -> None:
        self._client, self._identity, self._endpoints = client, identity, endpoints
        self._started_at = started_at
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        bodies = {"PING": self._ping, "INFO": self._info, "STATS": self._stats}
        for verb, body_of in bodies.items():

            async def reply(message: Msg, body_of: Any = body_of) -> None:
                with contextlib.suppress(NatsError):  # disconnected meanwhile: whoever asked asks again
                    if message.reply:
                        await self._client.publish(message.reply, msgspec.json.encode(body_of()))

            for subject in self._subjects(verb):
                self._subscriptions.append(await self._client.subscribe(subject, cb=reply))

    async def stop(self) -> None:
        """Disappear first, so that nobody counts on what is about to end."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()

    def _subjects(self, verb: str) -> Sequence[str]:
        name = self._identity.name
        return f"{PREFIX}.{verb}", f"{PREFIX}.{verb}.{name}", f"{PREFIX}.{verb}.{name}.{self._identity.id}"

    def _ping(self) -> dict[str, Any]:
        return {"type": "io.nats.micro.v1.ping_response", **self._common()}

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {"name": each.name, "subject": each.subject, "queue_group": each.queue_group, "metadata": {}}
            for each in self._endpoints
        ]
        description = self._identity.description
        return {
            "type": "io.nats.micro.v1.info_response",
            **self._common(),
            "description": description,
            "endpoints": endpoints,
        }

    def _stats(self) -> dict[str, Any]:
        return {
            "type": "io.nats.micro.v1.stats_response",
            **self._common(),
            "started": self._started_at,
            "endpoints": list(self._endpoints),
        }

    def _common(self) -> dict[str, Any]:
        identity = self._identity
        return {
            "name": identity.name,
            "id": identity.id,
            "version": identity.version,
            "metadata": dict(identity.metadata),
        }


def semantic_version(version: str) -> str:
    """ADR-32 wants a semantic version; of a Python version its release is one."""
    if _SEMVER.fullmatch(version):
        return version
    release = _RELEASE.match(version)
    return "0.0.0" if release is None else ".".join(part or "0" for part in release.groups())
