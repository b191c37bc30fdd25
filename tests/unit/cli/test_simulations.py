"""`schedctl simulate`: a file in, density, peaks and refusals out; no server anywhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.running import run
from cli.schedctl import app
from cli.simulations import density
from scheduler.core.simulating import Simulation

FILE = """
id: nightly
cron: "30 2 * * *"
timezone: Europe/Berlin
queue: q
type: t
---
id: typo
cron: "61 * * * *"
queue: q
type: t
---
- {id: poll, every: 10s, queue: q, type: t}
- {id: poll, every: 1s, queue: q, type: t}
- {every: 1s, queue: q, type: t}
"""
YEAR = ("--from", "2027-01-01T00:00:00Z", "--to", "2028-01-01T00:00:00Z")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "herd.yaml"
    path.write_text(FILE)
    return str(path)


def test_what_is_refused_is_named_and_the_rest_goes_on(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each bad definition has its sentence, the good ones are counted, the exit code says that something was bad."""
    assert run(app, "schedctl", ("simulate", file, *YEAR, "--json")) == 2
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert {each["id"]: each["fires"] for each in told["schedules"]} == {"nightly": 365, "poll": 3_153_600}
    assert told["fires"] == sum(told["hours"]) == 3_153_965
    assert len(told["hours"]) == 365 * 24
    assert [change["note"] for change in told["clock_changes"]] == [
        "2027-03-28 02:30 does not exist in Europe/Berlin; fires at 03:00",
        "2027-10-31 02:30 comes twice in Europe/Berlin; fires the first time",
    ]
    for word in ("typo: ", "poll is defined twice", "definition 5 has no id", "3 of 5 definitions"):
        assert word in shown.err
    assert len(told["refused"]) == 3


def test_people_get_it_within_80_columns(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Peaks with names, the table of hours and weekdays, who fires most, what clocks do."""
    monkeypatch.setenv("COLUMNS", "80")
    run(app, "schedctl", ("simulate", file, *YEAR))
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "Busiest second  2027-01-01 01:30:00Z, 2 fires: nightly, poll" in shown
    assert "UTC     Mon     Tue     Wed     Thu     Fri     Sat     Sun" in shown
    assert "3,153,600  poll" in shown
    assert "does not exist in Europe/Berlin" in shown


def test_density_is_a_mean_per_hour_and_weekday() -> None:
    """Every hour of the window counts for its weekday; hours outside of it are told by a dash."""
    start = datetime(2026, 11, 21, 22, 30, tzinfo=UTC)  # a Saturday
    hours = (7, 1_234, 99_999, *[0] * 21, 1_500_000)  # from Saturday 22:00 to Sunday 22:59
    simulation = Simulation(
        start=start, end=start, fires=0, hours=hours, busiest_second=None, busiest_minute=None, totals=(),
        clock_changes=(),
    )  # fmt: skip
    lines = list(density(simulation))
    assert lines[0].split() == ["UTC", "Sat", "Sun"]
    assert lines[1].split() == ["00", "-", "100k"]
    assert lines[23].split() == ["22", "7", "1.5M"]
    assert lines[24].split() == ["23", "1,234", "-"]


@pytest.mark.parametrize(
    ("window", "word"),
    [
        (("--from", "2027-01-01T00:00:00Z", "--to", "2027-01-01T00:00:00Z"), "to is not after from"),
        (("--from", "2027-01-01", "--to", "2028-01-01T00:00:00Z"), "from: '2027-01-01' is not an instant"),
        (("--from", "2027-01-01T00:00:00Z", "--to", "2047-01-01T00:00:00Z"), "ten years"),
        (("--from", "1960-01-01T00:00:00Z", "--to", "1961-01-01T00:00:00Z"), "1970"),
        (("--from", "2027-01-01T00:00:00Z"), "--to"),
    ],
)
def test_a_wrong_window_is_told(
    file: str, window: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit code 2, before anything is read."""
    assert run(app, "schedctl", ("simulate", file, *window)) == 2
    shown = capsys.readouterr()
    assert word in shown.err
    assert shown.out == ""


def test_calendars_come_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A calendar that is excluded has to be given; with it, its days are left out."""
    herd, holidays = tmp_path / "herd.yaml", tmp_path / "calendars.yaml"
    herd.write_text('{id: a, cron: "0 9 * * *", exclude: [holidays], queue: q, type: t}\n---\n'
                    "{id: chain, after: 5m, queue: q, type: t}\n")  # fmt: skip
    holidays.write_text("{id: holidays, dates: [2027-01-01, 2027-12-25]}\n")
    assert run(app, "schedctl", ("simulate", str(herd), *YEAR, "--json")) == 2
    assert "there is no calendar 'holidays' here: give it with --calendars FILE" in capsys.readouterr().err
    assert run(app, "schedctl", ("simulate", str(herd), *YEAR, "--calendars", str(holidays), "--json")) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["fires"] == 363
    assert "left out, for `after` depends on how long runs take: chain" in shown.err
