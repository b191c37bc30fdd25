"""Catch-up x overlap x outage, whole replicas in virtual time: each cell's verdicts are written out by hand.

A schedule fires every 20 s and its workers need half a second. From the 25th to the 85th second there is an outage, so
that the occurrences of 40, 60 and 80 s come too late. Each letter stands for what becomes of one, 20 s to 120 s.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from unittest import mock

import msgspec
import pytest

from scheduler.memory.clock import START
from scheduler.wire.ids import execution_id
from tests.unit.simulation.chain_stage import Stage, play
from tests.unit.simulation.workers import TYPE

LETTERS = {
    ("fired", None): "F", ("missed", "catch_up"): "c", ("missed", "window"): "w", ("missed", "cap"): "m",
    ("skipped", "overlap"): "o", ("skipped", "buffer_full"): "b", ("skipped", "superseded_in_buffer"): "s",
}  # fmt: skip
MODES: dict[str, dict[str, Any]] = {
    "latest": {},
    "earliest": {"mode": "earliest"},
    "all": {"mode": "all"},
    "cap": {"mode": "all", "max": 2},
    "window": {"mode": "all", "window": "45s"},
    "none": {"mode": "none"},
}
CELLS = {  # by overlap policy and mode: an outage of all replicas, or of NATS
    "skip": {"latest": "FccFFF", "earliest": "FFccFF", "all": "FFooFF", "cap": "FFomFF", "window": "FwFoFF"},
    "allow": {"latest": "FccFFF", "earliest": "FFccFF", "all": "FFFFFF", "cap": "FFFmFF", "window": "FwFFFF"},
    "buffer_one": {"latest": "FccFFF", "earliest": "FFccFF", "all": "FFFbFF", "cap": "FFFmFF", "window": "FwFFFF"},
    "buffer_all": {"latest": "FccFFF", "earliest": "FFccFF", "all": "FFFFFF", "cap": "FFFmFF", "window": "FwFFFF"},
    "latest": {"latest": "FccFFF", "earliest": "FFccFF", "all": "FFsFFF", "cap": "FFFmFF", "window": "FwFFFF"},
}
NO_CATCH_UP = "FcccFF"
ON_TIME = "FFFFFF"


async def _outage(stage: Stage, kind: str) -> None:
    """From 25 s to 85 s; of the leader alone: it is killed, and another one is there."""
    site = stage.site
    for label in ("a", "b"):
        site.start(label)
    await asyncio.sleep(25)
    if kind == "nats":
        site.server.down = True
    for replica in list(site.alive):
        is_leading = replica.wiring is not None and replica.wiring.leader.tenure is not None
        if kind == "all" or (kind == "leader" and is_leading):
            await replica.kill()
    await asyncio.sleep(60)
    site.server.down = False
    if kind == "all":
        site.start("c")
    await asyncio.sleep(40)


def _letters(stage: Stage) -> str:
    """What became of each: its record's verdict, or that of the one range around it."""
    journal, letters = stage.site.journal, ""
    records = journal.last()
    for count in range(1, 7):
        nominal = START + timedelta(seconds=20 * count)
        record = records.get(execution_id("c", nominal))
        if record is not None:
            letters += LETTERS[record.verdict, None if record.verdict == "fired" else record.reason]
        else:
            (told,) = journal.told_of("c", nominal)
            letters += LETTERS[told.verdict, told.reason]
    return letters


def _played(overlap: str, mode: str, outage: str) -> str:
    async def scene(stage: Stage) -> str:
        document = {"every": "20s", "overlap": overlap, "queue": "plain", "type": TYPE}
        document["catch_up"] = {"after": "2s", **MODES[mode]}  # type: ignore[assignment]  # it is JSON
        stage.site.put("c", msgspec.json.encode(document))
        await _outage(stage, outage)
        return _letters(stage)

    with mock.patch("tests.unit.simulation.workers.WORK_MAX_S", 0.5):
        return str(play(7, scene))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("overlap", CELLS)
@pytest.mark.parametrize("outage", ["all", "nats", "leader"])
def test_cell(overlap: str, mode: str, outage: str) -> None:
    """Every occurrence has exactly one verdict, and it is the one that is written here."""
    expected = ON_TIME if outage == "leader" else CELLS[overlap].get(mode, NO_CATCH_UP)
    assert _played(overlap, mode, outage) == expected
