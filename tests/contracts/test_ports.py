"""Each port has one suite here, which its twin and its adapter pass alike; none is forgotten."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITES = {
    "Actions": "test_actions.py",
    "Bucket": "test_bucket.py",
    "Cancels": "test_cancels.py",
    "Clock": "test_clock.py",
    "EventFeed": "test_event_feed.py",
    "Events": "test_events.py",
    "Logs": "test_logs.py",
    "Poster": "test_posting.py",
    "QueueMaker": "test_queue_settings.py",
    "Reports": "test_reports.py",
    "Signals": "test_signals.py",
    "Storage": "test_storage.py",
    "TaskQueues": "test_queues.py",
    "Telemetry": "test_telemetry.py",
    "Timeline": "test_timeline.py",
    "Watch": "test_watch.py",
}
WITHOUT = {
    "Api": "one implementation, services/api; its transports are adapters of their own (tests/integration/test_api.py)",
    "Checkpoints": "a hook for tests: in production it does nothing",
}
BY_SIGNATURE = {"Telemetry"}
"""Ports whose suite goes through the methods by itself."""


def ports() -> dict[str, list[str]]:
    """Each Protocol of scheduler/ports with its methods."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "scheduler" / "ports").glob("*.py")):
        for each in ast.parse(path.read_text()).body:
            if isinstance(each, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in each.bases):
                functions = [one for one in each.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
                found[each.name] = [one.name for one in functions]
    return found


def test_each_port_has_a_suite() -> None:
    """Or a reason why it needs none; and no suite is of a port that is not there."""
    assert ports().keys() == SUITES.keys() | WITHOUT.keys()
    assert not SUITES.keys() & WITHOUT.keys()


@pytest.mark.parametrize("port", SUITES)
def test_each_method_is_called_on_both(port: str) -> None:
    """By some suite that plays on the twin and on the real thing."""
    here = ROOT / "tests" / "contracts"
    assert (here / SUITES[port]).is_file()
    text = "\n".join(path.read_text() for path in here.glob("test_*.py"))
    uncalled = [name for name in ports()[port] if not re.search(rf"\.{name}\b", text)]
    assert port in BY_SIGNATURE or uncalled == []
