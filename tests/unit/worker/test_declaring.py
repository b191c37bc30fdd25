"""Schedules in code: what is accepted, and what is done about what is stored."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.core.errors import Conflict, InvalidArgument
from scheduler.wire.schedule import encode_document
from scheduler.worker import Worker
from scheduler.worker.declaring import (
    OWNER_LABEL,
    Declared,
    Kept,
    Nothing,
    Put,
    Refused,
    Stored,
    decide,
    declare,
    differing_fields,
    orphans,
)


def declared(on_conflict: str = "keep", **fields: Any) -> Declared:
    given = {"every": "5m", **fields}
    return declare("report", given, queue="Q", type="t", owner=None, on_conflict=on_conflict)


def stored(**fields: Any) -> Stored:
    return Stored(7, encode_document({"every": "5m", "queue": "Q", "type": "t", **fields}))


def test_what_is_not_there_is_created() -> None:
    """Created only: somebody who was faster is not overwritten."""
    assert decide(declared(), None, force=False) == Put(0)


@pytest.mark.parametrize("on_conflict", ["keep", "update", "fail"])
def test_what_says_the_same_is_left_alone(on_conflict: str) -> None:
    """No write for an equal definition, nor for one that somebody has paused."""
    assert decide(declared(on_conflict), stored(), force=True) == Nothing()
    assert decide(declared(on_conflict), stored(paused=True, pause_note="why"), force=True) == Nothing()


def test_a_difference_is_kept_updated_or_refused() -> None:
    """As the code says; forced, the code wins; an update expects the revision that was looked at."""
    other = stored(max_tries=9, every="6m")
    assert decide(declared(), other, force=False) == Kept(("every", "max_tries"))
    assert decide(declared("update"), other, force=False) == Put(7)
    assert decide(declared("fail"), other, force=False) == Refused(("every", "max_tries"))
    for word in ("keep", "fail"):
        assert decide(declared(word), other, force=True) == Put(7)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"[" * 5000])
def test_what_is_stored_may_be_anything(raw: bytes) -> None:
    """A value that is no schedule is a difference like any other."""
    assert isinstance(decide(declared(), Stored(3, raw), force=False), Kept)
    assert decide(declared("update"), Stored(3, raw), force=False) == Put(3)


def test_differences_by_value() -> None:
    """Fields are compared as JSON, a state is no difference."""
    one = {"every": "5m", "payload": {"a": 1, "b": 2}}
    assert differing_fields(one, b'{"payload":{"b":2,"a":1},"every":"5m","paused":true}') == ()
    assert differing_fields(one, b'{"payload":{"b":2},"every":"5m"}') == ("payload",)


def test_orphans() -> None:
    """What carries our label and is declared no more."""
    assert orphans([declared()], ["report", "old", "older"]) == ["old", "older"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"evry": "5m"}, "evry"),
        ({}, "cron"),
        ({"every": "5m", "paused": True}, "paused"),
        ({"every": "5m", "on_conflict": "overwrite"}, "on_conflict"),
        ({"every": "5m", "queue": "no queue"}, "queue"),
    ],
)
def test_a_mistake_shows_where_it_is_made(fields: dict[str, Any], field: str) -> None:
    """The decorator refuses what the daemon would refuse, before anything runs."""
    with pytest.raises(InvalidArgument) as refused:
        Worker("Q").schedule("report", **fields)(print)
    assert refused.value.field == field


def test_types_and_queues() -> None:
    """The function's type wherever the decorators stand, an own one where it has none; the first queue by default."""
    worker = Worker("Q", "R", name="crm")

    @worker.schedule("above", every="5m")
    @worker.task("t:above")
    async def above(payload: Any) -> None: ...

    @worker.task("t:below")
    @worker.schedule("below", cron="@daily", queue="R", labels={"team": "crm"})
    async def below(payload: Any) -> None: ...

    @worker.schedule("alone", every="1h")
    @worker.schedule("alone.night", cron="0 3 * * *")
    async def alone(payload: Any) -> None: ...

    found = {each.id: each.definition for each in worker.declared()}
    assert {name: each["type"] for name, each in found.items()} == {
        "above": "t:above", "below": "t:below", "alone.night": "alone.night", "alone": "alone.night",
    }  # fmt: skip
    assert (found["above"]["queue"], found["below"]["queue"]) == ("Q", "R")
    assert found["below"]["labels"] == {"team": "crm", OWNER_LABEL: "crm"}
    assert worker.types == ["alone.night", "t:above", "t:below"]
    assert [each.id for each in worker.declared()] == list(found)  # asking twice registers nothing twice
    with pytest.raises(Conflict):
        worker.schedule("above", every="1m")
