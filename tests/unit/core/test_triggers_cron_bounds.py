"""The rarest and the longest cron expressions: each is read and searched in bounded time."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from itertools import product
from time import process_time

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Dst, Gap, Twice
from scheduler.core.triggers import LAST
from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.cron_calendar import Days
from scheduler.core.triggers.cron_text import read_cron
from scheduler.core.zones import Segment, Zone, zone_of
from tests.unit.core.cron_triggers import NEW_YEAR, compiled

DSTS = [Dst(gap=gap, overlap=overlap) for gap, overlap in product(Gap, Twice)]


# --- rare and long ones

EVIL = (
    "0 0 0 29 2 * 2096",
    "* * * 31 2 * 1970-2099",
    "0 0 29 2 */7",
    "59 59 23 31 12 ? 2099",
    "0 0 * 2 5#5",
    ",".join(str(n) for n in range(60)) + " * * * *",
    "*/1,*/2,*/3,*/4,*/5 */1,*/2 */1,*/2 */1,*/2 */1,*/2",
)


@pytest.mark.parametrize("expression", EVIL)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_no_expression_takes_long(expression: str, zone: str) -> None:
    """The rarest and the longest expressions are read, or refused, and searched both ways in well under a second."""
    began = process_time()
    with suppress(InvalidArgument):
        trigger = compiled(expression, zone=zone)
        trigger.next_after(datetime(1970, 1, 1, tzinfo=UTC))
        trigger.next_after(datetime(2099, 12, 31, tzinfo=UTC))
        trigger.previous_before(LAST)
    assert process_time() - began < 0.5


# --- the bound on every search


def test_every_search_ends_after_some_thousand_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rarest expressions there are look at no more months than there are, and at a few segments of the zone."""
    steps = {"months": 0, "segments": 0}
    month, segment_at = Days._month, Zone.segment_at

    def counted_month(days: Days, year: int, number: int) -> tuple[int, ...]:
        steps["months"] += 1
        return month(days, year, number)

    def counted_segment(zone: Zone, instant: int) -> Segment:
        steps["segments"] += 1
        return segment_at(zone, instant)

    monkeypatch.setattr(Days, "_month", counted_month)
    monkeypatch.setattr(Zone, "segment_at", counted_segment)
    for expression in ("30 30 2 28 3 ? 2027", "0 30 2 29 2 +0 2096", "0 */7 2 31 3 +0", "* * 2 29 2 +1#5"):
        for zone, dst in product(("Europe/Berlin", "Australia/Lord_Howe"), DSTS):
            with suppress(InvalidArgument):
                trigger = CronTrigger(read_cron(expression, "s"), zone_of(zone), dst)
                for ask in (trigger.next_after, trigger.previous_before):
                    for at in (NEW_YEAR, datetime(1970, 1, 1, tzinfo=UTC), LAST):
                        steps.update(months=0, segments=0)
                        ask(at)
                        assert steps["months"] < 12 * 231 * 2
                        assert steps["segments"] < 1500
