"""The reply subject of a delivered message, and what is written back to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from scheduler.core.errors import Internal
from scheduler.jetstream.delivery import Delivery, read_reply
from scheduler.jetstream.timeline import nak_body

EXPECTED = Delivery(2, 57, datetime(2026, 11, 21, 8, 46, 21, 512_000, tzinfo=UTC), 9, 1)


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.SCHEDD_TIMELINE.dispatcher.2.57.9.1795250781512154913.1",
        "$JS.ACK.hub.ACCOUNTHASH.SCHEDD_TIMELINE.dispatcher.2.57.9.1795250781512154913.1",
        "$JS.ACK._.ACCOUNTHASH.SCHEDD_TIMELINE.dispatcher.2.57.9.1795250781512154913.1.rAnDom",
    ],
)
def test_forms(reply: str) -> None:
    """Both forms of the subject tell deliveries, sequence and time, cut to milliseconds."""
    assert read_reply(reply) == EXPECTED


@pytest.mark.parametrize(
    "reply", ["", "_INBOX.x.1", "$JS.ACK.a.b.1.2.3.4", "$JS.ACK.a.b.1.2.x.4.5", "$JS.ACK.a.b.c.d.1.2"]
)
def test_others(reply: str) -> None:
    """Any other subject is refused."""
    with pytest.raises(Internal):
        read_reply(reply)


@pytest.mark.parametrize(("delay_s", "delay_ns"), [(0.25, 250_000_000), (3600.0, 3_600_000_000_000), (-1.0, 0)])
def test_nak(delay_s: float, delay_ns: int) -> None:
    """A delay goes out in whole nanoseconds, and never below zero."""
    word, _, options = nak_body(delay_s).partition(b" ")
    assert word == b"-NAK"
    assert json.loads(options) == {"delay": delay_ns}
