"""Giving up a connection that was never made."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from scheduler.jetstream import connection


class NeverClosed:
    """A client that does not come to its end, as over a TLS stream whose other side says nothing more."""

    async def close(self) -> None:
        await asyncio.Event().wait()


async def test_a_client_that_does_not_close_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who could not connect is told so, however long the client would take to close."""
    monkeypatch.setattr(connection, "ABANDON_S", 0.0)
    async with asyncio.timeout(5):
        await connection._abandon(cast("Any", NeverClosed()))
