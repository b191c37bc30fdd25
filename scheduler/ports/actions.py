"""Asking a worker to carry out a custom action."""

from __future__ import annotations

from typing import Protocol

from scheduler.wire.actions import Answer, Call


class Actions(Protocol):
    """One of the workers that listen for an action gets the call. Nothing is stored, nothing is repeated."""

    async def call(self, schedule_id: str, action: str, call: Call, within_s: float) -> Answer:
        """Its answer. Raises Unavailable when nobody listens (then nothing has happened), Unsure without an answer in
        time, Internal for an answer that makes no sense."""
