"""What an apply would do, in words and as a report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cli.planned import FIELDS_SHOWN, Foresight, Planned, report_of, show, value_text
from scheduler.core.calendars import no_calendars
from scheduler.wire.applying import Change, Kind, Stored, change_of
from scheduler.wire.differences import ABSENT

NOW = datetime(2026, 11, 21, 14, 0, 0, 500_000, tzinfo=UTC)
BASE: dict[str, Any] = {"every": "1h", "queue": "q", "type": "t"}


def planned(before: dict[str, Any] | None, after: dict[str, Any]) -> Planned:
    stored = None if before is None else Stored(1, {**BASE, **before})
    return Foresight(NOW, no_calendars).planned(change_of("a", {**BASE, **after}, stored))


def told(*changes: Planned, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show(changes)
    return capsys.readouterr().out.splitlines()


def test_created(capsys: pytest.CaptureFixture[str]) -> None:
    """With its next fire, if there is one."""
    assert told(planned(None, {}), capsys=capsys) == ["created   a, next 2026-11-21 15:00:00Z"]
    assert told(planned(None, {"paused": True}), capsys=capsys) == ["created   a, no fire ahead"]


def test_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """Field by field, then the fires; a payload alone says nothing of fires; what cannot be known is said."""
    assert told(planned({}, {"payload": {"to": "ann"}}), capsys=capsys) == [
        "changed   a", '  payload.to  - -> "ann"',
    ]  # fmt: skip
    lines = told(planned({}, {"every": "2h", "max_fires": 5}), capsys=capsys)
    assert lines[:3] == ["changed   a", "  every      1h -> 2h", "  max_fires  - -> 5"]
    assert lines[3].startswith("  next 24 h: none gained, 12 fires lost (2026-11-21 15:00:00Z, 2026-11-21 17:00:00Z, ")
    assert lines[3].endswith(", ...) (max_fires is not counted in)")
    [*_, last] = told(planned({}, {"paused": True}), capsys=capsys)
    assert last.startswith("  next 24 h: none gained, 24 fires lost")
    [*_, last] = told(planned({}, {"timezone": "Europe/Berlin"}), capsys=capsys)
    assert last == "  next 24 h: the same fires"


def test_an_invalid_one_is_repaired(capsys: pytest.CaptureFixture[str]) -> None:
    """What was invalid fired nothing, so all fires are gained."""
    change = change_of("a", BASE, Stored(1, {"evry": "1h", "queue": "q", "type": "t"}))
    [*_, last] = told(Foresight(NOW, no_calendars).planned(change), capsys=capsys)
    assert last.startswith("  next 24 h: 24 fires gained")
    change = change_of("a", BASE, Stored(1, None))
    assert told(Foresight(NOW, no_calendars).planned(change), capsys=capsys) == [
        "changed   a, which held no JSON object"
    ]


def test_the_work_for_all_of_them_is_bounded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few busy schedules are compared for the whole day, the many behind them for as long as they may."""
    monkeypatch.setattr("cli.planned.STEPS_IN_ALL", 120_000)
    foresight = Foresight(NOW, no_calendars)
    change = change_of("a", {**BASE, "every": "3s"}, Stored(1, {**BASE, "every": "1s"}))
    found = [foresight.planned(change).fires for _ in range(3)]
    assert found[0] is not None
    assert (found[0].is_whole, found[0].lost.count) == (True, 57_600)
    assert found[-1] is not None
    assert not found[-1].is_whole
    [*_, last] = told(foresight.planned(change), capsys=capsys)
    assert last.startswith("  until 2026-11-21 14:")


def test_texts_of_others_are_cleaned_and_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a huge value nor control characters reach the terminal."""
    assert value_text("name", "x\x1b[2J\n") == "x\\x1b[2J "
    assert value_text("payload.a", "x" * 5000).endswith("... (5,002 characters)")
    assert value_text("name", ABSENT) == "-"
    many = planned({}, {"payload": {f"k{n}": n for n in range(100)}})
    assert told(many, capsys=capsys)[-1] == f"  and {100 - FIELDS_SHOWN} more fields"


def test_the_report() -> None:
    """Counts of every kind, an item for each that does not stay as it is, failures beside."""
    same, new = planned({}, {}), planned(None, {})
    kept = Planned(Change(Kind.KEPT, "k", reason="why"))
    report = report_of([same, new, kept], dry_run=False, errors={"a": "refused"})
    assert report.counts == {"created": 0, "changed": 0, "unchanged": 0, "pruned": 0, "kept": 1, "failed": 1}
    assert [(item.id, item.change, item.error) for item in report.items] == [
        ("a", "created", "refused"), ("k", "kept", None),
    ]  # fmt: skip
