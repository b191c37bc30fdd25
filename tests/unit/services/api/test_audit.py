"""schedule.audit and the past of a preview over the twins: what is read, in which order, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument, NotFound, Unavailable
from scheduler.core.model.execution import State
from scheduler.memory.clock import START
from scheduler.ports.queues import Fact
from scheduler.services.api.auditing import Audits
from scheduler.wire.instants import format_instant
from tests.unit.services.api.stage import Stage

BEFORE = format_instant(START - timedelta(minutes=1))
TICK = {"every": "1s", "queue": "q", "type": "t"}


def instant(seconds: float) -> str:
    return format_instant(START + timedelta(seconds=seconds))


async def applied(
    stage: Stage, schedule_id: str, generation: int, seconds: float, definition: Any, **more: Any
) -> None:
    """The evidence that a leader stores."""
    data = {"generation": generation, "effective_from": instant(seconds), "definition": definition, **more}
    await stage.events.store([Fact(f"applied-{schedule_id}-{generation}", "applied", schedule_id, data)])


async def audit(stage: Stage, schedule_id: str, since: str = BEFORE, **more: Any) -> Any:
    return await stage.ask("schedule.audit", id=schedule_id, since=since, **more)


async def test_a_schedule_with_a_hole(stage: Stage) -> None:
    """Fired, skipped and missing ones, each with its own verdict; the sum is what was expected."""
    await stage.start()
    await applied(stage, "a", 1, 0, TICK)
    await stage.record("a", 1, State.SUCCEEDED)
    await stage.record("a", 3, State.SKIPPED)
    await stage.record("a.b", 2, State.SKIPPED)
    await stage.clock.advance(9)
    found = await audit(stage, "a", until=instant(4))
    assert [(each["nominal_at"], each["verdict"]) for each in found["occurrences"]] == [
        (instant(1), "succeeded"), (instant(2), "unexplained"), (instant(3), "skipped")
    ]  # fmt: skip
    assert (found["expected"], found["unexplained"]) == (3, 1)
    assert "truncated" not in found
    assert found["occurrences"][0]["execution_id"] == "a.20261121T080001000Z"


async def test_the_definition_of_the_time_decides(stage: Stage) -> None:
    """Not the one that is stored now; and one that is not applied yet is in force from its write on."""
    await stage.start(applied=1)
    await applied(stage, "a", 1, 0, {**TICK, "every": "2s"})
    await stage.clock.advance(5)
    revision = stage.schedules.put_raw("b", b"{}")
    revision = stage.schedules.put_raw("a", b'{"manual": true, "queue": "q", "type": "t"}')
    assert revision > 1
    await stage.clock.advance(10)
    found = await audit(stage, "a")
    assert [each["nominal_at"] for each in found["occurrences"]] == [instant(2), instant(4)]


async def test_a_definition_too_large_to_show(stage: Stage) -> None:
    """Its payload is left out of the evidence, and it is audited all the same."""
    await stage.start()
    await applied(stage, "a", 1, 0, {**TICK, "payload_base64": "eA=="})
    await stage.clock.advance(8)
    assert (await audit(stage, "a"))["expected"] == 2


async def test_evidence_that_cannot_be_read(stage: Stage) -> None:
    """What was in force then nobody knows: asked for that time, the audit says from when on it does."""
    await stage.start()
    await applied(stage, "a", 1, 0, {"every": "no span"})
    await applied(stage, "a", 2, 4, TICK)
    await stage.clock.advance(132)
    with pytest.raises(InvalidArgument, match=r"08:00:04\.000Z"):
        await audit(stage, "a", instant(-100))


async def test_what_is_refused(stage: Stage) -> None:
    """Unknown schedules, times before what is kept, times that are none or the wrong way round."""
    await stage.start()
    await applied(stage, "a", 1, 0, TICK)
    for body, field in (
        ({"id": "a", "since": "2020-01-01T00:00:00Z"}, "since"), ({"id": "a", "since": "24h"}, "since"),
        ({"id": "a"}, "since"), ({"id": "a", "since": instant(5), "until": instant(5)}, "until"),
        ({"since": BEFORE}, "id"),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument) as raised:
            await stage.ask("schedule.audit", **body)
        assert raised.value.field == field, body
    with pytest.raises(NotFound):
        await audit(stage, "nope")


async def test_an_answer_has_an_end(stage: Stage) -> None:
    """Of more than fits the first are listed, the numbers are those of all, and the answer says so."""
    await stage.start()
    await applied(stage, "a", 1, 0, TICK)
    await stage.clock.advance(60)
    stage.noun(Audits)._bytes_max = 2000
    found = await audit(stage, "a")
    assert found["truncated"] is True
    assert 0 < len(found["occurrences"]) < found["expected"] == found["unexplained"]
    assert found["occurrences"][0]["nominal_at"] == instant(1)


async def test_what_waits_is_no_hole(stage: Stage) -> None:
    """Behind what is planned nothing is judged yet."""
    await stage.start()
    await applied(stage, "a", 1, 0, TICK)
    await stage.clock.advance(70)  # the watermark stands at 60 s
    found = await audit(stage, "a", instant(55))
    assert found["verdicts"] == {"pending": 4}
    assert found["unexplained"] == 6
    assert {each["reason"] for each in found["occurrences"] if each["verdict"] == "pending"} == {"not_planned"}


async def test_nats_away(stage: Stage) -> None:
    """An audit that cannot read everything says so: part of it would be a wrong one."""
    await stage.start()
    stage.server.down = True
    with pytest.raises(Unavailable):
        await audit(stage, "a")


async def test_the_past_of_a_preview(stage: Stage) -> None:
    """The last N that were to fire, oldest first, with what became of them and how the clocks of the schedule show
    them; for a definition there is no past."""
    await stage.start()
    await stage.clock.advance(0.5)
    await stage.put("a", {**TICK, "timezone": "Europe/Berlin", "every": "2s"})
    await applied(
        stage, "a", stage.schedules.stream.last_seq, 0.5, {**TICK, "timezone": "Europe/Berlin", "every": "2s"}
    )
    await stage.record("a", 6)
    await stage.clock.advance(14)
    found = await stage.ask("schedule.preview", id="a", count=1, last=2)
    assert [(each["local"], each["verdict"]) for each in found["past"]] == [
        ("2026-11-21T09:00:06+01:00", "succeeded"), ("2026-11-21T09:00:08+01:00", "unexplained")
    ]  # fmt: skip
    assert len((await stage.ask("schedule.preview", id="a", last=1000))["past"]) == 4
    assert "past" not in await stage.ask("schedule.preview", id="a")
    with pytest.raises(InvalidArgument) as raised:
        await stage.ask("schedule.preview", schedule=TICK, last=2)
    assert raised.value.field == "last"
