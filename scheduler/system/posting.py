"""POST to the outside, over HTTP/1.1, one connection for each request, without a dependency and without a thread.

What an endpoint can do to us is bounded: in time by one deadline over everything, in size by what is read of its
answer. The name is looked up once, and what is connected to is an address that was judged; so a name that changes
between the two leads nowhere. Redirects are not followed, proxies not used. Certificates are verified against those the
system trusts (SSL_CERT_FILE, SSL_CERT_DIR: openssl(1)).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from scheduler.core.delivering import Answer
from scheduler.ports.webhooks import Post
from scheduler.wire.targets import Target

LINE_MAX = 16_384
LINES_MAX = 100
INTERIM_MAX = 5  # 100, 103: answers before the answer
REST_MAX = 65_536  # of the body, read so that the other side may finish, and thrown away
REST_S = 0.5
LOOKUPS = 32  # names looked up at once; one at a time each
_UNREACHABLE = "unreachable"


class _Refused(Exception):
    """None of the host's addresses may be connected to."""


class HttpPoster:
    """Implements `ports.webhooks.Poster`."""

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        """Of its own: a name server that does not answer must not hold up anybody else's threads."""
        return ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def post(self, post: Post) -> Answer:
        try:
            async with asyncio.timeout(post.timeout_s):
                return await self._post(post)
        except TimeoutError:
            return Answer(problem="timeout")
        except _Refused as refused:
            return Answer(problem=str(refused))
        except ssl.SSLError as problem:
            return Answer(problem="certificate" if isinstance(problem, ssl.SSLCertVerificationError) else "tls")
        except (ValueError, UnicodeError, asyncio.IncompleteReadError):
            return Answer(problem="no_http")
        except OSError:
            return Answer(problem=_UNREACHABLE)

    async def _post(self, post: Post) -> Answer:
        reader, writer = await self._connect(post.target)
        try:
            writer.write(_request(post))
            await writer.drain()
            answer = await _read_answer(reader)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(REST_S):
                    await reader.readexactly(REST_MAX)
            return answer
        finally:
            writer.transport.abort()

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first address that may be connected to and answers. Raises _Refused, OSError."""
        addresses = await self._find(target)
        allowed = [address for address in addresses if target.problem_with(address) is None]
        if not allowed:
            raise _Refused(target.problem_with(addresses[0]) if addresses else _UNREACHABLE)
        for address in allowed[:-1]:
            with contextlib.suppress(ConnectionError):
                return await self._open(address, target)
        return await self._open(allowed[-1], target)

    async def _open(self, address: str, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls, name = (self._tls, target.host) if target.is_tls else (None, None)
        return await asyncio.open_connection(address, target.port, limit=LINE_MAX, ssl=tls, server_hostname=name)

    async def _find(self, target: Target) -> list[str]:
        """The addresses of the host, found in a thread; several who ask for the same one share the answer."""
        key = (target.host, target.port)
        task = self._lookups.get(key)
        if task is None:
            task = self._lookups[key] = asyncio.create_task(self._look_up(*key), name="webhook-lookup")
            task.add_done_callback(lambda _: self._lookups.pop(key, None))
        return await asyncio.shield(task)

    async def _look_up(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, _addresses, host, port)
        except (OSError, UnicodeError):
            return []
        return found


def _addresses(host: str, port: int) -> list[str]:
    return list(dict.fromkeys(str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def _request(post: Post) -> bytes:
    headers = {
        "Host": post.target.host_header,
        **post.headers,
        "Content-Length": str(len(post.body)),
        "Connection": "close",
    }
    lines = [f"POST {post.target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + post.body


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    """Status and Retry-After of the final answer. Raises ValueError, OSError for what is no HTTP."""
    for _ in range(INTERIM_MAX):
        status = _status_of(await reader.readline())
        wait_s = await _read_headers(reader)
        if status >= 200:
            return Answer(status=status, wait_s=wait_s)
    raise ValueError("no final answer")


def _status_of(line: bytes) -> int:
    if not line:
        raise ConnectionResetError("closed without an answer")
    version, _, rest = line.partition(b" ")
    code = rest[:3]
    if not version.startswith(b"HTTP/1.") or not code.isdigit() or len(code) < 3:
        raise ValueError("no status line")
    return int(code)


async def _read_headers(reader: asyncio.StreamReader) -> float | None:
    wait_s: float | None = None
    for _ in range(LINES_MAX):
        line = (await reader.readline()).strip()
        if not line:
            return wait_s
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"retry-after" and value.strip().isdigit() and len(value) < 10:
            wait_s = float(value)
    raise ValueError("too many headers")
