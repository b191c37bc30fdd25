"""`schedctl top`: what a look means, and the screen, driven by its keys at 80x24."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from cli.top.app import Top
from cli.top.look import Look, failed_rows, queue_rows, rate, running_rows, summary, troubles
from cli.top.plain import print_look
from scheduler.wire import api
from scheduler.wire.instants import format_instant
from scheduler.wire.record import Record
from scheduler.wire.reports import Progress

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def ago(seconds: float) -> str:
    return format_instant(NOW - timedelta(seconds=seconds))


def record(name: str, state: str, **more: Any) -> Record:
    fields: dict[str, Any] = {
        "id": f"{name}.20261121T115900000Z", "schedule": name, "generation": 1, "epoch": 1, "kind": "auto",
        "nominal_at": ago(60), "fire_at": ago(60), "queue": "EMAIL", "type": "t", "payload": None, "headers": {},
        "state": state, "attempt": 1, "max_tries": 3, "history": [], **more,
    }  # fmt: skip
    return msgspec.json.decode(msgspec.json.encode(fields), type=Record)


def check(name: str, level: str, told: str, of: str | None = None) -> api.HealthCheck:
    return api.HealthCheck(name=name, of=of, level=level, told=told, advice=None if level == "ok" else "do this")


HEALTH = api.HealthReply(
    level="warn",
    checks=[
        check("leader", "ok", "a, epoch 7"),
        check("planning", "ok", "1m58s ahead, of 2m00s"),
        check("lateness", "ok", "p99 12ms, of 30 fires in the last 10m00s"),
        check("schedules", "ok", "30 active, 0 paused, 0 invalid"),
        check("queue", "ok", "0 waiting, 0 at work", "calm"),
        check("queue", "warn", "90 waiting, 3 at work", "EMAIL"),
        check("disk", "warn", "81% of 1 GiB"),
        check("store", "crit", "no leader", "SCHEDD_TASKS"),
    ],
)
RUNNING = [
    record("old", "running", started_at=ago(75), queued_at=ago(75)),
    record("young", "running", started_at=ago(2), queued_at=ago(2)),
]
FAILED = [
    record("first", "failed", queued_at=ago(9), finished_at=ago(8), error={"type": "E", "message": "boom\x1b[31m"}),
    record("late", "missed", reason="window"),
    record("good", "succeeded", queued_at=ago(1), finished_at=ago(1)),
]
LOOK = Look(
    at=NOW, health=HEALTH, recent=[*RUNNING, *FAILED], running=RUNNING,
    progress={RUNNING[0].id: Progress(fraction=0.42, note="page 3")},
)  # fmt: skip


def test_rates_are_of_the_last_seconds() -> None:
    """What was queued, or ended, within ten seconds; `+` where a look was full of it."""
    assert (rate(LOOK, "queued_at"), rate(LOOK, "finished_at")) == ("0.3", "0.2")
    full = [record(f"s{number}", "queued", queued_at=ago(1)) for number in range(5)]
    assert rate(Look(at=NOW, recent=full, recent_max=5), "queued_at") == "0.5+"
    assert rate(Look(at=NOW), "queued_at") == "0.0"


def test_what_is_told() -> None:
    """Health in two lines, troubles with what to do, the worst first; queues in trouble come first."""
    assert summary(LOOK) == [
        "WARN · leader a, epoch 7 · plan 1m58s ahead, of 2m00s",
        "0.3 fired/s · 0.2 ended/s · p99 12ms · 30 active, 0 paused, 0 invalid",
    ]
    assert troubles(LOOK) == ["CRIT store SCHEDD_TASKS: no leader (do this)", "WARN disk: 81% of 1 GiB (do this)"]
    assert [row.cells[0] for row in queue_rows(LOOK)] == ["EMAIL", "calm"]
    assert summary(Look(at=NOW))[0] == "? · leader unknown · plan unknown"


def test_rows_are_sorted_and_filtered() -> None:
    """Longest, newest, by id; only what contains the text; control characters never reach the terminal."""
    assert [row.cells[0][:5] for row in running_rows(LOOK)] == ["old.2", "young"]
    assert [row.cells[0][:5] for row in running_rows(LOOK, "newest")] == ["young", "old.2"]
    assert running_rows(LOOK)[0].cells[1:] == ("1/3", "1m15s", "42% page 3")
    assert [row.cells[0][:5] for row in running_rows(LOOK, only="young")] == ["young"]
    assert running_rows(LOOK, only="nobody") == []
    rows = failed_rows(LOOK)
    assert [(row.cells[1], row.cells[2]) for row in rows] == [("failed", "8.0s"), ("missed", "-")]
    assert rows[0].cells[3] == r"E: boom\x1b[31m"


def test_one_look_as_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of the screen; an empty schedd says so; at 40 columns no line is longer."""
    print_look(LOOK)
    told = capsys.readouterr().out
    for word in ("leader a, epoch 7", "EMAIL", "old.2026", "42% page 3", "boom", "CRIT store SCHEDD_TASKS"):
        assert word in told
    print_look(Look(at=NOW, health=api.HealthReply(level="ok", checks=[])))
    told = capsys.readouterr().out
    for word in ("No queues yet.", "Nothing runs.", "Nothing failed lately."):
        assert word in told


class Daemon:
    """What the screen asks."""

    def __init__(self) -> None:
        self.looks = 0
        self.answer = LOOK

    async def look(self) -> Look:
        self.looks += 1
        return self.answer


@asynccontextmanager
async def screen(daemon: Daemon, size: tuple[int, int] = (80, 24), every_s: float = 30.0) -> AsyncIterator[Pilot[None]]:
    app = Top(daemon.look, every_s=every_s)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.1)
        yield pilot


def shown(pilot: Pilot[None]) -> str:
    """The screen as text."""
    svg = pilot.app.export_screenshot(simplify=True)
    texts = re.findall(r">([^<]+)</text>", svg)
    return "".join(texts).replace("&#160;", " ").replace("&amp;", "&")


async def test_the_screen_at_80_by_24() -> None:
    """Health, all three tables and the keys are to be seen at once."""
    async with screen(Daemon()) as pilot:
        while "Quit" not in (text := shown(pilot)):  # the keys are drawn a moment later
            await pilot.pause(0.05)
        for word in ("WARN", "leader a, epoch 7", "0.3 fired/s", "EMAIL", "old.20261121", "42%", "first.2026", "Quit"):
            assert word in text, text


async def test_keys_sort_filter_and_quit() -> None:
    """s changes the order, / narrows, Escape widens, q ends it."""
    daemon = Daemon()
    async with screen(daemon) as pilot:
        table = pilot.app.query_one("#running")
        assert str(table.get_row_at(0)[0]).startswith("old")  # type: ignore[attr-defined]
        await pilot.press("s")
        assert str(table.get_row_at(0)[0]).startswith("young")  # type: ignore[attr-defined]
        await pilot.press("slash", "o", "l", "d", "enter")
        assert table.row_count == 1  # type: ignore[attr-defined]
        assert "/old" in shown(pilot)
        await pilot.press("escape")
        await pilot.pause(0.05)
        assert table.row_count == 2  # type: ignore[attr-defined]
        await pilot.press("q")
    assert pilot.app.return_code == 0


async def test_a_pause() -> None:
    """p stops looking, and again goes on."""
    daemon = Daemon()
    async with screen(daemon, every_s=0.2) as pilot:
        pilot.app.action_pause()  # type: ignore[attr-defined]
        looks = daemon.looks
        await pilot.pause(0.6)
        assert daemon.looks <= looks + 1
        assert "PAUSED" in shown(pilot)
        pilot.app.action_pause()  # type: ignore[attr-defined]
        await pilot.pause(0.6)
        assert daemon.looks > looks + 1
        assert "PAUSED" not in shown(pilot)


async def test_a_daemon_that_is_away() -> None:
    """What was seen stays, and the screen says why it is not new; it recovers by itself."""
    daemon = Daemon()
    async with screen(daemon, every_s=0.1) as pilot:
        daemon.answer = msgspec.structs.replace(LOOK, problem="no schedd daemon answers")
        await pilot.pause(0.4)
        assert "no answer: no schedd daemon answers" in shown(pilot)
        assert "old.20261121" in shown(pilot)
        daemon.answer = LOOK
        await pilot.pause(0.4)
        assert "no answer" not in shown(pilot)


async def test_a_tiny_and_a_changing_screen() -> None:
    """20x6 breaks nothing, neither do five hundred rows that come and go."""
    daemon = Daemon()
    async with screen(daemon, (20, 6), every_s=0.2) as pilot:
        for count in (500, 0, 3):
            many = [record(f"s{number}", "running", started_at=ago(number)) for number in range(count)]
            daemon.answer = msgspec.structs.replace(LOOK, running=many)
            await pilot.pause(0.5)
            pilot.app.query_one("#running").action_cursor_down()  # type: ignore[attr-defined]
        assert pilot.app.query_one("#running").row_count == 3  # type: ignore[attr-defined]


async def test_a_look_that_comes_back_after_the_end() -> None:
    """Who leaves while the screen looks sees no traceback: nothing is drawn on what is being taken down."""
    daemon = Daemon()
    async with screen(daemon, every_s=0.0):
        pass
    assert daemon.looks > 1
