"""From whatever happens in a command to one sentence on stderr and an exit code; no traceback reaches a user.

Exit codes (contract, part 8): 0 ok, 1 failure, 2 usage, 3 not found, 4 conflict, 5 unavailable; 130 for Ctrl-C.
A reader that closed the pipe (`schedctl list | head`) has seen enough: that is no failure.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import logging
import os
import sys
from collections.abc import Sequence

import typer

from cli.errors import ReaderGone
from cli.output import clean, warn
from scheduler.core.errors import InvalidArgument, ScheddError

INTERRUPTED = 130


def program() -> typer.Typer:
    """A program without commands yet: help by -h, too, and errors as `run` tells them."""
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. What libraries log is not for whoever types a command."""
    logging.getLogger().addHandler(logging.NullHandler())
    _show_any_text()
    try:
        return _run(app, name, arguments)
    except (ReaderGone, BrokenPipeError):
        _close_quietly()
        return 0


def _run(app: typer.Typer, name: str, arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        raise
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # of rich, over a page of help
            raise ReaderGone from None
        raise
    except ScheddError as error:
        warn(f"{name}: {sentence(error)}")
        return error.exit_code
    except Exception as problem:
        return _report(name, problem)
    return code if isinstance(code, int) else 0


def sentence(error: ScheddError) -> str:
    """The message; with the field in front where input is wrong and the message does not tell which."""
    return clean(error.sentence if isinstance(error, InvalidArgument) else error.message)


def _report(name: str, problem: Exception) -> int:
    """A usage error of typer, or something nobody thought of. SCHEDD_DEBUG=1 shows where the latter came from."""
    usage = getattr(problem, "format_message", None)
    if usage is not None and not usage():
        return 2  # a group without a subcommand: its help has been printed, there is nothing to add
    if usage is not None:
        context = getattr(problem, "ctx", None)
        command = context.command_path if context is not None else name
        warn(f"{name}: {clean(str(usage()))}\nTry `{command} --help`.")
        return int(getattr(problem, "exit_code", 2))
    if os.environ.get("SCHEDD_DEBUG"):
        raise problem
    if isinstance(problem, OSError) and problem.errno == errno.ENOSPC:
        warn(f"{name}: cannot write: {problem.strerror}")
        _close_quietly()
        return 1
    warn(f"{name}: unexpected {type(problem).__name__}: {clean(str(problem))} (SCHEDD_DEBUG=1 shows more)")
    return 1


def _show_any_text() -> None:
    """Where stdout cannot say a character (a terminal that is not UTF-8), it is spelled as JSON spells it: \\u00fc."""
    codecs.register_error("as-json", _spelled)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="as-json")


def _spelled(problem: UnicodeError) -> tuple[str, int]:
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    text = problem.object[problem.start : problem.end]
    return json.dumps(text)[1:-1], problem.end


def _close_quietly() -> None:
    """Python flushes stdout once more at exit; give it somewhere to go."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
