"""What is wrong with a command line is told before anything is connected."""

from __future__ import annotations

import pytest

from cli.running import run
from cli.schedctl import app


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("add",), "id"),
        (("add", "a..b", "--every", "1s"), "schedule id"),
        (("add", "a", "--payload", "{"), "--payload"),
        (("add", "a", "--payload", "@/nowhere/at/all"), "/nowhere/at/all"),
        (("add", "a", "--header", "x"), "NAME=VALUE"),
        (("add", "a", "--max-tries", "x"), "--max-tries"),
        (("add", "-f", "/nowhere/at/all"), "/nowhere/at/all"),
        (("add", "-f", "x", "--every", "1s"), "not both"),
        (("add", "a", "--evry", "1s"), "--evry"),
        (("list", "--state", "odd"), "state"),
        (("list", "--json", "--names"), "--json"),
        (("list", "--label", "x"), "NAME=VALUE"),
        (("executions", "list", "--since", "yesterday"), "since"),
        (("preview",), "definition"),
        (("preview", "a", "--count", "0"), "--count"),
        (("backfill",), "--from"),
        (("backfill", "a", "--from", "2026-01-01T00:00:00Z"), "--to"),
        (("backfill", "a", "--from", "then", "--to", "2026-01-01T00:00:00Z", "--dry-run"), "from"),
        (("backfill", "a", "--from", "2026-01-01T00:00:00Z", "--to", "2026-02-01T00:00:00Z"), "--yes"),
        (("backfill", "--cancel", "a.b"), "cancel"),
        (("backfill", "--cancel", "b", "--list"), "exclude"),
        (("nothing",), "nothing"),
        (("action", "invoke", "a"), "ACTION"),
        (("action", "invoke", "a..b", "x"), "schedule id"),
        (("action", "invoke", "a", "No Name"), "name of an action"),
        (("action", "invoke", "a", "x", "--payload", "{"), "--payload"),
        (("action", "invoke", "a", "x", "--timeout", "1h"), "timeout"),
        (("get",), "ID"),
        (("list", "--namespace", "Bad_Name"), "namespace"),
    ],
)
def test_usage_errors_are_2_and_need_no_server(
    arguments: tuple[str, ...], word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with the command line is told in a sentence that names it, before anything is connected."""
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    code = run(app, "schedctl", arguments)
    shown = capsys.readouterr()
    assert code == 2, shown.err
    assert word in shown.err
    assert shown.out == ""
