"""The table of an audit that is longer than one answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from cli.auditing import _rest
from scheduler.client.requests import Instant
from scheduler.wire import api
from scheduler.wire.instants import format_instant, parse_instant

START = datetime(2026, 11, 20, tzinfo=UTC)
ROOM = 100


class Daemon:
    """Judges all that it is asked for, and answers with what fits."""

    def __init__(self, nominals: list[datetime]) -> None:
        self.nominals, self.judged, self.asked = nominals, 0, 0
        self.schedules = self

    async def audit(self, schedule_id: str, *, since: Instant, until: Instant | None = None) -> api.AuditReply:
        first, end = _at(since), datetime.max.replace(tzinfo=UTC) if until is None else _at(until)
        assert first < end
        found = [each for each in self.nominals if first <= each < end]
        self.judged, self.asked = self.judged + len(found), self.asked + 1
        shown = [api.Verdict(format_instant(each), "fired", None, None) for each in found[:ROOM]]
        return api.AuditReply(len(found), {"fired": len(found)}, 0, shown, truncated=len(found) > ROOM)


def _at(instant: Instant) -> datetime:
    return instant if isinstance(instant, datetime) else parse_instant(str(instant))


def _even(count: int) -> list[datetime]:
    return [START + timedelta(seconds=number) for number in range(count)]


def _in_bursts(count: int) -> list[datetime]:
    """Hours of nothing, and then many at once."""
    return [START + timedelta(hours=number // 250, milliseconds=number % 250) for number in range(count)]


@pytest.mark.parametrize("has_end", [True, False])
@pytest.mark.parametrize("nominals", [_even(50), _even(100), _even(101), _even(5_000), _in_bursts(3_000)])
async def test_each_row_once(nominals: list[datetime], has_end: bool) -> None:
    """Every occurrence, each once, in order; and the daemon judges little more than what is shown."""
    daemon = Daemon(nominals)
    until = format_instant(nominals[-1] + timedelta(milliseconds=1)) if has_end else None
    request: Any = SimpleNamespace(id="a", since=format_instant(START), until=until)
    first = await daemon.audit("a", since=START, until=until)
    daemon.judged = 0
    pages = [first, *await _rest(daemon, request, first)]  # type: ignore[arg-type]
    shown = [each.nominal_at for page in pages for each in page.occurrences]
    assert shown == [format_instant(each) for each in nominals]
    assert daemon.judged <= 4 * len(nominals)
    assert daemon.asked <= 4 * len(nominals) / ROOM + 100
