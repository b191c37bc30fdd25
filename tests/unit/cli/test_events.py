"""Events as lines."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cli import events
from scheduler.client import Event


class Told:
    """Stands for a watch that has one event to tell."""

    def __init__(self, event: Event) -> None:
        self._events = [event]

    def __aiter__(self) -> Told:
        return self

    async def __anext__(self) -> Event:
        if not self._events:
            raise StopAsyncIteration
        return self._events.pop()


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_only_a_terminal_cuts(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a pipe goes all of it: whoever greps for the last fact finds it."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    data = {"execution_id": "a" * 150, "reason": "x" * 100, "lateness_s": 1.5}
    event = Event(
        seq=1, id="1", kind="finished", schedule="a", at=datetime(2026, 11, 21, tzinfo=UTC), data=data, body=b"{}"
    )
    assert await events._print(Told(event)) == 1  # type: ignore[arg-type]  # it only iterates
    shown = capsys.readouterr().out
    assert ("lateness_s=1.5" in shown) is not is_terminal
    assert ("…" in shown) is is_terminal
