"""The outbox of a worker: order, repeats, bounds."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument, ScheddError, Unavailable, Unsure
from scheduler.worker import outbox
from scheduler.worker.outbox import Outbox


class Reply:
    def __init__(self, data: bytes) -> None:
        self.data, self.headers = data, None


class FakeLink:
    """A link whose stream answers, or does not."""

    worker_id = "w"

    def __init__(self) -> None:
        self.client, self.requests = self, self
        self.is_connected, self.is_silent = True, False
        self.last_error: object = None
        self.sent: list[tuple[str, bytes, str]] = []

    async def send(self, subject: str, body: bytes, headers: dict[str, str]) -> asyncio.Future[Any]:
        await asyncio.sleep(0)
        if not self.is_connected:
            raise Unavailable("not connected")
        if len(body) > 100:
            raise InvalidArgument("too large")
        self.sent.append((subject, body, headers["Nats-Msg-Id"]))
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(None if self.is_silent else Reply(b'{"stream":"S","seq":1}'))
        return future

    async def collect(self, futures: list[asyncio.Future[Any]], timeout_s: float) -> list[Any]:
        await asyncio.sleep(0)
        silence: ScheddError = Unsure("no answer")
        return [silence if future.result() is None else future.result() for future in futures]

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body, _ in self.sent]


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def out(link: FakeLink) -> Outbox:
    return Outbox(link)  # type: ignore[arg-type]


def put(out: Outbox, *numbers: int) -> None:
    for number in numbers:
        out.put("schedd.log.x", b"%d" % number)


async def test_in_order(out: Outbox, link: FakeLink) -> None:
    """Lines go out in the order in which they came, also when several flush at once."""
    put(out, *range(50))
    await asyncio.gather(out.flush(), out.flush(), out.flush())
    await out.close()
    assert link.bodies == [b"%d" % number for number in range(50)]
    assert out.dropped == 0


async def test_what_cannot_be_sent_waits(out: Outbox, link: FakeLink) -> None:
    """While there is no connection nothing is lost; afterwards it goes, in order."""
    link.is_connected = False
    put(out, 1, 2)
    await out.flush()
    put(out, 3)
    link.is_connected = True
    out.wake()
    await out.close()
    assert (link.bodies, out.dropped) == ([b"1", b"2", b"3"], 0)


async def test_unconfirmed_lines_go_again(out: Outbox, link: FakeLink) -> None:
    """What the stream did not confirm is sent again under the same message id, and before what came later."""
    link.is_silent = True
    put(out, 1, 2)
    await out.flush()
    put(out, 3)
    await out._confirm()
    link.is_silent = False
    await out.close()
    assert link.bodies == [b"1", b"2", b"1", b"2", b"3"]
    assert [message_id for *_, message_id in link.sent] == ["w.1", "w.2", "w.1", "w.2", "w.3"]
    assert out.dropped == 0


async def test_it_runs(out: Outbox, link: FakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the background it sends, confirms and repeats by itself."""
    monkeypatch.setattr(outbox, "AGAIN_S", 0.0)
    link.is_silent = True
    running = asyncio.create_task(out.run())
    put(out, 1)
    while len(link.sent) < 3:
        await asyncio.sleep(0)
    link.is_silent = False
    put(out, 2)
    while out._waiting or out._sent:
        await asyncio.sleep(0)
    assert b"2" in link.bodies
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert out.dropped == 0


async def test_bounds(
    out: Outbox, link: FakeLink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Above the limit the oldest goes; too large ones, and those that nobody ever confirms, are given up; all told."""
    monkeypatch.setattr(outbox, "OUTBOX_MAX", 3)
    link.is_connected = False
    put(out, *range(5))
    with caplog.at_level(logging.WARNING):
        await out.flush()
    assert "2 progress or log lines dropped" in caplog.text
    link.is_connected = True
    await out.flush()
    await out._confirm()
    assert link.bodies == [b"2", b"3", b"4"]
    out.put("schedd.log.x", b"x" * 101)
    await out.flush()
    link.is_silent = True
    put(out, 9)
    for _ in range(outbox.TRIES_MAX):
        await out.flush()
        await out._confirm()
    assert (out.dropped, len(link.sent)) == (4, 3 + outbox.TRIES_MAX)
    assert not out._waiting


async def test_a_worker_that_may_not_log(out: Outbox, link: FakeLink) -> None:
    """Permissions answer by silence: such lines are not repeated, and keep nothing else from its way."""
    link.is_silent = True
    link.last_error = Exception('nats: permissions violation for publish to "schedd.log.x"')
    put(out, 1)
    await out.flush()
    await out._confirm()
    assert (len(link.sent), out.dropped) == (1, 1)


async def test_the_end_without_a_connection(out: Outbox, link: FakeLink, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that ends while NATS is away does not wait, and says how many lines nobody will see."""
    link.is_connected = False
    put(out, 1, 2)
    with caplog.at_level(logging.WARNING):
        await out.close()
    assert "2 progress or log lines dropped" in caplog.text
