"""Tables where there is no room for one."""

from __future__ import annotations

import pytest

from cli.output import Column, print_table
from scheduler.wire import api

COLUMNS = (
    Column[api.Revision]("ID", lambda row: row.id),
    Column[api.Revision]("STATE", lambda row: "superseded", rigid=True),
    Column[api.Revision]("NEXT", lambda row: "2026-11-21 08:00:00Z", rigid=True),
    Column[api.Revision]("NOTE", lambda row: "-"),
)
ROWS = [api.Revision(id="a-long-name-of-a-schedule", revision=1), api.Revision(id="b", revision=2)]


def shown(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(ROWS, COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    return lines


def test_a_row_becomes_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Below the least width each value has a line, what is not there is left out, and nothing is longer."""
    assert shown(40, monkeypatch, capsys) == [
        "ID     a-long-name-of-a-schedule",
        "STATE  superseded",
        "NEXT   2026-11-21 08:00:00Z",
        "",
        "ID     b",
        "STATE  superseded",
        "NEXT   2026-11-21 08:00:00Z",
    ]


def test_with_more_room_it_is_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An id may wrap at twelve characters and no sooner."""
    lines = shown(52, monkeypatch, capsys)
    assert lines[0].split() == ["ID", "STATE", "NEXT", "NOTE"]
    assert lines[1].startswith("a-long-name-")
