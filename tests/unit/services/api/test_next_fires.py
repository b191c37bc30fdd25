"""What a schedule shows as its next fires, with a delay and jitter between nominal time and fire."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.dispatching import InForce
from scheduler.core.firing import fire_time
from scheduler.core.model.schedule import Definition, Every, Schedule
from scheduler.core.model.status import StatusRow
from scheduler.core.triggers import FIRST, compile_trigger
from scheduler.memory.clock import START
from scheduler.services.api.views import next_fires

SECOND = timedelta(seconds=1)


def in_force(**fields: Any) -> InForce:
    schedule = Schedule(id="s", queue="q", type="t", trigger=Every(10 * SECOND), **fields)
    return InForce(Definition(schedule=schedule, generation=1, effective_at=FIRST), compile_trigger(schedule))


@given(
    jitter_s=st.integers(0, 40),
    delay_s=st.integers(0, 40),
    now_ms=st.integers(0, 60_000),
    paused_s=st.none() | st.integers(0, 60),
)
def test_the_next_fires_are_the_first_ones_to_come(
    jitter_s: int, delay_s: int, now_ms: int, paused_s: int | None
) -> None:
    """Strictly after now, ascending, none left out: also the one whose nominal time has passed already."""
    now = START + timedelta(milliseconds=now_ms)
    pause: dict[str, Any] = {} if paused_s is None else {"paused": True, "paused_until": START + paused_s * SECOND}
    known = in_force(jitter=jitter_s * SECOND, start_delay=delay_s * SECOND, **pause)
    schedule, trigger = known.definition.schedule, known.trigger
    nominals = (START + number * 10 * SECOND for number in range(-20, 40))
    fires: list[datetime] = [fire_time(schedule, trigger, at) for at in nominals if not schedule.is_paused_at(at)]
    assert next_fires(known, now, 5, StatusRow()) == [at for at in fires if at > now][:5]


def test_there_are_no_more_next_fires_than_max_fires_leaves() -> None:
    """What has fired by itself is counted in the row; a spent schedule has none."""
    known = in_force(max_fires=3)
    found = [len(next_fires(known, START, 5, StatusRow(fires=fires))) for fires in range(5)]
    assert found == [3, 2, 1, 0, 0]
