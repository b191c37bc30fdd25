"""What webhooks need from the world beside the events: somebody who posts to an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from scheduler.core.delivering import Answer
from scheduler.wire.targets import Target


class Post(Struct, frozen=True):
    """One request. `headers` go out as they are; nothing of it may be logged."""

    target: Target
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float


class Poster(Protocol):
    """Posts to the outside."""

    async def post(self, post: Post) -> Answer:
        """What came of it, within `timeout_s`, whatever the endpoint does. Raises nothing; may be cancelled."""
