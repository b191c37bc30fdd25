"""The API as its transports see it: an endpoint and a body in, a body and perhaps an error out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from scheduler.core.errors import ScheddError


class Answer(NamedTuple):
    """`body` is JSON in either case; `error` tells the transport which status to send with it."""

    body: bytes
    error: ScheddError | None = None


class Api(Protocol):
    """What every transport serves. Endpoints are `<noun>.<verb>`, for example `schedule.put`."""

    @property
    def endpoints(self) -> Sequence[str]: ...

    async def answer(self, endpoint: str, body: bytes, by: str | None = None) -> Answer:
        """Carry out one request. Bounded in time and size; raises nothing but CancelledError.

        `by`: what the client calls itself, for the events that tell who did what; nobody has verified it.
        """

    def refuse(self, endpoint: str, error: ScheddError) -> Answer:
        """The answer to a request that is not carried out; counted like any other."""

    def unsent(self, endpoint: str) -> None:
        """Count an answer that could not be sent."""
