"""The functions that a worker was given: how each wants to be called, and with which limits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Backoff
from scheduler.wire.ids import check_type
from scheduler.worker.backoff import Span, read_backoff, span_s

MAX_TRIES_MAX = 100


class Handler(Struct, frozen=True, kw_only=True):
    """One function. `is_async`: called in the event loop, otherwise in a thread of its own."""

    type: str
    function: Callable[..., Any]
    is_async: bool
    wants_context: bool
    wants_bytes: bool
    max_tries: int | None = None
    timeout_s: float | None = None
    backoff: Backoff | None = None

    def read_payload(self, body: bytes) -> Any:
        """What the function gets: the decoded JSON, None for an empty body; the very bytes where it asks for `bytes`.

        Raises InvalidArgument when the body is not JSON.
        """
        if self.wants_bytes:
            return body
        if not body:
            return None
        try:
            return msgspec.json.decode(body)
        except (ValueError, RecursionError) as problem:
            hint = "annotate the parameter as bytes to get it as it is"
            raise InvalidArgument(f"the payload is not JSON ({problem}); {hint}", field="payload") from None


def make_handler(
    type: str,  # noqa: A002 - the contract's word
    function: Callable[..., Any],
    *,
    max_tries: int | None = None,
    timeout: Span | None = None,
    backoff: Backoff | Mapping[str, Any] | None = None,
) -> Handler:
    """Check a function and its options. Raises InvalidArgument that names the option and the fix."""
    check_type(type)
    if max_tries is not None and (isinstance(max_tries, bool) or not 1 <= max_tries <= MAX_TRIES_MAX):
        raise InvalidArgument(f"max_tries: {max_tries!r} is out of range: use 1 to {MAX_TRIES_MAX}", field="max_tries")
    parameters = _positional(function)
    return Handler(
        type=type,
        function=function,
        is_async=_is_async(function),
        wants_context=len(parameters) > 1,
        wants_bytes=parameters[0].annotation in (bytes, "bytes"),
        max_tries=max_tries,
        timeout_s=None if timeout is None else span_s(timeout, field="timeout"),
        backoff=None if backoff is None else read_backoff(backoff),
    )


def _positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The one or two parameters that the function is called with: the payload, and the context if it has room."""
    if not callable(function):
        raise InvalidArgument(f"{function!r:.80} is not a function")
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(inspect.signature(function).parameters.values())
    wanted = [one for one in parameters if one.kind in kinds and (one.default is one.empty or one.name == "ctx")]
    forced = [one for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty]
    if forced or not 1 <= len(wanted) <= 2:
        name = getattr(function, "__name__", repr(function))
        raise InvalidArgument(f"{name}: a task function is f(payload) or f(payload, ctx)")
    return wanted


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - the method itself is asked about
