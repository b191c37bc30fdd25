"""The lines that executions logged, as services see them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from msgspec import Struct


class StoredLine(Struct, frozen=True):
    """One line as it was sent, unread. `seq` is its place in the stream, `at` the server's time of it."""

    seq: int
    at: datetime
    body: bytes


class Logs(Protocol):
    """The logs stream. Anybody who works may write there, so nothing about a body is certain."""

    async def after(self, execution_id: str, seq: int, most: int) -> list[StoredLine]:
        """Up to `most` lines of an execution behind a sequence, oldest first; fewer than that: there are no more.

        Includes whatever was stored before the call. Raises Unsure, Unavailable.
        """
