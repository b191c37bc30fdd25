"""From exceptions to one sentence and an exit code."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import typer

from cli.running import run
from cli.schedctl import app as schedctl
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
        (InvalidArgument("headers has 'nats-x'", field="headers.nats-x"), 2, "x: headers has 'nats-x'\n"),
        (NotFound("none"), 3, "x: none\n"),
        (NotFound("there is no schedule 'a'", field="id"), 3, "x: there is no schedule 'a'\n"),
        (Conflict("changed"), 4, "x: changed\n"),
        (Unavailable("away"), 5, "x: away\n"),
        (Unsure("unknown"), 5, "x: unknown\n"),
        (PermissionDenied("no"), 1, "x: no\n"),
        (PermissionDenied("no\n\x1b"), 1, "x: no \\x1b\n"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(7), 7, ""),
        (BrokenPipeError(), 0, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "x: cannot write: No space left on device\n"),
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


def test_a_group_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`schedctl` without a command is exit code 2 and its help, with nothing on stderr."""
    assert run(schedctl, "schedctl", []) == 2
    shown = capsys.readouterr()
    assert "Usage: schedctl" in shown.out
    assert shown.err == ""
