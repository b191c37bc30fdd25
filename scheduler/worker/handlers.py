"""The functions that a worker was given: how each wants to be called, and with which limits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import msgspec
import msgspec.inspect
from msgspec import Struct

from scheduler.core.errors import Conflict, InvalidArgument
from scheduler.core.model.schedule import Backoff
from scheduler.wire.ids import check_type
from scheduler.worker.backoff import Span, read_backoff, span_s

MAX_TRIES_MAX = 100
CONCURRENCY_MAX = 10_000
ANY = "*"
"""In place of a type: every type that no other function of the worker is for."""
GRACE_S = 2.0


class Layer(Struct, frozen=True):
    """One function around others: `function(call_next, payload, ctx)`. Not async: it is called in a thread."""

    function: Callable[..., Any]
    is_async: bool


class Handler(Struct, frozen=True, kw_only=True):
    """One function. `is_async`: called in the event loop, otherwise in a thread of its own.

    `queue`: the only one from which it takes tasks (None: from all); `concurrency`: how many at once in one worker.
    """

    type: str
    function: Callable[..., Any]
    is_async: bool
    wants_context: bool
    decode: Callable[[bytes], Any] | None
    max_tries: int | None = None
    timeout_s: float | None = None
    backoff: Backoff | None = None
    grace_s: float = GRACE_S
    queue: str | None = None
    concurrency: int | None = None

    def read_payload(self, body: bytes) -> Any:
        """What the function gets: the decoded JSON, of the annotated type where the parameter has one; None for an
        empty body; the very bytes where it asks for `bytes`.

        Raises InvalidArgument when the body is not JSON, or not of that type.
        """
        if self.decode is None:
            return body
        try:
            return self.decode(body or b"null")
        except msgspec.ValidationError as problem:
            raise InvalidArgument(f"the payload is not what {self.type!r} takes: {problem}", field="payload") from None
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
    grace: Span = GRACE_S,
    queue: str | None = None,
    concurrency: int | None = None,
) -> Handler:
    """Check a function and its options. Raises InvalidArgument that names the option and the fix."""
    if type != ANY:
        check_type(type)
    if max_tries is not None and (isinstance(max_tries, bool) or not 1 <= max_tries <= MAX_TRIES_MAX):
        raise InvalidArgument(f"max_tries: {max_tries!r} is out of range: use 1 to {MAX_TRIES_MAX}", field="max_tries")
    parameters = _positional(function)
    return Handler(
        queue=queue,
        concurrency=None if concurrency is None else check_concurrency(concurrency),
        type=type,
        function=function,
        is_async=_is_async(function),
        wants_context=len(parameters) > 1,
        decode=_decoder(function, parameters[0]),
        max_tries=max_tries,
        timeout_s=None if timeout is None else span_s(timeout, field="timeout"),
        backoff=None if backoff is None else read_backoff(backoff),
        grace_s=span_s(grace, field="grace"),
    )


def check_concurrency(given: int) -> int:
    """Raises InvalidArgument."""
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= CONCURRENCY_MAX:
        raise InvalidArgument(f"concurrency: use 1 to {CONCURRENCY_MAX}, not {given!r:.40}", field="concurrency")
    return given


def make_layer(function: Callable[..., Any]) -> Layer:
    """A middleware, checked. Raises InvalidArgument."""
    try:
        inspect.signature(function).bind(None, None, None)
    except (TypeError, ValueError):
        raise InvalidArgument(f"{_name(function)}: a middleware is f(call_next, payload, ctx)") from None
    return Layer(function, _is_async(function))


class Handlers:
    """The functions of a worker, by type and, where one is bound to a queue, by that too."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str | None, str], Handler] = {}

    def add(self, handler: Handler) -> None:
        """Raises Conflict for a second function of one type (in one queue)."""
        key = (handler.queue, handler.type)
        if key in self._handlers:
            where = f" in queue {handler.queue!r}" if handler.queue else ""
            raise Conflict(f"there is a function for type {handler.type!r}{where} already", field="type")
        self._handlers[key] = handler

    def find(self, queue: str, type: str) -> Handler | None:  # noqa: A002 - the contract's word
        """Who carries out a task: its type goes before `ANY`, one that is bound to its queue before one that is not."""
        keys = ((queue, type), (None, type), (queue, ANY), (None, ANY))
        return next((self._handlers[key] for key in keys if key in self._handlers), None)

    def of_queue(self, queue: str) -> list[Handler]:
        """Who may get tasks of a queue."""
        return [each for each in self._handlers.values() if each.queue in {None, queue}]

    def of_function(self, function: Callable[..., Any]) -> Handler | None:
        """The one whose function this is, the first if there are several; methods are equal, not the same."""
        return next((each for each in self._handlers.values() if each.function == function), None)

    @property
    def types(self) -> list[str]:
        return sorted({name for _, name in self._handlers})


def _positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The one or two parameters that the function is called with: the payload, and the context if it has room."""
    if not callable(function):
        raise InvalidArgument(f"{function!r:.80} is not a function")
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(inspect.signature(function).parameters.values())
    wanted = [one for one in parameters if one.kind in kinds and (one.default is one.empty or one.name == "ctx")]
    forced = [one for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty]
    if forced or not 1 <= len(wanted) <= 2:
        raise InvalidArgument(f"{_name(function)}: a task function is f(payload) or f(payload, ctx)")
    return wanted


def _decoder(function: Callable[..., Any], parameter: inspect.Parameter) -> Callable[[bytes], Any] | None:
    """How the payload is read: by the parameter's annotation (msgspec Struct, dataclass, TypedDict, list[int], ...).

    None: not at all, the function wants the bytes.
    """
    wanted = _annotation(function, parameter)
    if wanted is bytes:
        return None
    try:
        if isinstance(msgspec.inspect.type_info(wanted), msgspec.inspect.CustomType):
            raise TypeError("a class of its own")
        return msgspec.json.Decoder(wanted).decode
    except Exception as problem:  # the library raises whatever an odd annotation makes it trip over
        told = f"{parameter.name} is annotated {wanted!r:.80}, which no JSON can be read as ({problem})"
        fix = "use a dataclass, a msgspec.Struct, a TypedDict or a plain type"
        raise InvalidArgument(f"{_name(function)}: {told}: {fix}", field=parameter.name) from None


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The annotation as a type; Any where there is none."""
    if parameter.annotation is parameter.empty:
        return Any
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    while isinstance(function, functools.partial):
        function = function.func
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return _evaluated(target, parameter.annotation)
    except Exception as problem:  # a name that is imported for type checkers only, or not at all
        raise InvalidArgument(
            f"{_name(function)}: the annotation {parameter.annotation!r:.80} of {parameter.name} cannot be read "
            f"({problem}): import its type where the program runs, or leave the annotation out",
            field=parameter.name,
        ) from None


def _evaluated(function: Callable[..., Any], annotation: str) -> Any:
    """One annotation that was kept as text, in the scope of its function: what the others say plays no part."""
    inner = inspect.unwrap(function)
    scope = inspect.getclosurevars(inner).nonlocals if inspect.isfunction(inner) else {}
    holder = type("Payload", (), {"__annotations__": {"payload": annotation}})
    return get_type_hints(holder, getattr(inner, "__globals__", {}), dict(scope), include_extras=True)["payload"]


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", repr(function)))


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - the method itself is asked about
