"""Log lines: one per record, with an event, and nothing from outside can forge one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.telemetry.logging import MESSAGE_MAX, configure_logging

log = logging.getLogger("scheduler.test")
Lines = Callable[[], list[str]]


@pytest.fixture
def configure() -> Iterator[Callable[..., Lines]]:
    """Configure logging to a buffer; returns what was written. Root's state comes back afterwards."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions

    def start(log_format: str, level: str = "info") -> Lines:
        stream = io.StringIO()
        configure_logging(log_format, level, stream=stream)
        return lambda: stream.getvalue().splitlines()

    yield start
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def only(lines: list[str]) -> dict[str, object]:
    assert len(lines) == 1, lines
    loaded: dict[str, object] = json.loads(lines[0])
    return loaded


def test_text_for_people(configure: Callable[..., Lines]) -> None:
    """Instant, level, event, message, fields."""
    lines = configure("text")
    log.warning("took %s", "office", extra={"event": "leader.elected", "epoch": 812})
    assert len(lines()) == 1
    at, rest = lines()[0].split(" ", 1)
    assert at.endswith("Z")
    assert rest == "WARNING leader.elected: took office (epoch=812)"


def test_json_for_machines(configure: Callable[..., Lines]) -> None:
    """The same as one object, values with their types, instants in the form of the contract."""
    lines = configure("json")
    until = datetime(2026, 11, 21, 8, tzinfo=UTC)
    log.info("planned", extra={"event": "planner.planned", "armed": 3, "late": False, "until": until, "huge": 2**70})
    line = only(lines())
    assert line.pop("at")
    assert line == {
        "level": "info", "event": "planner.planned", "message": "planned", "logger": "scheduler.test",
        "armed": 3, "late": False, "until": "2026-11-21T08:00:00.000Z", "huge": str(2**70),
    }  # fmt: skip


def test_a_line_without_event_is_named_by_its_logger(configure: Callable[..., Lines]) -> None:
    """Lines of libraries have a stable event too."""
    lines = configure("json")
    logging.getLogger("nats.aio.client").error("gone")
    assert only(lines())["event"] == "nats.aio.client"


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("evil", ["a\n2026 ERROR forged", "a\r\x1b[2Kb", "a\u2028b", "a\x9bb", "a\u202eb", "a\ud800b"])
def test_no_forged_lines(configure: Callable[..., Lines], log_format: str, evil: str) -> None:
    """Control characters in message, event, field name or value come out escaped, on the one line."""
    lines = configure(log_format)
    log.info("%s", evil, extra={"event": evil, "schedule": evil, evil + "key": 1})
    assert len(lines()) == 1
    text = lines()[0]
    assert text.isprintable()
    text.encode()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_long_messages_are_cut_with_a_mark(configure: Callable[..., Lines], log_format: str) -> None:
    """A line has a limit, and says how much is missing."""
    lines = configure(log_format)
    log.info("x" * 100_000, extra={"event": "e", "field": "y" * 100_000})
    assert len(lines()[0]) < 2 * MESSAGE_MAX
    assert f"… ({100_000 - MESSAGE_MAX} more)" in lines()[0]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_payloads_and_secrets_never_show(configure: Callable[..., Lines], log_format: str) -> None:
    """Fields that may carry them are hidden whatever they hold; bytes show their length only."""
    lines = configure(log_format)
    names = ("payload", "body", "headers", "result", "password", "token", "creds", "Payload")
    log.info("m", extra={"event": "e", **dict.fromkeys(names, "s3cret"), "other": b"s3cret"})
    assert "s3cret" not in lines()[0]
    assert "<6 bytes>" in lines()[0]


def boom() -> None:
    raise ValueError("first\nsecond")


def test_tracebacks(configure: Callable[..., Lines]) -> None:
    """In text each line of a traceback is marked as such; in JSON it is one field."""
    for log_format in ("text", "json"):
        lines = configure(log_format)
        try:
            boom()
        except ValueError:
            log.exception("broke", extra={"event": "e"})
        if log_format == "text":
            assert all(line.startswith("    | ") for line in lines()[1:])
            assert lines()[-1] == "    | second"
        else:
            assert str(only(lines())["traceback"]).endswith("ValueError: first\nsecond")


def test_a_broken_log_call_still_makes_a_line(configure: Callable[..., Lines]) -> None:
    """Arguments that do not fit the message are no reason to lose it, nor to raise."""
    lines = configure("text")
    log.info("%d schedules", "three", extra={"event": "e"})
    assert "'%d schedules' (its arguments do not fit)" in lines()[0]


def test_libraries_are_quiet_unless_we_debug(configure: Callable[..., Lines]) -> None:
    """uvicorn's chatter is not ours; with debug it is wanted."""
    lines = configure("text")
    logging.getLogger("uvicorn.error").info("Shutting down")
    assert lines() == []
    lines = configure("text", "debug")
    logging.getLogger("uvicorn.error").info("Shutting down")
    assert len(lines()) == 1


@pytest.mark.parametrize(("log_format", "level"), [("xml", "info"), ("text", "loud")])
def test_unknown_words_are_refused(log_format: str, level: str) -> None:
    """With the words that exist."""
    with pytest.raises(InvalidArgument, match=r"use (text or json|debug, info)"):
        configure_logging(log_format, level)
