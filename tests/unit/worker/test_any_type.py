"""A function for every type, and one that is cancelled once more when its grace is over."""

from __future__ import annotations

import pytest

from scheduler.core.errors import Conflict, InvalidArgument
from scheduler.worker import ANY, Worker
from scheduler.worker.handlers import make_handler


async def function(payload: bytes) -> None: ...


def test_any_is_a_type_of_its_own() -> None:
    """It can be registered once, beside others; no other text that is no type can."""
    worker = Worker("Q")
    worker.task(ANY)(function)
    worker.task("known")(function)
    assert worker.types == ["*", "known"]
    with pytest.raises(Conflict):
        worker.task("*")(function)
    with pytest.raises(InvalidArgument):
        worker.task("a*")(function)


def test_the_grace_is_a_span() -> None:
    """Text or seconds; anything else names the option."""
    assert make_handler("t", function, grace="10s").grace_s == 10
    with pytest.raises(InvalidArgument, match="grace"):
        make_handler("t", function, grace="soon")
