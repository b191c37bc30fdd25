"""What the demo shows, without running it."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Raw
from rich.console import Console

from cli import demo
from cli.demo import Board, Lines, cells, table_of
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.execution import Failure, Kind, State
from scheduler.wire.record import Record
from scheduler.wire.schedule import ScheduleLimits, encode_document, parse_schedule

NOW = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)


def record(number: int = 0, **fields: Any) -> Record:
    at = f"2026-11-21T08:00:{number:02d}.000Z"
    base: dict[str, Any] = {
        "id": f"hello.20261121T0800{number:02d}000Z", "schedule": "hello", "generation": 1, "epoch": 1,
        "kind": Kind.AUTO, "nominal_at": at, "fire_at": at, "queue": "demo", "type": "demo:hello",
        "state": State.SUCCEEDED, "attempt": 1, "lateness_s": 0.003, "duration_s": 0.012,
    }  # fmt: skip
    return Record(**{**base, **fields})


def test_the_schedules_are_valid() -> None:
    """Each definition of the demo passes the daemon's own check."""
    for schedule_id, definition in demo.schedules(NOW).items():
        assert parse_schedule(schedule_id, encode_document(definition), ScheduleLimits()).queue == demo.QUEUE


def test_the_worker_knows_every_type() -> None:
    """No demo task goes without a function."""
    assert set(demo.make_worker("nats://x").types) == {d["type"] for d in demo.schedules(NOW).values()}


def test_a_board_tells_what_changed() -> None:
    """News are new executions, new states and new attempts; in the order of fire times."""
    board = Board()
    running = record(1, state=State.RUNNING)
    assert board.take([running, record(0)]) == [record(0), running]
    assert board.take([running, record(0)]) == []
    retrying = record(1, state=State.RUNNING, attempt=2)
    assert board.take([retrying]) == [retrying]
    assert [entry.id for entry in board.newest(1)] == [retrying.id]


def test_success_needs_executions() -> None:
    """A demo in which nothing happened, or anything failed or is under way, has not succeeded."""
    board = Board()
    assert board.is_settled
    assert not board.has_succeeded
    board.take([record(0)])
    assert board.has_succeeded
    board.take([record(1, state=State.QUEUED)])
    assert not board.is_settled
    board.take([record(1, state=State.FAILED)])
    assert board.is_settled
    assert not board.has_succeeded
    assert board.summary() == "2 executions: 1 succeeded, 1 failed"


def test_every_state_is_whole_at_80_columns() -> None:
    """A table of every state, with long results, is 80 columns wide and cuts results only."""
    board = Board()
    failure = Failure("ValueError", "long " * 30)
    states = list(State)
    board.take(record(n, state=state, error=failure, schedule="report") for n, state in enumerate(states))
    board.take([record(40, result=Raw(b'"' + b"y" * 200 + b'"'), attempt=10, max_tries=10, lateness_s=75.0)])
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(table_of(board, 50))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for word in (*states, "08:00:40Z", "10/10", "1m15s", "TOOK"):
        assert word in out.getvalue()


def test_cells() -> None:
    """A row says when, what, how it went, and why not."""
    assert cells(record(result=Raw(b'"hi"'))) == ("08:00:00Z", "hello", "succeeded", "1/3", "3ms", "12ms", '"hi"')
    waiting = record(state=State.RETRYING, error=Failure("E", "x\x1b"))
    assert cells(waiting)[5:] == ("-", "E: x\\x1b")
    assert cells(record(state=State.SKIPPED, attempt=0, reason="overlap", lateness_s=None))[3:] == (
        "-", "-", "12ms", "overlap",
    )  # fmt: skip


def test_lines_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal each change is one line without colours."""
    with Lines() as view:
        view.show(Board(), [record(0), record(1, state=State.TIMED_OUT)])
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.startswith("FIRED AT")
    assert "succeeded" in first
    assert "timed_out" in second
    assert header.index("STATE") == first.index("succeeded") == second.index("timed_out")


@pytest.mark.parametrize("text", ["0s", "2h", "soon", ""])
def test_the_duration_is_checked(text: str) -> None:
    """--for takes 1s to 1h; anything else is refused before anything is started."""
    with pytest.raises(InvalidArgument):
        demo.show(text)
