"""Posting to real servers that fail, hang, redirect, close, are slow, or are not who they should be."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.delivering import Answer
from scheduler.ports.webhooks import Post
from scheduler.system import posting
from scheduler.system.posting import HttpPoster
from scheduler.wire.targets import read_target
from tests.integration.receivers import OK, Receiver, answer

HEADERS = {"Content-Type": "application/cloudevents+json", "webhook-id": "msg_1"}


async def post(url: str, *, timeout_s: float = 5.0, poster: HttpPoster | None = None, **target: Any) -> Answer:
    found = Post(read_target(url, field="url", **target), HEADERS, b'{"a":1}', timeout_s)
    return await (poster or HttpPoster()).post(found)


async def test_what_arrives() -> None:
    """One request with the path and the query, the body and the headers as they are."""
    async with Receiver(lambda _: OK) as receiver:
        assert await post(receiver.url + "?x=1") == Answer(status=200)
    (got,) = receiver.received
    assert (got.line, got.body) == ("POST /hook?x=1 HTTP/1.1", b'{"a":1}')
    assert got.headers == {
        "host": f"localhost:{receiver.port}",
        "content-type": "application/cloudevents+json",
        "webhook-id": "msg_1",
        "content-length": "7",
        "connection": "close",
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (answer("204 No Content"), Answer(status=204)),
        (answer("500 Oh"), Answer(status=500)),
        (answer("429 Slow", "Retry-After: 120"), Answer(status=429, wait_s=120)),
        (answer("503 Soon", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT"), Answer(status=503)),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Answer(status=200)),
        (b"HTTP/1.0 200 OK\r\n\r\n", Answer(status=200)),
        (b"", Answer(problem="unreachable")),
        (b"hello\r\n\r\n", Answer(problem="no_http")),
        (b"HTTP/1.1 abc\r\n\r\n", Answer(problem="no_http")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, Answer(problem="no_http")),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, Answer(problem="no_http")),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, Answer(problem="no_http")),
        (answer("200 OK", body="x" * 1_000_000), Answer(status=200)),
    ],
)
async def test_what_is_answered(said: bytes, expected: Answer) -> None:
    """The status and the wish to wait; what is no HTTP, or has no end, is a problem and not read on."""
    async with Receiver(lambda _: said) as receiver:
        assert await post(receiver.url) == expected


async def test_redirects_are_not_followed() -> None:
    """Neither on the same host nor elsewhere."""
    async with Receiver(lambda _: OK) as other:
        async with Receiver(lambda _: answer("307 There", f"Location: {other.url}")) as receiver:
            assert (await post(receiver.url)).status == 307
        assert other.received == []


@pytest.mark.parametrize("how", ["hangs", "drips"])
async def test_the_time_is_over(how: str) -> None:
    """One that never answers, and one that answers a byte at a time, cost the time-out and no more."""
    receiver = Receiver(lambda _: None) if how == "hangs" else Receiver(lambda _: OK * 50, slow_s=0.05)
    async with receiver:
        before_s = time.monotonic()
        assert await post(receiver.url, timeout_s=0.5) == Answer(problem="timeout")
        assert 0.4 < time.monotonic() - before_s < 2


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port, and a name that does not exist."""
    async with Receiver(lambda _: OK) as receiver:
        port = receiver.port
    assert await post(f"http://127.0.0.1:{port}/") == Answer(problem="unreachable")

    def fails(*_: object, **__: object) -> Any:
        raise socket.gaierror("no such host")

    monkeypatch.setattr(posting.socket, "getaddrinfo", fails)
    assert await post("https://nobody.example/") == Answer(problem="unreachable")


def leads_to(*addresses: str) -> Any:
    def found(host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return found


async def test_where_a_name_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of the cloud's credentials is not connected to; one of several addresses that may be, is."""
    monkeypatch.setattr(posting.socket, "getaddrinfo", leads_to("169.254.169.254"))
    assert await post("https://innocent.example/") == Answer(problem="address_refused")
    monkeypatch.setattr(posting.socket, "getaddrinfo", leads_to("10.0.0.1"))
    assert await post("http://localhost/") == Answer(problem="http_refused")
    async with Receiver(lambda _: OK) as receiver:
        monkeypatch.setattr(posting.socket, "getaddrinfo", leads_to("169.254.169.254", "127.0.0.2", "127.0.0.1"))
        assert await post(receiver.url) == Answer(status=200)


async def test_a_name_server_that_hangs_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many want to go there, one thread waits; others are not held up."""
    asked: list[str] = []

    def slow(host: str, port: int, **_: object) -> Any:
        asked.append(host)
        if host == "slow.example":
            time.sleep(1)
        return leads_to("127.0.0.1")(host, port)

    monkeypatch.setattr(posting.socket, "getaddrinfo", slow)
    poster = HttpPoster()
    async with Receiver(lambda _: OK) as receiver:
        stuck = [asyncio.create_task(post("https://slow.example/", timeout_s=0.3, poster=poster)) for _ in range(50)]
        assert await post(receiver.url, poster=poster) == Answer(status=200)
    assert {each.problem for each in await asyncio.gather(*stuck)} == {"timeout"}
    assert asked.count("slow.example") == 1
    await asyncio.sleep(1)  # until the thread is back


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of localhost, signed by nobody."""
    place = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", str(place / "key"), "-out", str(place / "cert")],
        check=True, capture_output=True,
    )  # fmt: skip
    return place


async def test_certificates_are_verified(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown: refused; known to the system: accepted, for its own name only."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "cert", certificate / "key")
    async with Receiver(lambda _: OK, tls=tls) as receiver:
        assert await post(receiver.url) == Answer(problem="certificate")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert"))
        assert await post(receiver.url) == Answer(status=200)
        assert await post(receiver.url.replace("localhost", "127.0.0.1")) == Answer(problem="certificate")
    async with Receiver(lambda _: OK) as plain:
        assert (await post(plain.url.replace("http:", "https:"), timeout_s=0.3)).problem in {"tls", "timeout"}
