"""Telemetry: every word that services say is heard by both, and raises nothing."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.telemetry import Telemetry
from scheduler.telemetry.metrics import PrometheusTelemetry

WORDS = sorted(name for name, each in vars(Telemetry).items() if inspect.isfunction(each) and not name.startswith("_"))
VALUES: dict[str, Any] = {
    "bool": True,
    "int": 7,
    "float": 2.5,
    "str": "x",
    "int | None": 7,
    "float | None": 2.5,
    "dict[str, int]": {"active": 3},
}


def said(word: str) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of that word, each of its own type."""
    args: list[Any] = []
    named: dict[str, Any] = {}
    for name, each in list(inspect.signature(getattr(Telemetry, word)).parameters.items())[1:]:
        if each.kind is inspect.Parameter.KEYWORD_ONLY:
            named[name] = VALUES[str(each.annotation)]
        else:
            args.append(VALUES[str(each.annotation)])
    return args, named


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_heard(word: str) -> None:
    """The twin notes it under its own name, and a scrape says something else than before."""
    args, named = said(word)
    twin = RecordingTelemetry()
    getattr(twin, word)(*args, **named)
    (values,) = twin.of(word)
    assert named.items() <= values.items()
    metrics = PrometheusTelemetry(version="0.1.0", replica="a", namespace="schedd", repairs=())
    if word == "queue_gone":
        metrics.queue(queue="x", pending=1, ack_pending=1, paused=False, oldest_s=1.0)
    before, _ = metrics.render()
    getattr(metrics, word)(*args, **named)
    assert metrics.render()[0] != before


def test_there_are_words() -> None:
    """The list is read from the port, and not empty by mistake."""
    assert {"leadership", "fenced", "dropped", "repaired"} <= set(WORDS)
    assert len(WORDS) > 20
