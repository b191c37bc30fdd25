"""Where to connect, with which credentials, and how a connection of schedd behaves.

A connection never gives up by itself, notices a dead peer within half a minute, and refuses to publish while it is
away: a write that lay in a reconnect buffer would land after its author stopped being entitled to it
(notes/reliability.md, 0.9). When the server takes our credentials no longer it goes on trying, by the files as they are
then: credentials and certificates may be replaced at any time. A server can still end a connection for good, by an
error of the protocol: then `on_closed` is called and a new connection is needed.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import inspect
import logging
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from nats.aio.client import Client as NatsClient
from nats.aio.client import Server

from scheduler.core.errors import InvalidArgument, PermissionDenied, ScheddError, Unavailable
from scheduler.jetstream.client import ToughClient
from scheduler.jetstream.contexts import Context, expand_path, load_context, selected_context
from scheduler.wire.ids import check_namespace
from scheduler.wire.names import DEFAULT_NAMESPACE

DEFAULT_SERVER = "nats://127.0.0.1:4222"
ABANDON_S = 2.0
CONNECT_TIMEOUT_S = 5
PING_S = 10  # two unanswered ones end the connection
FIRST_RETRY_S = 0.25
SOON_S = (0.05, 0.5)  # a first reconnect waits a random time in this range, so that many do not come at once,
LATER_S = (0.25, 3.0)  # and while every server fails, in this one
_SCHEMES = ("nats", "tls", "ws", "wss")
_REFUSALS = ("authorization", "authentication")
_AUTH_ENV = ("NATS_CREDS", "NATS_NKEY", "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN")
_AUTH = ("creds", "nkey", "user", "password", "token", "user_jwt", "user_seed")
_TLS_ENV = {"ca": "NATS_CA", "cert": "NATS_CERT", "key": "NATS_KEY"}

Hook = Callable[[], Awaitable[None] | None]
log = logging.getLogger(__name__)


class ConnectionSettings(Struct, frozen=True, kw_only=True):
    """Everything a connection needs. None: not set. `creds`, `nkey`, `ca`, `cert` and `key` are paths of files."""

    servers: tuple[str, ...] = (DEFAULT_SERVER,)
    namespace: str = DEFAULT_NAMESPACE
    creds: str | None = None
    nkey: str | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    user_jwt: str | None = None
    user_seed: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    tls_first: bool = False
    inbox_prefix: str = "_INBOX"

    def __repr__(self) -> str:
        return f"ConnectionSettings(servers={self.where!r}, namespace={self.namespace!r})"

    @property
    def where(self) -> str:
        """The servers for people: without user names and passwords."""
        return ", ".join(map(_without_secrets, self.servers))

    @classmethod
    def from_environment(
        cls,
        nats: str | None = None,
        context: str | None = None,
        namespace: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ConnectionSettings:
        """Settings by the contract, part 8; an empty value counts as not given. Raises InvalidArgument.

        The first of these decides: `nats`, `context`, NATS_URL, NATS_CONTEXT, the selected context, 127.0.0.1:4222;
        `nats` together with `context` takes the servers from the one and the rest from the other. Credentials and TLS
        files in the environment, named as the NATS tool names them (NATS_CREDS, NATS_NKEY, NATS_USER, NATS_PASSWORD,
        NATS_TOKEN, NATS_CA, NATS_CERT, NATS_KEY), win over those of a context.
        """
        env = os.environ if env is None else env
        urls, name = _chosen(nats, context, env)
        values = _of_context(load_context(name, env)) if name else {}
        if urls:
            values["servers"] = urls
        values["servers"] = parse_servers(values.get("servers") or DEFAULT_SERVER)
        values.update(_of_environment(values, env))
        chosen = namespace or env.get("SCHEDD_NAMESPACE") or DEFAULT_NAMESPACE
        return cls(**values, namespace=check_namespace(chosen))


def parse_servers(text: str) -> tuple[str, ...]:
    """`URL[,URL]` as a tuple; scheme and port may be left out. Raises InvalidArgument."""
    servers = tuple(_server(part.strip()) for part in text.split(",") if part.strip())
    if not servers:
        raise InvalidArgument(f"{text!r:.80} names no NATS server: write nats://HOST:PORT", field="nats")
    if len({url.startswith("ws") for url in servers}) > 1:
        raise InvalidArgument("the NATS servers mix websocket (ws, wss) with nats or tls: use one kind", field="nats")
    return servers


async def connect(
    settings: ConnectionSettings,
    *,
    name: str,
    on_disconnect: Hook | None = None,
    on_reconnect: Hook | None = None,
    on_closed: Hook | None = None,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> NatsClient:
    """A connected client; close it with `await client.close()`, which calls `on_disconnect` and `on_closed` too.

    Tries all servers for up to `timeout_s`. Raises Unavailable (nobody there), PermissionDenied (refused, at once) and
    InvalidArgument (a file of credentials or certificates cannot be read).
    """
    client = ToughClient()
    client.renew_tls = _renewing(settings)
    listener = _Listener(client, settings.where, until_s=asyncio.get_running_loop().time() + timeout_s)
    options = {**_authentication(settings), **_tls(settings)}
    options.update(
        servers=[_plain(server) for server in settings.servers],
        name=name,
        inbox_prefix=settings.inbox_prefix,
        max_reconnect_attempts=-1,
        reconnect_time_wait=FIRST_RETRY_S,
        reconnect_to_server_handler=_next_server,
        connect_timeout=max(1, min(CONNECT_TIMEOUT_S, int(timeout_s))),
        ping_interval=PING_S,
        pending_size=0,
        error_cb=listener.trouble,
        disconnected_cb=listener.calling(on_disconnect, "disconnected from NATS", "nats_disconnected"),
        reconnected_cb=listener.calling(on_reconnect, "connected to NATS again", "nats_reconnected"),
        closed_cb=listener.calling(on_closed, "connection to NATS closed", "nats_closed"),
    )
    try:
        async with asyncio.timeout(timeout_s):
            await client.connect(**options)
    except BaseException as problem:
        await _abandon(client)
        if isinstance(problem, ScheddError) or not isinstance(problem, Exception):
            raise
        reason = listener.latest or _text(problem) or "no answer"
        raise Unavailable(f"no NATS server at {settings.where}: {reason}") from None
    listener.connected = True
    return client


class _Listener:
    """Hears what happens to a connection: before the first success to explain a failure, later to log and to tell.

    Nobody tries for longer than `until_s` (the loop's time): `asyncio.wait_for` of Python 3.11, within nats-py, loses
    the one cancellation by which a timeout speaks when what it waits for ends at the same moment.
    """

    def __init__(self, client: NatsClient, where: str, *, until_s: float) -> None:
        self._client = client
        self._where = where
        self._until_s = until_s
        self.connected = False
        self.latest = ""

    async def trouble(self, problem: Exception) -> None:
        text = _text(problem)
        repeated, self.latest = text == self.latest, text
        if self.connected:
            level = logging.DEBUG if repeated else logging.WARNING
            log.log(level, "trouble with NATS: %s", text, extra={"event": "nats_error", "servers": self._where})
        elif any(word in text.lower() for word in _REFUSALS):
            raise PermissionDenied(f"NATS at {self._where} refuses us: {text}; check the credentials")
        elif asyncio.get_running_loop().time() > self._until_s:
            raise Unavailable(f"no NATS server at {self._where}: {text}")
        elif not repeated:
            log.warning("no NATS server at %s yet: %s", self._where, text, extra={"event": "nats_awaited"})

    def calling(self, hook: Hook | None, text: str, event: str) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            if not self.connected:
                return
            error = {"error": _text(self._client.last_error)} if self._client.last_error else {}
            level = logging.WARNING if error else logging.INFO
            log.log(level, text, extra={"event": event, "servers": self._where, **error})
            if hook is not None and inspect.isawaitable(answer := hook()):
                await answer

        return call


def why_away(client: NatsClient) -> str:
    """Why there is no connection just now, as a short sentence for people."""
    problem = client.last_error
    return "not connected to NATS" + (f": {_text(problem)}" if problem else "")


def _text(problem: Exception) -> str:
    """What a person can do something with."""
    if isinstance(problem, ConnectionRefusedError):
        return "connection refused"
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    return (str(problem) or type(problem).__name__).strip().removeprefix("nats: ").strip("'")


def _next_server(pool: list[Server], _: dict[str, Any]) -> tuple[Server | None, float]:
    """The server that failed least often, after a random pause."""
    least = min(server.reconnects for server in pool)
    candidates = [server for server in pool if server.reconnects == least]
    pause_s = random.uniform(*(LATER_S if least else SOON_S))  # noqa: S311 - spreads load, guards nothing
    return random.choice(candidates), pause_s  # noqa: S311


async def _abandon(client: NatsClient) -> None:
    """Close a client that never connected, whatever state it is in; its own callbacks are none of our business."""
    try:
        async with asyncio.timeout(ABANDON_S):  # who wants to connect is not kept waiting for an end
            await client.close()
    except Exception as problem:
        log.debug("closing a half-open connection: %s", problem, extra={"event": "nats_abandoned"})


# --- where the settings come from


def _chosen(nats: str | None, context: str | None, env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Servers and the name of a context, of which the highest source speaks alone."""
    if nats or context:
        return nats or None, context or None
    if env.get("NATS_URL"):
        return env["NATS_URL"], None
    return None, env.get("NATS_CONTEXT") or selected_context(env)


def _of_context(context: Context) -> dict[str, Any]:
    values = {word: getattr(context, word) or None for word in (*_AUTH, *_TLS_ENV)}
    values["servers"] = context.url
    values["tls_first"] = context.tls_first
    if context.inbox_prefix:
        values["inbox_prefix"] = context.inbox_prefix
    return values


def _of_environment(values: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if any(env.get(word) for word in _AUTH_ENV):
        found.update(dict.fromkeys(_AUTH))  # one way to sign in, not the mix of two
        found["user"], found["password"] = env.get("NATS_USER") or None, env.get("NATS_PASSWORD") or None
        found["token"] = env.get("NATS_TOKEN") or None
        if found["user"] and not found["password"]:
            found["user"], found["token"] = None, found["user"]  # as the NATS tool: a user without password is a token
        for word in ("creds", "nkey"):
            found[word] = expand_path(env.get(f"NATS_{word.upper()}", ""), env) or None
    for word, name in _TLS_ENV.items():
        found[word] = expand_path(env.get(name, ""), env) or values.get(word)
    return found


def _server(text: str) -> str:
    url = text if "://" in text else f"nats://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        shown = _without_secrets(url)
        raise InvalidArgument(f"{shown!r:.80} is not a NATS server: write nats://HOST:PORT", field="nats")
    return url


def _without_secrets(url: str) -> str:
    """For people, whether it is a URL or not."""
    scheme, mark, rest = url.rpartition("://")
    return scheme + mark + rest.rpartition("@")[2]


# --- what nats-py is told


def _readable(path: str, what: str) -> str:
    try:
        Path(path).open("rb").close()
    except OSError as problem:
        raise InvalidArgument(f"cannot read the {what} file {path}: {problem.strerror}", field=what) from None
    return path


def _authentication(settings: ConnectionSettings) -> dict[str, Any]:
    if settings.creds:
        return {"user_credentials": _readable(settings.creds, "creds")}
    if settings.nkey:
        return {"nkeys_seed": _readable(settings.nkey, "nkey")}
    if settings.user_jwt and settings.user_seed:
        return _signing(settings.user_jwt, settings.user_seed)
    if settings.user or settings.token:
        given = {word: getattr(settings, word) for word in ("user", "password", "token")}
        return {word: value for word, value in given.items() if value is not None}
    return next(filter(None, map(_userinfo, settings.servers)), {})


def _userinfo(server: str) -> dict[str, str]:
    """What stands before the `@` of a URL. Sent to every server, as those found by gossip have no such part."""
    parts = urlsplit(server)
    if not parts.username:
        return {}
    if parts.password is None:
        return {"token": unquote(parts.username)}
    return {"user": unquote(parts.username), "password": unquote(parts.password)}


def _plain(server: str) -> str:
    """The URL without user name and password."""
    parts = urlsplit(server)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _signing(jwt: str, seed: str) -> dict[str, Any]:
    nkeys: Any = importlib.import_module("nkeys")

    def sign(nonce: str) -> bytes:
        return base64.b64encode(nkeys.from_seed(bytearray(seed.encode())).sign(nonce.encode()))

    return {"user_jwt_cb": lambda: bytearray(jwt.encode()), "signature_cb": sign}


def _tls(settings: ConnectionSettings) -> dict[str, Any]:
    wanted = settings.ca or settings.cert or settings.tls_first
    if not wanted:
        return {}
    if bool(settings.cert) != bool(settings.key):
        raise InvalidArgument(
            "a TLS certificate and its key go together: give both NATS_CERT and NATS_KEY", field="cert"
        )
    files = {word: getattr(settings, word) for word in _TLS_ENV}
    for word, path in files.items():
        if path:
            _readable(path, word)
    try:
        context = _context(settings)
    except OSError as problem:
        raise InvalidArgument(f"the TLS files cannot be used: {problem}", field="ca") from None
    return {"tls": context, "tls_handshake_first": settings.tls_first}


def _context(settings: ConnectionSettings) -> ssl.SSLContext:
    """Raises OSError, of which ssl.SSLError is one."""
    context = ssl.create_default_context(cafile=settings.ca)
    if settings.cert:
        context.load_cert_chain(settings.cert, settings.key)
    return context


def _renewing(settings: ConnectionSettings) -> Callable[[], ssl.SSLContext] | None:
    """How to make the context anew: certificates and CAs are replaced while we run."""
    return partial(_context, settings) if settings.ca or settings.cert or settings.tls_first else None
