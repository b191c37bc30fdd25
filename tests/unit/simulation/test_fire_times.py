"""Fire times on whole replicas in virtual time: ten a second, and what may happen between a nominal time and its fire.

Nominal <= now < fire time is a window of its own: jitter or a delay holds the occurrence back after it was due. An
edit, a pause or a kill in it finds the occurrence armed (notes/features.md, 4.6).
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from scheduler.core.jitter import jitter_of
from scheduler.core.model.execution import Execution, State
from tests.unit.simulation import site as sites
from tests.unit.simulation.chain_stage import Stage, play
from tests.unit.simulation.workers import TYPE

MS = timedelta(milliseconds=1)
PUNCTUAL = timedelta(milliseconds=900)  # the site delays calls by up to some hundred milliseconds


def put(stage: Stage, **fields: Any) -> None:
    document = {"queue": "plain", "type": TYPE, "overlap": "allow", **fields}
    stage.site.put("c", msgspec.json.encode(document))


def fired(stage: Stage) -> dict[datetime, Execution]:
    """What was queued, by nominal time."""
    return {each.nominal_at: each for each in stage.runs() if each.queued_at is not None}


def test_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """`every: "100ms"`, where configured: each tenth of a second fires, once, in time, whoever leads."""
    monkeypatch.setattr(sites, "SETTINGS", {**sites.SETTINGS, "minimum_interval_s": 0.1})

    async def scene(stage: Stage) -> None:
        stage.site.start("r0")
        stage.site.start("r1")
        put(stage, every="100ms")
        await stage.until(lambda: len(fired(stage)) > 45)
        await stage.site.alive[0].kill()
        stage.site.start("r2")
        await stage.until(lambda: len(fired(stage)) > 100)
        await asyncio.sleep(5)
        runs = fired(stage)
        nominals = sorted(runs)[:80]
        assert [later - earlier for earlier, later in pairwise(nominals)] == [100 * MS] * 79
        assert all(nominal.microsecond % 100_000 == 0 for nominal in nominals)
        assert all(times[1:] == [] for times in stage.site.journal.pairs.values())
        in_time = [runs[nominal] for nominal in nominals[20:40]]  # from when there is a leader until it is killed
        late = [each for each in in_time if each.queued_at is None or each.queued_at - each.fire_at > PUNCTUAL]
        assert late == []

    play(11, scene)


EVERY, JITTER = timedelta(seconds=20), timedelta(seconds=20)


async def in_the_window(stage: Stage, **fields: Any) -> tuple[datetime, datetime]:
    """Goes on to an instant between a nominal time and its fire, both at least two seconds away."""
    put(stage, every="20s", jitter="20s", **fields)
    while True:
        await asyncio.sleep(0.5)
        now = stage.site.now()
        nominal = now - (now - datetime.fromtimestamp(0, now.tzinfo)) % EVERY
        fire = nominal + jitter_of("c", nominal, JITTER, nominal + EVERY)
        is_armed = any(subject.endswith(f"{nominal:%Y%m%dT%H%M%S}000Z") for subject in stage.armed())
        if is_armed and nominal + timedelta(seconds=2) < now < fire - timedelta(seconds=4):
            return nominal, fire


Edit = dict[str, Any]
EDITS: dict[str, tuple[Edit, bool]] = {
    "payload": ({"every": "20s", "jitter": "20s", "payload": 2}, True),
    "no jitter any more": ({"every": "20s"}, True),
    "less jitter": ({"every": "20s", "jitter": "1s"}, True),
    "another grid that has it": ({"every": "10s", "jitter": "20s"}, True),
    "a grid without it": ({"every": "20s", "anchor": "1970-01-01T00:00:01Z", "jitter": "20s"}, False),
    "paused": ({"every": "20s", "jitter": "20s", "paused": True}, False),
    "a window that begins now": ({"every": "20s", "jitter": "20s", "starts_at": "NOW"}, False),
    "a window that ends now": ({"every": "20s", "jitter": "20s", "ends_at": "NOW"}, True),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edit_while_a_fire_is_held_back(case: str) -> None:
    """It fires, once, at the instant it was armed for, if the new definition has its nominal time; otherwise not."""
    edit, fires = EDITS[case]

    async def scene(stage: Stage) -> None:
        stage.site.start("r0")
        nominal, fire = await in_the_window(stage)
        now = stage.site.now().isoformat(timespec="milliseconds")
        put(stage, **{name: now if value == "NOW" else value for name, value in edit.items()})
        await asyncio.sleep((fire - stage.site.now()).total_seconds() + 5)
        run = fired(stage).get(nominal)
        assert (run is not None) == fires
        if run is not None and run.queued_at is not None:
            assert run.fire_at == fire
            assert timedelta(0) <= run.queued_at - fire < PUNCTUAL
            assert run.payload == (b"2" if "payload" in edit else None)

    play(12, scene)


def test_a_kill_while_a_fire_is_held_back() -> None:
    """The leader dies between nominal time and fire; its successor arms and fires at the same instant."""

    async def scene(stage: Stage) -> None:
        stage.site.start("r0")
        nominal, fire = await in_the_window(stage)
        await stage.site.alive[0].kill()
        stage.site.start("r1")
        await asyncio.sleep((fire - stage.site.now()).total_seconds() + 60)
        runs = fired(stage)
        assert runs[nominal].fire_at == fire
        for at, run in runs.items():
            assert run.fire_at == at + jitter_of("c", at, JITTER, at + EVERY)
            assert run.state is State.SUCCEEDED
        assert sorted(runs) == [min(runs) + number * EVERY for number in range(len(runs))]
        assert len(runs) >= 3

    play(13, scene)
