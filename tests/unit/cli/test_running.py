"""From exceptions to one sentence and an exit code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import typer

from cli.running import run
from scheduler.core.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, Unavailable, Unsure


def app_that(action: Callable[[], None]) -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(action)
    return app


@pytest.mark.parametrize(
    ("problem", "code", "shown"),
    [
        (InvalidArgument("bad", field="cron"), 2, "x: cron: bad\n"),
        (InvalidArgument("cron: bad", field="cron"), 2, "x: cron: bad\n"),
        (NotFound("none"), 3, "x: none\n"),
        (Conflict("changed"), 4, "x: changed\n"),
        (Unavailable("away"), 5, "x: away\n"),
        (Unsure("unknown"), 5, "x: unknown\n"),
        (PermissionDenied("no"), 1, "x: no\n"),
        (PermissionDenied("no\n\x1b"), 1, "x: no \\x1b\n"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(7), 7, ""),
        (BrokenPipeError(), 0, ""),
        (ZeroDivisionError("oops"), 1, "x: unexpected ZeroDivisionError: oops (SCHEDD_DEBUG=1 shows more)\n"),
    ],
)
def test_each_failure_has_its_code_and_one_line(
    problem: BaseException, code: int, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is the contract's, the message one line on stderr, never a traceback."""
    monkeypatch.setattr("cli.running._close_quietly", lambda: None)

    def action() -> None:
        raise problem

    assert run(app_that(action), "x", []) == code
    assert tuple(capsys.readouterr()) == ("", shown)


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEDD_DEBUG lets an unexpected exception through, for whoever wants to report it."""
    monkeypatch.setenv("SCHEDD_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(app_that(lambda: 1 / 0), "x", [])  # type: ignore[arg-type]


def test_success_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that returns is exit code 0, whatever it returns."""
    assert run(app_that(lambda: print("hi")), "x", []) == 0
    assert capsys.readouterr().out == "hi\n"
