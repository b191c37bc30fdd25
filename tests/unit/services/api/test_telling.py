"""Events `admin`: what is told of which request."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.services.api.endpoint import names_of
from scheduler.services.api.nouns import NOUNS
from scheduler.services.api.telling import READS, TOLD_OTHERWISE, told_of
from scheduler.wire import api
from tests.unit.services.api.stage import Stage

ID = "a.b.20261121T080000000Z"
RECORD = Raw(b'{"id":"x","state":"cancelled","payload":"secret","attempt":1}')


@pytest.mark.parametrize(
    ("endpoint", "request_", "reply", "told"),
    [
        ("schedule.trigger", api.TriggerSchedule(id="a", payload=Raw(b'"secret"'), nonce="n"),
         api.TriggerReply(execution_id=ID, state="queued"),
         ("a", "a", {"nonce": "n"}, {"execution_id": ID, "state": "queued"})),
        ("execution.cancel", api.CancelExecution(id=ID, grace="1s"), RECORD,
         ("a.b", ID, {"grace": "1s"}, {"state": "cancelled"})),
        ("execution.cancel", api.CancelExecution(id="odd"), RECORD, (None, "odd", {}, {"state": "cancelled"})),
        ("calendar.put", api.PutCalendar(id="xmas", calendar=Raw(b"{}"), expected_revision=0),
         api.PutCalendarReply(id="xmas", revision=7, used_by=2),
         (None, "xmas", {"expected_revision": 0}, {"revision": 7})),
        ("schedule.backfill", api.BackfillSchedule(id="a", start="s", end="e", dry_run=False, rate=2.0),
         api.BackfillReply(backfill_id="b", nominals=["t"] * 9),
         ("a", "a", {"from": "s", "to": "e", "dry_run": False, "rate": 2.0}, {"backfill_id": "b"})),
    ],
)  # fmt: skip
def test_what_is_told(endpoint: str, request_: Any, reply: Any, told: tuple[Any, ...]) -> None:
    """Who, what, about which schedule, with plain fields as they are spelled on the wire; no payload, no definition."""
    found = told_of(endpoint, request_, reply, "ann")
    assert found is not None
    schedule, data = found
    assert data["by"] == "ann"
    assert data["action"] == endpoint
    assert (schedule, data["target"], data["request"], data["result"]) == told
    assert "secret" not in str(data)


def test_what_is_long_is_cut() -> None:
    """No client makes events large."""
    request = api.TriggerSchedule(id="a", nonce="n" * 9999)
    found = told_of("schedule.trigger", request, Raw(b"{}"), "y" * 9999)
    assert found is not None
    assert len(str(found)) < 1000


def test_reads_and_edits_are_told_otherwise_or_not_at_all() -> None:
    """Every endpoint is a read, an edit that has events of its own, or told as `admin`; dry runs change nothing."""
    endpoints = {name for noun in NOUNS for name in names_of(noun)}
    silent = {name for name in endpoints if told_of(name, api.Id(id="a"), None, None) is None}
    assert silent == {name for name in endpoints if name.partition(".")[2] in READS} | TOLD_OTHERWISE
    doing = {"trigger", "backfill", "cancel", "retry", "invoke", "put", "delete", "purge"}
    assert {name.partition(".")[2] for name in endpoints - silent} <= doing, "is the new one a read?"
    dry = api.BackfillSchedule(id="a", start="s", end="e", dry_run=True)
    assert told_of("schedule.backfill", dry, None, None) is None


async def test_only_what_was_done_is_told(stage: Stage) -> None:
    """A refused request tells nothing; one that was carried out does, once."""
    with pytest.raises(NotFound):
        await stage.ask("schedule.trigger", id="nope")
    await stage.put("a")
    with pytest.raises(InvalidArgument):
        await stage.ask("schedule.trigger", id="a", overlap="nope")
    assert stage.events.of("admin") == []
    reply = await stage.ask("schedule.trigger", id="a", nonce="n1")
    [event] = stage.events.of("admin", "a")
    assert event.data["result"] == {"execution_id": reply["execution_id"], "state": reply["state"]}
    await stage.ask("schedule.get", id="a")
    assert len(stage.events.of("admin")) == 1
