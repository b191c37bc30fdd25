"""What a use case says of itself: the endpoint whose requests it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msgspec import Struct

from scheduler.wire import api

Handle = Callable[[Any], Awaitable[Any]]
Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])
_MARK = "_answers"


class Endpoint(Struct, frozen=True):
    """The type of the request, who answers it, and within how long (None: as every other)."""

    request: type[api.Request]
    handle: Handle
    within_s: float | None = None


def answers(endpoint: str, request: type[api.Request], *, within_s: float | None = None) -> Callable[[Method], Method]:
    """Mark a method as the one that answers `endpoint` ("noun.verb"), whose requests are `request`s."""

    def mark(method: Method) -> Method:
        setattr(method, _MARK, (endpoint, request, within_s))
        return method

    return mark


def names_of(noun: type) -> list[str]:
    """The endpoints that a noun answers, in the order in which they are written."""
    return [name for name, *_ in _marked(noun)]


def endpoints_of(noun: object) -> dict[str, Endpoint]:
    """The same, ready to be asked."""
    return {
        name: Endpoint(request, getattr(noun, method), within_s)
        for name, request, within_s, method in _marked(type(noun))
    }


def _marked(noun: type) -> list[tuple[str, type[api.Request], float | None, str]]:
    marks = [(getattr(method, _MARK, None), name) for name, method in vars(noun).items()]
    return [(*mark, name) for mark, name in marks if mark is not None]
