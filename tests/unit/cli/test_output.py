"""Tables, texts and numbers as people read them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec import Raw

from cli import output, summaries
from cli.connecting import Connection
from cli.output import Column, Format
from scheduler.wire import api

COLUMNS = (
    Column[api.Revision]("ID", lambda row: row.id),
    Column[api.Revision]("STATE", lambda row: "superseded", rigid=True),
    Column[api.Revision]("REVISION", lambda row: str(row.revision), wide=True),
)


async def items(*bodies: bytes) -> AsyncIterator[Raw]:
    for body in bodies:
        yield Raw(body)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0.0, "0ms"), (0.0124, "12ms"), (0.9994, "999ms"), (0.9999, "1.0s"), (3.24, "3.2s"),
        (59.94, "59.9s"), (59.96, "1m00s"), (65, "1m05s"), (3599.6, "1h00m"), (7500, "2h05m"), (-0.02, "-20ms"),
    ],
)  # fmt: skip
def test_seconds(value: float | None, text: str) -> None:
    """A span is told in the unit that fits it, and never as 60 seconds."""
    assert output.seconds(value) == text


def test_instants() -> None:
    """Milliseconds show only where there are any; the zone always."""
    assert output.instant("2026-11-21T08:00:00.000Z") == "2026-11-21 08:00:00Z"
    assert output.instant("2026-11-21T08:00:00.250Z") == "2026-11-21 08:00:00.250Z"
    assert output.instant("2026-11-21T09:00:00+01:00") == "2026-11-21 09:00:00+01:00"
    assert output.instant(None) == "-"


def test_clean() -> None:
    """No control character survives: neither escape sequences nor the ones that turn text around."""
    assert output.clean("a\x1b[31mb\nc\u202ed\x07") == "a\\x1b[31mb c\\u202ed\\x07"
    assert output.clean("Zürich 日本") == "Zürich 日本"
    assert output.clean_lines("a\n\x1bb") == "a\n\\x1bb"


async def test_a_narrow_table_wraps_ids_and_keeps_states(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With COLUMNS=30 no line is longer, the state is whole, the id is all there."""
    monkeypatch.setenv("COLUMNS", "30")
    name = "abcdefghij" * 5
    await output.print_list(
        items(b'{"id":"%s","revision":1}' % name.encode()), api.Revision, COLUMNS, Format(), empty=""
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 30
    assert "superseded" in lines[1]
    assert "".join(line.split(" ")[0] for line in lines[1:]) == name
    assert "REVISION" not in lines[0]


async def test_json_is_the_bodies(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers, order and unknown fields of a body stay as they came."""
    count = await output.print_list(
        items(b'{"z":1.50,"id":"a"}', b'{"id":"b"}'), api.Revision, COLUMNS, Format(json=True), empty="none"
    )
    out = capsys.readouterr().out
    assert "".join(out.split()) == '[{"z":1.50,"id":"a"},{"id":"b"}]'
    assert count == 2


async def test_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    """A table says what to do, on stderr; JSON is an empty array; names are nothing."""
    for shown, out, err in ((Format(), "", "do this\n"), (Format(json=True), "[]\n", ""), (Format(names=True), "", "")):
        assert await output.print_list(items(), api.Revision, COLUMNS, shown, empty="do this") == 0
        assert tuple(capsys.readouterr()) == (out, err)


def test_facts_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Markup in a value is text; facts without a value do not show."""
    output.print_facts([("Name", "[red]x[/red]"), ("Error", None)])
    assert capsys.readouterr().out == "Name  [red]x[/red]\n"


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        ({"cron": "0 9 * * *", "timezone": "Europe/Berlin"}, "0 9 * * * Europe/Berlin"),
        ({"cron": ["a", "b"], "timezone": "UTC"}, "a | b"),
        ({"every": "10m"}, "every 10m"),
        ({"after": "5m"}, "5m after the last run"),
        ({"at": "2026-11-21T08:00:00.000Z"}, "at 2026-11-21 08:00:00Z"),
        ({"at": ["2026-11-21T08:00:00.000Z", "x", "y"]}, "at 2026-11-21 08:00:00Z (+2)"),
        ({"manual": True}, "manual"),
        ({}, "-"),
        ({"at": []}, "-"),
        ({"cron": 5, "timezone": 7}, "5"),
        ({"every": None}, "every -"),
        ({"at": {"x": 1}}, "at {'x': 1}"),
    ],
)
def test_when(definition: dict[str, object], text: str) -> None:
    """There are words for every definition, invalid ones included."""
    assert summaries.when(definition) == text


def test_pause() -> None:
    """A pause is told with its end and its note."""
    assert summaries.pause({}) is None
    assert summaries.pause({"paused": True}) == "until resumed"
    assert (
        summaries.pause({"paused": True, "paused_until": "2026-11-21T08:00:00.000Z", "pause_note": "x"})
        == "until 2026-11-21 08:00:00Z: x"
    )


def test_inner_options_complete_outer_ones() -> None:
    """An option after the subcommand wins over the same one before it; the others stay."""
    assert Connection(nats="inner").over(Connection(nats="outer", namespace="n")) == Connection("inner", None, "n")
