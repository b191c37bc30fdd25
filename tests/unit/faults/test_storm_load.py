"""The load of the storm: as many fires as asked for, and a grid that schedd's triggers agree with."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.core.triggers import compile_trigger
from scheduler.wire.schedule import parse_schedule
from tests.faults.storm.load import MIX, Load, load_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = load_of(300, NOON, 60)


def test_the_mix_is_whole() -> None:
    """The shares add up to all fires."""
    assert sum(each.share for each in MIX) == pytest.approx(1)


@pytest.mark.parametrize("rate", [20, 100, 300, 301])
def test_the_rate_is_what_was_asked_for(rate: int) -> None:
    """Over a minute, in which every period of the mix fits, it is exact."""
    assert len(load_of(rate, NOON, 60).owed().must) == rate * 60


@pytest.mark.parametrize("strain", [each.name for each in MIX])
def test_schedd_agrees_on_what_is_owed(strain: str) -> None:
    """The instants told here by a grid are those of the triggers, in number and in time."""
    id_ = next(id_ for id_, each in MINUTE.strains.items() if each.name == strain)
    schedule = parse_schedule(id_, json.dumps(MINUTE.definitions[id_]).encode())
    trigger, told = compile_trigger(schedule), []
    at = trigger.next_after(NOON - timedelta(hours=1))
    while at is not None:
        told.append(at + schedule.start_delay)
        at = trigger.next_after(at)
    assert told == sorted(MINUTE.owed_by(id_).values())


def test_no_instant_lies_on_a_bound() -> None:
    """Half-open or not is no question: what is owed is well within."""

    def nearest(load: Load) -> float:
        strains = load.strains.items()
        fires = [at - strain.delay for id_, strain in strains for at in load.owed_by(id_).values()]
        return min(min(abs(at - load.began), abs(load.ended - at)) for at in fires).total_seconds()

    assert nearest(MINUTE) >= 0.1


def test_every_definition_is_taken_in() -> None:
    """Each schedule of the mix has an id, a queue and a window of its own right."""
    assert len(MINUTE.definitions) == len(MINUTE.strains) > 100
    assert {each["queue"] for each in MINUTE.definitions.values()} == {"storm-0", "storm-1"}
