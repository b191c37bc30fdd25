"""Connections to a real server: found, refused, lost, back, and what nobody should be able to send us."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import nkeys
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import OutboundBufferLimitError

from scheduler.core.errors import InvalidArgument, PermissionDenied, Unavailable, Unsure
from scheduler.jetstream.connection import ConnectionSettings, connect
from scheduler.jetstream.requests import Requests
from tests.nats_servers import Server, free_ports

PASSWORD = 'authorization { user: "daemon", password: "correct horse" }'


def _settings(server: Server, **values: object) -> ConnectionSettings:
    return ConnectionSettings(servers=(server.url,), **values)  # type: ignore[arg-type]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Not started: configure it first."""
    server = Server(tmp_path / "nats")
    yield server
    await server.kill()


async def _eventually(check: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not check():
            await asyncio.sleep(0.02)


# --- first connect


async def test_nobody_there() -> None:
    """Within the time given: one sentence with all servers, the reason, and no secret."""
    one, other = free_ports(2)
    settings = ConnectionSettings(servers=(f"nats://u:secret@127.0.0.1:{one}", f"nats://127.0.0.1:{other}"))
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await connect(settings, name="t", timeout_s=1)
    assert time.monotonic() - began < 2
    assert str(caught.value) == (
        f"no NATS server at nats://127.0.0.1:{one}, nats://127.0.0.1:{other}: connection refused"
    )


async def test_somebody_else_there() -> None:
    """Something that is no NATS server is told apart from nothing only by the reason, and ends within the time."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()
        writer.close()

    stranger = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = stranger.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable, match="INFO"):
        await connect(ConnectionSettings(servers=(f"nats://127.0.0.1:{port}",)), name="t", timeout_s=1)
    stranger.close()


async def test_a_server_that_says_nothing() -> None:
    """A server that accepts and stays silent costs the time given, no more."""

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no NATS server"):
        await connect(ConnectionSettings(servers=(f"nats://127.0.0.1:{port}",)), name="t", timeout_s=1)
    assert time.monotonic() - began < 3
    silent.close()


async def test_a_server_that_starts_late(server: Server) -> None:
    """The first connect waits for a server that is just being started."""
    connecting = asyncio.create_task(connect(_settings(server), name="t", timeout_s=10))
    await asyncio.sleep(0.4)
    await server.start()
    client = await connecting
    assert client.is_connected
    await client.close()


async def test_wrong_password(server: Server) -> None:
    """A refusal is told at once, as such, without the password."""
    server.configure(PASSWORD)
    await server.start()
    began = time.monotonic()
    with pytest.raises(PermissionDenied, match="refuses us: Authorization Violation") as caught:
        await connect(_settings(server, user="daemon", password="wrong staple"), name="t", timeout_s=10)
    assert time.monotonic() - began < 2
    assert "staple" not in str(caught.value)


async def test_user_and_password(server: Server) -> None:
    """User and password are sent, from settings or from the URL, where they are percent-encoded."""
    server.configure(PASSWORD)
    await server.start()
    client = await connect(_settings(server, user="daemon", password="correct horse"), name="t")
    await client.close()
    url = server.url.replace("nats://", "nats://daemon:correct%20horse@")
    client = await connect(ConnectionSettings(servers=(url,)), name="t", timeout_s=2)
    await client.close()


async def test_token(server: Server) -> None:
    """A token is sent, from settings or as the user of the URL."""
    server.configure('authorization { token: "s3cr3t" }')
    await server.start()
    from_url = ConnectionSettings(servers=(server.url.replace("nats://", "nats://s3cr3t@"),))
    for settings in (_settings(server, token="s3cr3t"), from_url):
        client = await connect(settings, name="t", timeout_s=2)
        await client.close()


async def test_nkey(server: Server, tmp_path: Path) -> None:
    """An nkey file signs the server's challenge; another key is refused."""
    pair, other = (nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER) for _ in range(2))
    public = nkeys.from_seed(bytearray(pair)).public_key.decode()
    server.configure(f"authorization {{ users: [ {{ nkey: {public} }} ] }}")
    await server.start()
    (tmp_path / "good.nk").write_bytes(pair)
    (tmp_path / "bad.nk").write_bytes(other)
    client = await connect(_settings(server, nkey=str(tmp_path / "good.nk")), name="t")
    await client.close()
    with pytest.raises(PermissionDenied):
        await connect(_settings(server, nkey=str(tmp_path / "bad.nk")), name="t")


@pytest.mark.parametrize("word", ["creds", "nkey", "ca"])
async def test_a_file_that_is_not_there(word: str) -> None:
    """A missing file of credentials is a mistake in the settings, told before any server is asked."""
    (port,) = free_ports(1)
    settings = ConnectionSettings(servers=(f"nats://127.0.0.1:{port}",), **{word: "/nowhere/x"})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=f"cannot read the {word} file /nowhere/x"):
        await connect(settings, name="t", timeout_s=5)


async def test_mutual_tls(server: Server, tmp_path: Path) -> None:
    """CA, certificate and key are used, handshake first or not; without our certificate the server refuses."""
    ca = _certificates(tmp_path)
    tls = f'tls {{ cert_file: "{tmp_path}/s.pem", key_file: "{tmp_path}/s.key", ca_file: "{ca}", verify: true'
    files = {"ca": str(ca), "cert": str(tmp_path / "c.pem"), "key": str(tmp_path / "c.key")}
    for first in (False, True):
        server.configure(tls + (", handshake_first: true }" if first else " }"))
        await server.start()
        client = await connect(_settings(server, **files, tls_first=first), name="t")
        await client.close()
        with pytest.raises(Unavailable):
            await connect(_settings(server, ca=str(ca), tls_first=first), name="t", timeout_s=1)
        await server.stop()


@pytest.mark.parametrize("asks", ["url", "ca"])
async def test_tls_is_never_given_up(server: Server, tmp_path: Path, asks: str) -> None:
    """Who asks for TLS, by the URL or by a file, sends nothing in the clear to a server that has none."""
    await server.start()
    url = server.url.replace("nats://", "tls://") if asks == "url" else server.url
    ca = str(_certificates(tmp_path)) if asks == "ca" else None
    with pytest.raises(Unavailable, match="offers no TLS"):
        await connect(ConnectionSettings(servers=(url,), ca=ca), name="t", timeout_s=1)


async def test_what_is_not_permitted_is_told(server: Server) -> None:
    """A request that NATS refuses ends as a silence; what is said about it names the refusal."""
    server.configure('authorization { users: [{ user: u, password: p, permissions: { publish: ["ok"] } }] }')
    await server.start()
    client = await connect(_settings(server, user="u", password="p"), name="t")
    requests = Requests(client, timeout_s=0.5)
    await requests.open()
    with pytest.raises(Unsure, match=r'permissions violation for publish to "not\.ok"'):
        await requests.call("not.ok")
    await requests.close()
    await client.close()


async def test_a_certificate_without_key() -> None:
    """A certificate alone is a mistake, told as one."""
    with pytest.raises(InvalidArgument, match="NATS_KEY"):
        await connect(ConnectionSettings(cert="/c.pem"), name="t")


def _certificates(folder: Path) -> Path:
    """A CA, a server's and a client's certificate, by the openssl command."""

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run(*new, "-x509", "-days", "2", "-subj", "/CN=test ca", "-keyout", "ca.key", "-out", "ca.pem")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("s", "c"):
        run(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        sign = ["x509", "-req", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext"]
        run(*sign, "-in", f"{name}.csr", "-out", f"{name}.pem")
    return folder / "ca.pem"


# --- while it lasts


async def test_lost_and_back(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A connection tells of its loss, refuses to publish while it is away, comes back by itself and tells that too."""
    caplog.set_level(logging.INFO, "scheduler.jetstream")
    await server.start()
    told: list[str] = []

    async def back() -> None:
        told.append("back")

    client = await connect(
        _settings(server),
        name="t",
        on_disconnect=lambda: told.append("lost"),
        on_reconnect=back,
        on_closed=lambda: told.append("closed"),
    )
    await server.kill()
    await _eventually(lambda: told == ["lost"])
    with pytest.raises(OutboundBufferLimitError):
        await client.publish("x", b"a write that must not land later")
    await server.start()
    await _eventually(lambda: told == ["lost", "back"])
    await client.publish("x", b"now")
    await client.flush()
    await client.close()
    assert told == ["lost", "back", "lost", "closed"]
    events = [record.__dict__.get("event") for record in caplog.records]
    assert "nats_disconnected" in events
    assert "nats_reconnected" in events


async def test_requests_while_it_is_away(server: Server) -> None:
    """A request on a lost connection fails at once as Unavailable instead of waiting."""
    await server.start()
    client = await connect(_settings(server), name="t")
    requests = Requests(client)
    await requests.open()
    await server.kill()
    await _eventually(lambda: not client.is_connected)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await requests.call("x")
    assert time.monotonic() - began < 0.5
    await requests.close()
    await client.close()


async def test_revoked_credentials(server: Server) -> None:
    """When the server no longer takes our credentials, the connection keeps trying and works when it does again."""
    server.configure(PASSWORD)
    await server.start()
    client = await connect(_settings(server, user="daemon", password="correct horse"), name="t")
    await server.stop()
    server.configure('authorization { user: "daemon", password: "another" }')
    await server.start()
    await asyncio.sleep(2)
    assert not client.is_connected
    assert not client.is_closed
    await server.stop()
    server.configure(PASSWORD)
    await server.start()
    await _eventually(lambda: client.is_connected, 15)
    await client.close()


# --- what nobody should be able to send us


async def _send_raw(server: Server, line: bytes) -> None:
    """Speak the protocol by hand, as a client that checks nothing."""
    _, port = server.url.rsplit(":", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + line + b"PING\r\n")
    while not (await reader.readline()).startswith((b"PONG", b"")):
        pass
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "line",
    [
        b"PUB x.\xff\xfe 2\r\nhi\r\n",
        b"HPUB x.a 1 3\r\nXhi\r\n",
        b"HPUB x.a 14 16\r\nNATS/1.0 \xff\xff\r\n\r\nhi\r\n",
        b"HPUB x.a 12 14\r\nno headers!!hi\r\n",
        b"HPUB x.a 21 23\r\nNATS/1.0\r\n\xff: \xff\r\n\r\n\r\nhi\r\n",
    ],
)
async def test_undecodable_messages(server: Server, line: bytes) -> None:
    """A subject or header block that is no text arrives somehow, and the connection goes on to the next message."""
    await server.start()
    client: Client = await connect(_settings(server), name="t")
    arrived: list[Msg] = []

    async def take(message: Msg) -> None:
        arrived.append(message)

    await client.subscribe("x.>", cb=take)
    await client.flush()
    await _send_raw(server, line)
    await client.publish("x.after", b"after")
    await _eventually(lambda: any(message.subject == "x.after" for message in arrived), 3)
    assert client.is_connected
    assert client.stats["reconnects"] == 0
    await client.close()
