"""get, list, preview: what is shown, and how lists are cut into pages."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.core.model.status import StatusRow
from scheduler.memory.clock import START
from scheduler.services.api.views import CUT_TO, SHOWN_MAX
from scheduler.wire.status import encode_status
from tests.unit.services.api.stage import HELLO, Stage


async def pages(stage: Stage, **body: Any) -> list[list[str]]:
    found: list[list[str]] = []
    more: dict[str, str] = {}
    while True:
        page = await stage.ask("schedule.list", **body, **more)
        found.append([item["id"] for item in page["items"]])
        if page["cursor"] is None:
            return found
        more = {"cursor": page["cursor"]}


async def test_get_shows_definition_and_status(stage: Stage) -> None:
    """The whole body, every field of the status included, null or not."""
    await stage.put("hello")
    row = StatusRow(active=("hello.x",), last_outcome="failed", previous_at=START)
    await stage.status.put("hello", encode_status(row))
    assert await stage.ask("schedule.get", id="hello") == {
        "id": "hello",
        "revision": 1,
        "generation": 1,
        "schedule": HELLO,
        "status": {
            "state": "active",
            "next_at": "2026-11-21T08:00:10.000Z",
            "previous_at": "2026-11-21T08:00:00.000Z",
            "last_outcome": "failed",
            "active": ["hello.x"],
            "error": None,
        },
    }


@pytest.mark.parametrize(
    ("schedule", "state", "next_at"),
    [
        (HELLO, "active", "2026-11-21T08:00:10.000Z"),
        ({**HELLO, "paused": True}, "paused", None),
        ({**HELLO, "paused": True, "paused_until": "2026-11-21T08:30:00Z"}, "paused", "2026-11-21T08:30:00.000Z"),
        ({**HELLO, "paused": True, "paused_until": "2026-11-21T07:30:00Z"}, "active", "2026-11-21T08:00:10.000Z"),
        ({"at": "2026-11-21T07:00:00Z", "queue": "q", "type": "t"}, "exhausted", None),
        ({"at": "2026-11-21T09:00:00Z", "queue": "q", "type": "t"}, "active", "2026-11-21T09:00:00.000Z"),
        ({"manual": True, "queue": "q", "type": "t"}, "active", None),
        ({"every": "1s", "queue": "q"}, "invalid", None),
    ],
)
async def test_the_state_is_computed(stage: Stage, schedule: Any, state: str, next_at: str | None) -> None:
    """State and next fire are right at once, whether or not a leader has written the row."""
    stage.schedules.put_raw("a", json.dumps(schedule).encode())
    status = (await stage.ask("schedule.get", id="a"))["status"]
    assert (status["state"], status["next_at"]) == (state, next_at)
    assert (status["error"] is not None) == (state == "invalid")


@pytest.mark.parametrize("raw", [b"", b"\x00\xff", b"{", b'{"a":1} trailing', b"[" * 100_000])
async def test_bytes_that_are_no_json(stage: Stage, raw: bytes) -> None:
    """They are shown in base64, with the reason, and the schedule is null."""
    stage.schedules.put_raw("a", raw)
    item = await stage.ask("schedule.get", id="a")
    assert item["schedule"] is None
    assert base64.b64decode(item["raw_base64"]) == raw
    assert item["status"]["state"] == "invalid"
    assert item["status"]["error"]


async def test_json_that_is_no_schedule(stage: Stage) -> None:
    """It is shown as it is, without base64."""
    stage.schedules.put_raw("a", b'[1, 2, "three"]')
    item = await stage.ask("schedule.get", id="a")
    assert item["schedule"] == [1, 2, "three"]
    assert "raw_base64" not in item


async def test_a_huge_value_is_shown_in_part(stage: Stage) -> None:
    """Two megabytes cannot be answered: the beginning is, and the error tells the size."""
    raw = json.dumps({**HELLO, "payload": "x" * 2_000_000}).encode()
    assert len(raw) > SHOWN_MAX
    stage.schedules.put_raw("a", raw)
    item = await stage.ask("schedule.get", id="a")
    assert base64.b64decode(item["raw_base64"]) == raw[:CUT_TO]
    assert str(len(raw)) in item["status"]["error"]


async def test_get_of_nothing(stage: Stage) -> None:
    """Never stored, and deleted, are both not found."""
    with pytest.raises(NotFound):
        await stage.ask("schedule.get", id="a")
    await stage.put("a")
    await stage.ask("schedule.delete", id="a")
    with pytest.raises(NotFound) as caught:
        await stage.ask("schedule.get", id="a")
    assert caught.value.field == "id"


async def test_a_silent_watch_is_no_excuse(stage: Stage) -> None:
    """get and list show what was written although the watch delivers nothing."""
    stage.schedules.stall_watches()
    stage.schedules.put_raw("a", json.dumps(HELLO).encode())
    assert (await stage.ask("schedule.get", id="a"))["revision"] == 1
    stage.schedules.stall_watches()
    stage.schedules.put_raw("b", json.dumps(HELLO).encode())
    assert await pages(stage) == [["a", "b"]]


async def test_list_is_by_id_and_in_pages(stage: Stage) -> None:
    """Each page has what was asked for, the last one a null cursor, also where it is exactly full."""
    for name in ("d", "b", "a.x", "a", "c"):
        await stage.put(name)
    assert await pages(stage) == [["a", "a.x", "b", "c", "d"]]
    assert await pages(stage, limit=2) == [["a", "a.x"], ["b", "c"], ["d"]]
    assert await pages(stage, limit=5) == [["a", "a.x", "b", "c", "d"]]
    assert await pages(stage, prefix="a") == [["a", "a.x"]]
    assert await pages(stage, prefix="zz") == [[]]


async def test_list_filters(stage: Stage) -> None:
    """Labels must all match, states are computed, deleted ones are not shown; invalid ones count."""
    await stage.put("a", {**HELLO, "labels": {"team": "x", "env": "prod"}})
    await stage.put("b", {**HELLO, "labels": {"team": "x"}, "paused": True})
    await stage.put("c", {**HELLO, "labels": {"team": "y"}})
    await stage.put("d")
    await stage.ask("schedule.delete", id="d")
    stage.schedules.put_raw("e", b'{"labels":{"team":"x"}}')
    assert await pages(stage, labels={"team": "x"}) == [["a", "b", "e"]]
    assert await pages(stage, labels={"team": "x", "env": "prod"}) == [["a"]]
    assert await pages(stage, state="paused") == [["b"]]
    assert await pages(stage, state="invalid") == [["e"]]
    assert await pages(stage, state="active", limit=1) == [["a"], ["c"]]


async def test_list_by_a_selector(stage: Stage) -> None:
    """A selector filters as it says, together with the other filters; one that is none is refused."""
    await stage.put("a", {**HELLO, "labels": {"team": "x", "env": "prod"}})
    await stage.put("b", {**HELLO, "labels": {"team": "x"}})
    await stage.put("c", {**HELLO, "labels": {"team": "y"}})
    stage.schedules.put_raw("d", b'{"labels": {"team": "x"}}')
    stage.schedules.put_raw("e", b"no json")
    assert await pages(stage, selector="team=x,env!=prod") == [["b", "d"]]
    assert await pages(stage, selector="team in (x, y)", labels={"env": "prod"}) == [["a"]]
    assert await pages(stage, selector="!team") == [["e"]]
    with pytest.raises(InvalidArgument, match="closing bracket") as caught:
        await pages(stage, selector="team in (x")
    assert caught.value.field == "selector"


async def test_pages_are_bounded_in_bytes(stage: Stage) -> None:
    """Large definitions make short pages; nothing is left out or shown twice."""
    ids = [f"big-{number:02d}" for number in range(30)]
    for schedule_id in ids:
        stage.schedules.put_raw(schedule_id, json.dumps({**HELLO, "payload": "x" * 60_000}).encode())
    found = await pages(stage, limit=1000)
    assert [each for page in found for each in page] == ids
    assert all(len(page) <= 16 for page in found)


async def test_a_list_that_changes_meanwhile(stage: Stage) -> None:
    """A cursor is a position: what is deleted between two pages does not move it."""
    for name in "abcd":
        await stage.put(name)
    first = await stage.ask("schedule.list", limit=2)
    await stage.ask("schedule.delete", id="b")
    await stage.put("aa")
    rest = await stage.ask("schedule.list", limit=2, cursor=first["cursor"])
    assert [item["id"] for item in rest["items"]] == ["c", "d"]


async def test_a_list_that_takes_too_long_ends_early(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that finds little in much comes back in time, with a cursor that goes on where it stopped."""
    monkeypatch.setattr("scheduler.services.api.schedules.YIELD_EVERY", 10)
    monkeypatch.setattr("scheduler.services.api.paging.PAGE_S", 0.0)
    for number in range(35):
        stage.schedules.put_raw(f"s{number:02d}", json.dumps({**HELLO, "paused": number % 16 == 15}).encode())
    found = await pages(stage, state="paused")
    assert len(found) == 4, "one page for every ten looked at"
    assert [each for page in found for each in page] == ["s15", "s31"]


async def test_preview_of_a_stored_schedule(stage: Stage) -> None:
    """After is exclusive and defaults to now; nominal and fire time differ by start_delay; a pause is noted."""
    await stage.put("a", {**HELLO, "start_delay": "3s", "paused": True})
    fires = (await stage.ask("schedule.preview", id="a", count=2))["fires"]
    assert [fire["nominal_at"] for fire in fires] == ["2026-11-21T08:00:10.000Z", "2026-11-21T08:00:20.000Z"]
    assert fires[0]["fire_at"] == "2026-11-21T08:00:13.000Z"
    assert "paused" in fires[0]["notes"]
    past = (await stage.ask("schedule.preview", id="a", after="1999-12-31T23:59:50Z", count=1))["fires"]
    assert past[0]["nominal_at"] == "2000-01-01T00:00:00.000Z"


async def test_preview_of_a_definition(stage: Stage) -> None:
    """Nothing is stored; the id decides what H hashes to; as many as asked for, though computed in slices."""
    schedule = {"cron": "H H * * *", "queue": "q", "type": "t"}
    one = await stage.ask("schedule.preview", schedule=schedule, id="one", count=1000)
    two = await stage.ask("schedule.preview", schedule=schedule, id="two")
    assert len(one["fires"]) == 1000
    assert len({fire["nominal_at"] for fire in one["fires"]}) == 1000
    assert one["fires"][0]["nominal_at"][11:] != two["fires"][0]["nominal_at"][11:]
    assert await stage.schedules.last_revision() == 0


async def test_preview_needs_no_queue(stage: Stage) -> None:
    """When something fires depends neither on queue nor on type: a trigger alone can be previewed."""
    fires = (await stage.ask("schedule.preview", schedule={"every": "10s"}, count=1))["fires"]
    assert [fire["fire_at"] for fire in fires] == ["2026-11-21T08:00:10.000Z"]


async def test_preview_of_what_is_over(stage: Stage) -> None:
    """An exhausted trigger has no fires left, which is no error."""
    schedule = {"at": ["2026-11-21T08:00:01Z", "2026-11-21T08:00:02Z"], "queue": "q", "type": "t"}
    assert len((await stage.ask("schedule.preview", schedule=schedule))["fires"]) == 2
    assert (await stage.ask("schedule.preview", schedule=schedule, after="2027-01-01T00:00:00Z"))["fires"] == []


async def test_preview_ends_with_max_fires(stage: Stage) -> None:
    """A definition fires so often from `after` on; a stored one what is left from now on, so that later there is none.

    What lies before now is told as the trigger yields it, since how much of it was skipped is not asked.
    """
    hourly = {**HELLO, "every": "1h", "max_fires": 3}

    async def hours(**body: Any) -> list[str]:
        return [fire["nominal_at"][11:13] for fire in (await stage.ask("schedule.preview", **body))["fires"]]

    assert await hours(schedule=hourly) == ["09", "10", "11"]
    assert await hours(schedule=hourly, after="2026-11-20T23:00:00Z") == ["00", "01", "02"]
    assert await hours(schedule=hourly, count=2) == ["09", "10"]
    assert len(await hours(schedule={**hourly, "max_fires": 1001}, count=1000)) == 1000
    await stage.put("a", hourly)
    await stage.status.put("a", encode_status(StatusRow(fires=1)))
    assert await hours(id="a") == ["09", "10"]
    assert await hours(id="a", after="2026-11-21T09:00:00Z") == ["10"]
    assert await hours(id="a", after="2026-11-21T10:00:00Z") == []
    assert await hours(id="a", after="2026-11-21T06:00:00Z") == ["07", "08", "09", "10"]
    await stage.status.put("a", encode_status(StatusRow(fires=3)))
    assert await hours(id="a") == []


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ({}, InvalidArgument, "id"),
        ({"id": "nobody"}, NotFound, "id"),
        ({"id": "broken"}, InvalidArgument, "id"),
        ({"schedule": {"every": "1s", "queue": ""}}, InvalidArgument, "queue"),
        ({"schedule": {"queue": "q", "type": "t"}}, InvalidArgument, "cron"),
        ({"schedule": None}, InvalidArgument, None),
        ({"schedule": HELLO, "after": "soon"}, InvalidArgument, "after"),
        ({"schedule": HELLO, "after": "2900-01-01T00:00:00Z"}, InvalidArgument, "after"),
        ({"schedule": HELLO, "count": 1001}, InvalidArgument, "count"),
    ],
)
async def test_preview_refuses(stage: Stage, body: dict[str, Any], kind: type[Exception], field: str | None) -> None:
    """What cannot be previewed is told with the field."""
    stage.schedules.put_raw("broken", b"{}")
    with pytest.raises(kind) as caught:
        await stage.ask("schedule.preview", **body)
    assert getattr(caught.value, "field", None) == field
