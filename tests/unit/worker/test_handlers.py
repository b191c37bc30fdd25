"""Registering functions: what is accepted, how each is called, and what a mistake is told."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from scheduler.core.errors import Conflict, InvalidArgument
from scheduler.core.model.schedule import Backoff
from scheduler.worker import Worker
from scheduler.worker.backoff import read_backoff
from scheduler.worker.handlers import make_handler


async def only_payload(payload: Any) -> None: ...


def with_context(payload: Any, ctx: Any) -> None: ...


def with_own_default(payload: Any, retries: int = 3) -> None: ...


def with_default_context(payload: Any, ctx: Any = None) -> None: ...


def of_bytes(payload: bytes) -> None: ...


class Callable_:  # noqa: N801 - a callable object, named as one
    async def __call__(self, payload: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_async", "wants_context"),
    [
        (only_payload, True, False),
        (with_context, False, True),
        (with_own_default, False, False),
        (with_default_context, False, True),
        (functools.partial(only_payload), True, False),
        (Callable_(), True, False),
        (lambda payload: None, False, False),
    ],
)
def test_how_a_function_wants_to_be_called(function: Callable[..., Any], is_async: bool, wants_context: bool) -> None:
    """Async or not, with ctx or not: read from the function itself; a default of its own is left alone."""
    handler = make_handler("t", function)
    assert (handler.is_async, handler.wants_context) == (is_async, wants_context)


def test_bytes_are_asked_for_by_annotation() -> None:
    """A payload annotated bytes gets the body as it is, also where annotations are text."""
    assert make_handler("t", of_bytes).read_payload(b"\xff") == b"\xff"
    with pytest.raises(InvalidArgument, match="annotate"):
        make_handler("t", only_payload).read_payload(b"\xff")
    with pytest.raises(InvalidArgument):
        make_handler("t", only_payload).read_payload(b"[" * 100_000)


@dataclass
class Mail:
    to: str
    copies: int = 1


class Sms(msgspec.Struct):
    number: str


def of_mail(payload: Mail) -> None: ...


async def of_list_or_nothing(payload: list[Sms] | None) -> None: ...


class MailTask:
    async def __call__(self, payload: Mail, ctx: Any) -> None: ...


@pytest.mark.parametrize("function", [of_mail, functools.partial(of_mail), MailTask()])
def test_a_payload_of_the_annotated_type(function: Any) -> None:
    """The function gets what it says it takes; what does not fit is refused with the place in the payload."""
    handler = make_handler("mail", function)
    assert handler.read_payload(b'{"to": "ann"}') == Mail("ann", 1)
    for body, where in ((b'{"to": 1}', r"\$\.to"), (b"{}", "to"), (b"", "null"), (b"[]", "object")):
        with pytest.raises(InvalidArgument, match=rf"is not what 'mail' takes: .*{where}") as refused:
            handler.read_payload(body)
        assert refused.value.field == "payload"
    with pytest.raises(InvalidArgument, match="is not JSON"):
        handler.read_payload(b"{")


def test_only_the_payload_s_annotation_counts() -> None:
    """What the other parameters say may be for type checkers only; a type of the enclosing function is found."""

    @dataclass
    class Local:
        n: int

    def unknown_context(payload: dict[str, int], ctx: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    def of_local(payload: Local) -> Local:
        return Local(payload.n)

    assert make_handler("t", unknown_context).read_payload(b'{"a": 1}') == {"a": 1}
    assert make_handler("t", of_local).read_payload(b'{"n": 1}') == Local(1)


def test_an_optional_payload() -> None:
    """No payload is None where the function takes None."""
    handler = make_handler("sms", of_list_or_nothing)
    assert handler.read_payload(b"") is None
    assert handler.read_payload(b'[{"number": "1"}]') == [Sms("1")]


def test_an_annotation_that_cannot_be_used() -> None:
    """It is refused when registered: names that are not there at run time, and types that no JSON can be."""

    def unknown(payload: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - what is tested

    def unreadable(payload: type[int]) -> None: ...

    for function, told in ((unknown, "Nowhere"), (unreadable, "no JSON can be read as")):
        with pytest.raises(InvalidArgument, match=told) as refused:
            make_handler("t", function)
        assert refused.value.field == "payload"


@pytest.mark.parametrize("function", [lambda: None, lambda a, b, c: None, lambda payload, *, must: None, "no function"])
def test_what_is_no_task_function(function: Any) -> None:
    """None, three, or forced keyword parameters are refused when registered, not when the first task comes."""
    with pytest.raises(InvalidArgument):
        make_handler("t", function)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_tries": 0}, "max_tries"),
        ({"max_tries": 101}, "max_tries"),
        ({"max_tries": True}, "max_tries"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "-1s"}, "timeout"),
        ({"backoff": {"initail": "1s"}}, "backoff.initail"),
        ({"backoff": {"initial": "fast"}}, "backoff.initial"),
        ({"backoff": {"factor": 0.5}}, "backoff.factor"),
        ({"backoff": {"jitter": 2}}, "backoff.jitter"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], field: str) -> None:
    """The error names the option."""
    with pytest.raises(InvalidArgument) as caught:
        make_handler("t", only_payload, **options)
    assert caught.value.field == field


@pytest.mark.parametrize("timeout", ["1m30s", 90, timedelta(seconds=90)])
def test_durations_come_in_three_spellings(timeout: Any) -> None:
    """Text, seconds and timedelta mean the same."""
    assert make_handler("t", only_payload, timeout=timeout).timeout_s == 90


def test_backoff_is_spelled_as_in_a_schedule() -> None:
    """Fields left out keep the contract's defaults."""
    assert read_backoff({"initial": "2s", "factor": 3}) == Backoff(initial=timedelta(seconds=2), factor=3)
    assert read_backoff({}) == Backoff()


@pytest.mark.parametrize(
    ("queues", "options", "field"),
    [
        ((), {}, "queues"),
        (("no.dots",), {}, "queue"),
        (("Q",), {"concurrency": 0}, "concurrency"),
        (("Q",), {"stop_grace": "-3s"}, "stop_grace"),
    ],
)
def test_a_worker_checks_its_options(queues: tuple[str, ...], options: dict[str, Any], field: str) -> None:
    """The error names the option; nothing is connected yet."""
    with pytest.raises(InvalidArgument) as caught:
        Worker(*queues, **options)
    assert caught.value.field == field


def test_a_type_has_one_function() -> None:
    """A second function of a type is a mistake; the decorator gives the function back unchanged."""
    worker = Worker("Q", "Q", "R")
    assert worker.queues == ("Q", "R")
    assert worker.task("t")(only_payload) is only_payload
    with pytest.raises(Conflict):
        worker.task("t")(with_context)
    with pytest.raises(InvalidArgument):
        worker.task("no spaces")(only_payload)
    assert worker.types == ["t"]
