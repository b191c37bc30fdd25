"""What fires in a soak, by kind of schedule. All that fires by itself does so on the grid of whole seconds.

tick-N    fires every second, and is left alone
edited-N  the same, and its payload is rewritten all the time: the grid stays
busy-N    every second with `overlap: skip`, for a worker that takes longer: delivered, or skipped on record
moody-N   every second; paused, resumed, deleted and put again
by-hand   triggered by clients, with nonces
parked    triggered by clients and cancelled, in a queue that nobody works on before the end
once-N    at one instant, and deleted when it is over
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.faults.soak.history import Window

RETENTION_S = 150
"""Long enough for audits of what is a minute old, and gone within a rest."""
SHORT: Mapping[str, str] = {
    "SCHEDD_HORIZON": "30s",
    "SCHEDD_ACK_WAIT": "3s",
    "SCHEDD_CLAIM_FLOOR": "120s",
    "SCHEDD_MARKER_AGE": "20s",
    "SCHEDD_RECENT_EXECUTIONS": "1000",
    "SCHEDD_CONNECT_TIMEOUT": "20s",
}
"""So that what a run leaves behind is gone within a rest. The horizon is longer than any outage here: what an edited
definition owed between the watermark and the edit is superseded, and once it is replaced while no replica runs nobody
knows of it at all (history 1)."""
HERD, BUSY, PARKED = "herd", "busy", "parked"
BUSY_S = 1.4
EDITED, MOODY, BUSIES = 5, 6, 3
COMMON: Mapping[str, Any] = {
    "overlap": "allow",
    "catch_up": {"after": "10m"},  # late by an outage: fired all the same, however it was dealt
    "retention": {"age": f"{RETENTION_S}s"},
    "max_tries": 20,
}


def ticking(window: Window, *, queue: str = HERD, kind: str = "tick", **more: Any) -> dict[str, Any]:
    """One that fires every second of a window."""
    bounds = {"starts_at": window.began.isoformat(), "ends_at": window.ended.isoformat()}
    return {**COMMON, "every": "1s", "queue": queue, "type": kind, **bounds, **more}


def by_hand(queue: str) -> dict[str, Any]:
    return {**COMMON, "manual": True, "queue": queue, "type": "manual"}


def once(at: datetime) -> dict[str, Any]:
    return {**COMMON, "at": at.isoformat(), "queue": HERD, "type": "once"}


def standing(rate: int, window: Window) -> dict[str, dict[str, Any]]:
    """What is put before anything fires, by id: in all as many fires a second as asked for, one-shots aside."""
    ticks = max(1, rate - EDITED - MOODY - BUSIES)
    return {
        **{f"tick-{n:03d}": ticking(window) for n in range(ticks)},
        **{id_: ticking(window, kind="edited") for id_ in edited()},
        **{id_: ticking(window, kind="moody") for id_ in moody()},
        **{f"busy-{n}": ticking(window, queue=BUSY, kind="busy", overlap="skip") for n in range(BUSIES)},
        "by-hand": by_hand(HERD),
        "parked": by_hand(PARKED),
    }


def edited() -> list[str]:
    return [f"edited-{n}" for n in range(EDITED)]


def moody() -> list[str]:
    return [f"moody-{n}" for n in range(MOODY)]
