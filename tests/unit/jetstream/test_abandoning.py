"""Giving up a connection that was never made."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import pytest

from scheduler.core.errors import Unavailable
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


class Deaf:
    """A client that loses the cancellation it is sent, and goes on trying."""

    async def connect(self, **options: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        while True:
            await options["error_cb"](OSError("reset by peer"))
            await asyncio.sleep(0)

    async def close(self) -> None: ...


async def test_nobody_tries_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for connecting ends it although the cancellation was lost within the client."""
    monkeypatch.setattr(connection, "ToughClient", Deaf)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="reset by peer"):
            await connection.connect(connection.ConnectionSettings.from_environment(env={}), name="t", timeout_s=0.01)
