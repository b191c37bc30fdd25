"""What the server says of a consumer, read: also where it says less than usual, or somebody else wrote it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.core.errors import Unavailable
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings
from scheduler.jetstream.queue_consumers import FOREVER, _metadata, _state_of

NOW = "2026-11-21T12:00:00Z"
LATER = datetime(2026, 11, 21, 13, tzinfo=UTC)


def info(*, cluster: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    base = {"ack_wait": 30_000_000_000, "max_deliver": 20, "max_ack_pending": 1000, "metadata": {"_nats.level": "5"}}
    found = {
        "name": "Q", "created": NOW, "ts": NOW, "config": {**base, **config}, "delivered": {"stream_seq": 7},
        "num_pending": 3, "num_ack_pending": 1,
    }  # fmt: skip
    return found if cluster is None else {**found, "cluster": cluster}


def test_of_other_hands() -> None:
    """A consumer without our metadata has no edit; what is there counts, numbers without a limit as well."""
    state = _state_of(info(max_deliver=-1, max_ack_pending=-1))
    assert (state.edit, state.pending, state.ack_pending, state.delivered_seq) == (None, 3, 1, 7)
    assert state.settings == QueueSettings(max_deliver=-1, max_ack_pending=-1)
    for strange in ("", "x", "-3", "9" * 40, "٣"):
        assert _state_of(info(metadata={"schedd.edit": strange, "schedd.max_pending": strange})).edit is None


def test_nobody_leads_it() -> None:
    """Then its numbers are nobody's, and 0: rather no answer than that it is empty."""
    with pytest.raises(Unavailable, match="no leader"):
        _state_of(info(cluster={"name": "c"}))
    assert _state_of(info(cluster={"name": "c", "leader": "n1"})).pending == 3


def test_pauses() -> None:
    """By the configuration, without the flag; one that is over is none; a note is that of its own pause only."""
    noted = _metadata(QueueEdit(QueueSettings(pause=Pause(LATER, "why")), 1))
    assert _state_of(info(pause_until="2026-11-21T13:00:00Z", metadata=noted)).settings.pause == Pause(LATER, "why")
    other = LATER + timedelta(hours=1)
    assert _state_of(info(pause_until="2026-11-21T14:00:00Z", metadata=noted)).settings.pause == Pause(other)
    assert _state_of(info(pause_until="2026-11-21T11:00:00Z", metadata=noted)).settings.pause is None
    assert _state_of(info(pause_until=FOREVER.isoformat())).settings.pause == Pause()
