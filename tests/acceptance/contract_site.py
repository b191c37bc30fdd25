"""What the contract's own tests share: replicas that stand for a whole module, plain requests, commands as processes.

@pytest.fixture(scope="module")
def place(tmp_path_factory): yield from stand_together(tmp_path_factory.mktemp("site"), "a", "b", "c")
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nats.aio.client import Client as NatsClient

from tests.acceptance.harness import SHORT
from tests.acceptance.processes import Replica, clean_environment
from tests.nats_servers import Server

Found = TypeVar("Found")
WORDS = {
    "invalid_argument": 400, "not_found": 404, "conflict": 409, "unavailable": 503, "payload_too_large": 413,
    "permission_denied": 403, "internal": 500,
}  # fmt: skip


class Place(NamedTuple):
    """`folder` is where replicas log; `url` is the server's."""

    folder: Path
    url: str
    replicas: list[Replica]


def stand_together(folder: Path, *names: str, config: str = "max_payload: 8MB", **env: str) -> Iterator[Place]:
    """Start a server and replicas, wait until they are ready, and end them when the module is over."""
    server = Server(folder / "nats", config=config)
    replicas: list[Replica] = []
    try:
        server.spawn()
        server.wait_ready()
        for name in names:
            settings = {**SHORT, "NATS_URL": server.url, "SCHEDD_REPLICA": name, **env}
            replicas.append(Replica(name, folder, settings))
        run_aside(_ready(replicas))
        yield Place(folder, server.url, replicas)
    finally:
        run_aside(_kill(replicas))
        server.kill_now()


async def _ready(replicas: list[Replica]) -> None:
    await asyncio.gather(*(replica.ready() for replica in replicas))


async def _kill(replicas: list[Replica]) -> None:
    await asyncio.gather(*(replica.kill() for replica in replicas))


def run_aside(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end in a loop of its own, wherever we are; what it raises is raised here."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


# --- plain requests


class Refusal(NamedTuple):
    """An error reply, whose headers and body said the same."""

    code: str
    message: str
    field: str | None


class Caller:
    """Plain requests to the API, as any NATS client makes them."""

    def __init__(self, client: NatsClient) -> None:
        self.client = client

    async def send(self, endpoint: str, body: Mapping[str, Any] | bytes = b"") -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.request(f"schedd.api.v1.{endpoint}", raw, timeout=10)

    async def ask(self, endpoint: str, body: Mapping[str, Any] | bytes = b"") -> Any:
        """The body of a success; fails on an error reply."""
        reply = await self.send(endpoint, body)
        assert "Nats-Service-Error-Code" not in (reply.headers or {}), f"{endpoint} {body!r}: {reply.data!r}"
        return json.loads(reply.data)

    async def refused(self, endpoint: str, body: Mapping[str, Any] | bytes = b"") -> Refusal:
        """The refusal; fails on a success, and where headers, body and the contract's table disagree."""
        reply = await self.send(endpoint, body)
        assert reply.headers, f"{endpoint} {body!r} was not refused: {reply.data!r}"
        found = json.loads(reply.data)
        assert set(found) == {"code", "message", "field"}
        assert reply.headers["Nats-Service-Error"] == found["code"]
        assert reply.headers["Nats-Service-Error-Code"] == str(WORDS[found["code"]])
        assert found["message"]
        assert "\n" not in found["message"]
        return Refusal(**found)


# --- commands


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


async def command(*arguments: str, cwd: Path, stdin: bytes = b"", **env: str) -> Result:
    """`schedctl ...` (or another: `schedd`, first) as a process of its own; never with a traceback."""
    program, rest = ("schedd", arguments[1:]) if arguments[:1] == ("schedd",) else ("schedctl", arguments)
    kept = {name: value for name, value in clean_environment().items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"cli.{program}", *rest,
        cwd=cwd, env={**kept, "XDG_CONFIG_HOME": str(cwd / "config"), **env},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(40):
            out, err = await process.communicate(stdin)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    assert b"Traceback" not in out + err, f"{arguments}: {err.decode()}"
    return Result(process.returncode, out.decode(), err.decode())


async def few_at_once(work: Iterable[Coroutine[Any, Any, Found]], *, most: int = 4) -> list[Found]:
    """As `gather`, but for processes: more of them at once would only wait for a processor, and time out."""
    free = asyncio.Semaphore(most)

    async def one(each: Coroutine[Any, Any, Found]) -> Found:
        async with free:
            return await each

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(each)) for each in work]
    return [task.result() for task in tasks]
