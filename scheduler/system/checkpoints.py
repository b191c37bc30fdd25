"""Test-only stop points: a real signal to this very process, at a named point between two writes.

`SCHEDD_TEST_STOP=launch.claimed:KILL` sends SIGKILL the first time the point is reached, `…:STOP` SIGSTOP, and
`…:KILL:3` the third time. Without the variable nothing here runs. The points are listed in `ports.checkpoints`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from scheduler.core.errors import InvalidArgument
from scheduler.ports.checkpoints import POINTS, Checkpoints, NoCheckpoints

VARIABLE = "SCHEDD_TEST_STOP"


class SignalAt:
    """Sends `signal_number` to this process when `point` is reached for the `nth` time."""

    def __init__(self, point: str, signal_number: int, nth: int) -> None:
        self._point, self._signal, self._left = point, signal_number, nth

    async def reached(self, name: str) -> None:
        if name != self._point:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)


def checkpoints_from(env: Mapping[str, str]) -> Checkpoints:
    """What the variable asks for. Raises InvalidArgument for a point or signal that does not exist."""
    text = env.get(VARIABLE, "")
    if not text:
        return NoCheckpoints()
    point, _, rest = text.partition(":")
    name, _, nth = rest.partition(":")
    if point not in POINTS or name not in {"KILL", "STOP"} or not (nth or "1").isdigit():
        raise InvalidArgument(
            f"{text!r} is not POINT:KILL|STOP[:N] with a point of {', '.join(POINTS)}", field=VARIABLE
        )
    return SignalAt(point, getattr(signal, f"SIG{name}"), int(nth or "1"))
