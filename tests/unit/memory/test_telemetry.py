"""The telemetry twin: remembers, and wakes who waits for a word."""

from __future__ import annotations

import asyncio

from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.telemetry import Telemetry


async def test_waits_for_what_comes_and_sees_what_was() -> None:
    """`seen` ends with the call that completes it, and at once if it was already there."""
    telemetry = RecordingTelemetry()
    port: Telemetry = telemetry
    waiting = asyncio.create_task(telemetry.seen("repaired", kind="arm", times=2))
    port.repaired(kind="arm")
    port.repaired(kind="slot")
    await asyncio.sleep(0)
    assert not waiting.done()
    port.repaired(kind="arm")
    assert await waiting == [{"kind": "arm"}, {"kind": "arm"}]
    assert await telemetry.seen("repaired", kind="slot") == [{"kind": "slot"}]
    assert telemetry.count("repaired") == 3
