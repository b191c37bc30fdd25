"""The commands from outside (contract, part 8): real processes, a real server, nothing imported from schedd."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest

from tests.acceptance.contract_site import Caller, Place, Result, command, few_at_once, stand_together
from tests.acceptance.harness import Site, eventually
from tests.acceptance.processes import Process, clean_environment
from tests.nats_servers import Server, free_ports

MANUAL = {"manual": True, "queue": "none", "type": "t"}
PROGRAM = """
from scheduler.worker import Worker
worker = Worker("secure")
@worker.task("t")
def t(payload):
    return payload
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from stand_together(tmp_path_factory.mktemp("commands"), "a")


@pytest.fixture
async def site(place: Place) -> AsyncIterator[Site]:
    async with Site(place.folder, place.url) as found:
        yield found


@pytest.fixture
def api(site: Site) -> Caller:
    return Caller(site.client)


class Cli:
    """`schedctl`, connected by its environment."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    async def __call__(self, *arguments: str, stdin: bytes = b"", **env: str) -> Result:
        return await command(*arguments, cwd=self.folder, stdin=stdin, **{"NATS_URL": self.url, **env})

    async def ok(self, *arguments: str, stdin: bytes = b"", **env: str) -> Result:
        """Exit 0, nothing on stderr."""
        result = await self(*arguments, stdin=stdin, **env)
        assert (result.code, result.err) == (0, ""), f"{arguments}: {result}"
        return result

    async def fails(self, code: int, *arguments: str, stdin: bytes = b"", **env: str) -> str:
        """That exit code, nothing on stdout; what it says on stderr, which is one sentence (and a hint)."""
        result = await self(*arguments, stdin=stdin, **env)
        assert (result.code, result.out) == (code, ""), f"{arguments}: {result}"
        assert result.err.startswith("schedctl: ")
        assert 1 <= len(result.err.splitlines()) <= 2
        return result.err


@pytest.fixture
def cli(place: Place, tmp_path: Path) -> Cli:
    return Cli(place.url, tmp_path)


# --- schedctl: what it prints


async def test_a_schedule_by_its_flags(cli: Cli, api: Caller) -> None:
    """Each flag of this version fills the field it is named after."""
    given = [
        "add", "flags", "--cron", "0 9 * * 1-5", "--cron", "@daily", "--timezone", "Europe/Berlin",
        "--queue", "EMAIL", "--type", "email:monthly", "--payload", '{"a": [1, null, 1.50]}', "--header", "X-A=b=c",
        "--overlap", "allow", "--max-tries", "5", "--timeout", "10s", "--backoff-initial", "2s", "--backoff-max", "1m",
        "--backoff-factor", "1.5", "--backoff-jitter", "0", "--start-delay", "5s", "--catch-up", "none",
        "--catch-up-window", "1h", "--catch-up-max", "7", "--catch-up-after", "20s", "--name", "Nice",
        "--description", "what for", "--label", "team=a", "--label", "env=prod", "--paused", "--pause-note", "why",
        "--paused-until", "2190-01-01T00:00:00Z", "--retention", "1d", "--json",
    ]  # fmt: skip
    added = (await cli.ok(*given)).json
    stored = await api.ask("schedule.get", {"id": "flags"})
    assert (added["id"], added["revision"]) == ("flags", stored["revision"])
    assert stored["schedule"] == {
        "cron": ["0 9 * * 1-5", "@daily"], "timezone": "Europe/Berlin", "queue": "EMAIL", "type": "email:monthly",
        "payload": {"a": [1, None, 1.5]}, "headers": {"X-A": "b=c"}, "overlap": "allow", "max_tries": 5,
        "timeout": "10s", "backoff": {"initial": "2s", "max": "1m", "factor": 1.5, "jitter": 0.0}, "start_delay": "5s",
        "catch_up": {"mode": "none", "window": "1h", "max": 7, "after": "20s"}, "name": "Nice",
        "description": "what for", "labels": {"team": "a", "env": "prod"}, "paused": True, "pause_note": "why",
        "paused_until": "2190-01-01T00:00:00Z", "retention": {"age": "1d"},
    }  # fmt: skip
    for flags in (
        ("--every", "1h", "--anchor", "2026-01-01T00:07:00Z"),
        ("--at", "2190-01-01T00:00:00Z", "--at", "2190-01-02T00:00:00Z", "--payload-base64", "AAE="),
        ("--manual",),
    ):
        await cli.ok("add", "more", *flags, "--queue", "q", "--type", "t", "--replace")
    assert (await api.ask("schedule.get", {"id": "more"}))["schedule"] == {"manual": True, "queue": "q", "type": "t"}


async def test_json_is_the_body_of_the_api(cli: Cli, api: Caller) -> None:
    """`get`, `preview`, `executions show`, `status`: what a plain request answers, and nothing beside it."""
    await api.ask("schedule.put", {"id": "body", "schedule": {**MANUAL, "payload": {"n": 1.50}, "labels": {"a": "b"}}})
    made = (await cli.ok("trigger", "body", "--json", "--nonce", "n1", "--payload", "null")).json
    assert made == await api.ask("schedule.trigger", {"id": "body", "nonce": "n1"})
    after = "2026-03-28T00:00:00Z"
    gap = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    shown = await asyncio.gather(
        cli.ok("get", "body", "--json"),
        cli.ok("executions", "show", made["execution_id"], "--json"),
        cli.ok("preview", "--cron", gap["cron"], "--timezone", gap["timezone"], "--after", after, "--json"),
        cli.ok("executions", "list", "--schedule", "body", "--json"),
        cli.ok("list", "--prefix", "body", "--label", "a=b", "--state", "active", "--json"),
        cli.ok("status", "--json"),
    )
    expected = [
        await api.ask("schedule.get", {"id": "body"}),
        await api.ask("execution.get", {"id": made["execution_id"]}),
        await api.ask("schedule.preview", {"schedule": gap, "after": after}),
        (await api.ask("execution.list", {"schedule": "body"}))["items"],
        (await api.ask("schedule.list", {"prefix": "body"}))["items"],
    ]
    assert [each.json for each in shown[:-1]] == expected
    assert expected[1]["payload"] is None
    status = await api.ask("status.get")
    assert shown[-1].json.keys() == status.keys()
    assert shown[-1].json["leader"] == status["leader"]
    paused = (await cli.ok("pause", "body", "--note", "x", "--json")).json
    assert paused == {"id": "body", "revision": (await api.ask("schedule.get", {"id": "body"}))["revision"]}
    assert (await cli.ok("resume", "body", "--json")).json["revision"] > paused["revision"]
    assert (await cli.ok("delete", "body", "--json")).json.keys() == {"id", "revision"}
    assert (await api.refused("schedule.get", {"id": "body"})).code == "not_found"


async def test_a_list_is_one_array_over_all_pages(cli: Cli, site: Site) -> None:
    """More items than any page holds: one array, or one id a line; `--limit` ends either."""
    ids = [f"many-{number:04d}" for number in range(1050)]
    await asyncio.gather(*(site.put(each, MANUAL) for each in ids))
    whole, names, some = await asyncio.gather(
        cli.ok("list", "--prefix", "many-", "--json"),
        cli.ok("list", "--prefix", "many-", "--names"),
        cli.ok("list", "--prefix", "many-", "--names", "--limit", "3"),
    )
    assert [item["id"] for item in whole.json] == ids
    assert names.lines == ids
    assert some.lines == ids[:3]
    assert (await cli("list", "--prefix", "nothing", "--json")).json == []
    empty = await cli("list", "--prefix", "nothing")
    assert (empty.code, empty.out) == (0, "")
    assert empty.err, "a hint"


async def test_tables_at_80_columns(cli: Cli, api: Caller) -> None:
    """With COLUMNS=80 no line is longer, and ids, states and instants are there; without, nothing is cut."""
    long = "a-rather-long-name-of-a-schedule.with.parts"
    await api.ask("schedule.put", {"id": long, "schedule": {**MANUAL, "queue": "Q" * 40, "type": "some:long:type"}})
    made = (await api.ask("schedule.trigger", {"id": long}))["execution_id"]
    commands = [
        ("list", "--prefix", long), ("get", long), ("executions", "list", "--schedule", long),
        ("executions", "show", made), ("status",), ("preview", "--every", "10s"),
    ]  # fmt: skip
    narrow = await few_at_once(cli.ok(*each, COLUMNS="80") for each in commands)
    assert max(len(line) for each in narrow for line in each.lines) <= 80
    assert "active" in narrow[0].out
    assert "queued" in narrow[2].out
    assert "queued" in narrow[3].out
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", narrow[3].out)
    assert "leader" in narrow[4].out.lower()
    wide = await few_at_once(cli.ok(*each) for each in commands[:3:2])
    assert all(len(each.lines) == 2 for each in wide), "a header and a row"
    assert made in wide[1].out
    assert all("\x1b" not in each.out for each in narrow)


# --- schedctl: files


FILES = {
    "one.yaml": "id: y1\ncron: '0 9 * * 1-5'\ntimezone: Europe/Berlin\nqueue: q\ntype: t\npayload: {a: [1, no, 1.5]}\n",
    "list.yaml": "- {id: y2, manual: true, queue: q, type: t}\n- {id: y3, every: 1h, queue: q, type: t}\n",
    "documents.yaml": "id: y4\nat: 2190-01-01T00:00:00Z\nqueue: q\ntype: t\n---\n"
    "{id: y5, every: 1h, queue: q, type: t}\n",
    "one.json": '{"id": "j1", "manual": true, "queue": "q", "type": "t"}',
    "list.json": '[{"id": "j2", "every": "1h", "queue": "q", "type": "t"}, {"id": "j3", "at": "2190-01-01T00:00:00Z",'
    ' "queue": "q", "type": "t"}]',
}  # fmt: skip


async def test_definitions_from_files(cli: Cli, api: Caller) -> None:
    """One, a list, YAML documents, JSON, from a file or stdin: each is stored under its id, without it."""
    for name, text in FILES.items():
        (cli.folder / name).write_text(text)
    results = await few_at_once(cli.ok("add", "-f", name) for name in FILES)
    assert [len(result.lines) for result in results] == [1, 2, 2, 1, 2]
    first = (await api.ask("schedule.get", {"id": "y1"}))["schedule"]
    assert first == {
        "cron": "0 9 * * 1-5", "timezone": "Europe/Berlin", "queue": "q", "type": "t", "payload": {"a": [1, "no", 1.5]},
    }  # fmt: skip
    for each in ("y2", "y3", "y4", "y5", "j1", "j2", "j3"):
        assert "id" not in (await api.ask("schedule.get", {"id": each}))["schedule"]
    stdin = await cli.ok("add", "-f", "-", "--json", stdin=FILES["one.json"].replace("j1", "s1").encode())
    assert stdin.json["id"] == "s1"
    several = await cli.ok("add", "-f", "list.json", "--replace", "--json")
    assert [each["id"] for each in several.json] == ["j2", "j3"]
    assert (await cli.ok("preview", "-f", "one.yaml", "--count", "3", "--json")).json == await api.ask(
        "schedule.preview", {"id": "y1", "count": 3}
    )


async def test_files_that_are_wrong(cli: Cli, api: Caller) -> None:
    """Unreadable, unparsable, without an id: exit 2, nothing stored; one bad one among good ones is told by its id."""
    wrong = {
        "broken.yaml": "a: [", "no-id.yaml": "manual: true", "empty.yaml": "", "text.yaml": "hello", "bad.json": "{",
        "twice.yaml": "- {id: w, manual: true, queue: q, type: t}\n- {id: w, manual: true, queue: q, type: t}\n",
        "alias.yaml": "id: w\nmanual: true\nqueue: &q q\ntype: *q\n",
    }  # fmt: skip
    for name, text in wrong.items():
        (cli.folder / name).write_text(text)
    texts = await few_at_once(cli.fails(2, "add", "-f", name) for name in (*wrong, "missing.yaml"))
    assert all(name in text for name, text in zip((*wrong, "missing.yaml"), texts, strict=True))
    both = b'[{"id": "good", "manual": true, "queue": "q", "type": "t"}, {"id": "wrong", "every": "1x"}]'
    mixed = await cli("add", "-f", "-", stdin=both)
    assert mixed.code == 2
    assert mixed.out.startswith("good stored")
    assert "wrong" in mixed.err
    assert (await api.ask("schedule.get", {"id": "good"}))["schedule"] == {"manual": True, "queue": "q", "type": "t"}


# --- schedctl: exit codes, connection


async def test_exit_codes(cli: Cli, api: Caller) -> None:
    """2 usage, 3 not found, 4 conflict, 5 unavailable; each with one sentence on stderr and nothing on stdout."""
    await api.ask("schedule.put", {"id": "codes", "schedule": MANUAL})
    add = ("add", "codes", "--manual", "--queue", "q", "--type", "t")
    wrong = {
        2: [
            ("nonsense",), ("list", "--nonsense"), ("get", "a..b"), ("add", "x", "--every", "1s"),
            ("add", "x", "--cron", "0 0 30 2 *", "--queue", "q", "--type", "t"), ("list", "--limit", "0"),
            ("add", "x", "--manual", "--queue", "q", "--type", "t", "--payload", "text"), ("list", "--json", "--names"),
            ("executions", "list", "--state", "done"), ("preview",), ("--context", "nowhere", "list"),
            ("pause", "codes", "--until", "2020-01-01T00:00:00Z"), ("--nats", "http://x", "list"),
        ],
        3: [
            ("get", "nobody"), ("delete", "nobody"), ("trigger", "nobody"), ("executions", "show", "nobody"),
            ("executions", "show", "nobody.20260101T000000000Z"),
        ],
        4: [add, (*add, "--expected-revision", "99999")],
        5: [
            ("list", "--nats", "127.0.0.1:1,127.0.0.1:2"), ("--namespace", "elsewhere", "list"),
        ],
    }  # fmt: skip
    await few_at_once(cli.fails(code, *each) for code, several in wrong.items() for each in several)
    assert "schedd run" in await cli.fails(5, "list", SCHEDD_NAMESPACE="elsewhere"), "what to do about it"


async def test_flags_win_over_environment_over_context(cli: Cli) -> None:
    """--nats and --context, before or after; then NATS_URL, NATS_CONTEXT, the selected context."""
    nowhere = "nats://127.0.0.1:1"
    write_context(cli.folder / "config", "here", selected="here", url=cli.url)
    write_context(cli.folder / "config", "away", url=nowhere)
    well: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("--nats", cli.url, "status", "--json"), {"NATS_URL": nowhere}),
        (("status", "--json", "--nats", f"{nowhere},{cli.url}"), {"NATS_URL": nowhere}),
        (("--nats", nowhere, "status", "--nats", cli.url), {}),
        (("--context", "here", "list"), {"NATS_URL": nowhere}),
        (("executions", "--context", "here", "list"), {"NATS_CONTEXT": "away", "NATS_URL": ""}),
        (("executions", "list", "--context", "here"), {"NATS_CONTEXT": "away", "NATS_URL": ""}),
        (("status",), {"NATS_URL": cli.url, "NATS_CONTEXT": "away"}),
        (("status",), {"NATS_URL": "", "NATS_CONTEXT": "here"}),
        (("status",), {"NATS_URL": ""}),
        (("--namespace", "schedd", "status"), {"SCHEDD_NAMESPACE": "elsewhere"}),
    ]
    results = await few_at_once(cli(*arguments, **env) for arguments, env in well)
    assert [result.code for result in results] == [0] * len(well), results
    assert "127.0.0.1:1" in await cli.fails(5, "list", NATS_URL="", NATS_CONTEXT="away")


def write_context(config: Path, name: str, *, selected: str = "", **values: Any) -> None:
    """A context file as the nats tool writes it."""
    folder = config / "nats" / "context"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"description": "for a test", "user": "", **values}))
    if selected:
        (config / "nats" / "context.txt").write_text(selected)


# --- credentials


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificates(folder: Path) -> None:
    """ca.pem, and server and client certificates with their keys."""
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-days", "2", "-subj", "/CN=ca", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    for name in ("server", "client"):
        openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")  # fmt: skip
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out",
                f"{name}.pem", "-days", "2", "-copy_extensions", "copy")  # fmt: skip


def jwt(key: Any, **claims: Any) -> str:
    """A NATS JWT: claims signed with an nkey."""

    def encoded(part: dict[str, Any] | bytes) -> str:
        raw = part if isinstance(part, bytes) else json.dumps(part).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    text = f"{encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{encoded({'jti': 'x', 'iat': 1700000000, **claims})}"
    return f"{text}.{encoded(key.sign(text.encode()))}"


def new_key(prefix: int) -> Any:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def operator_config(folder: Path) -> str:
    """The configuration of a server that trusts one operator with one account; writes user.creds for it."""
    operator, account, user = (new_key(each) for each in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT,
                                                          nkeys.PREFIX_BYTE_USER))  # fmt: skip
    names = [key.public_key.decode() for key in (operator, account, user)]
    unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    trusted = jwt(operator, iss=names[0], sub=names[0], name="o", nats={"type": "operator", "version": 2})
    known = jwt(operator, iss=names[0], sub=names[1], name="a",
                nats={"type": "account", "version": 2, "limits": {**unlimited, "wildcards": True}})  # fmt: skip
    allowed = jwt(account, iss=names[1], sub=names[2], name="u",
                  nats={"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1})  # fmt: skip
    (folder / "user.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{allowed}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return f"operator: {trusted}\nresolver: MEMORY\nresolver_preload: {{ {names[1]}: {known} }}"


@asynccontextmanager
async def serving(folder: Path, config: str, *, jetstream: bool = False) -> AsyncIterator[Server]:
    server = Server(folder, config=config, jetstream=jetstream)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def test_each_way_to_sign_in(tmp_path: Path) -> None:
    """creds, nkey, user and password, token: by environment, context or URL; without them permission denied (1)."""
    key = new_key(nkeys.PREFIX_BYTE_USER)
    (tmp_path / "user.nk").write_bytes(key.seed)
    (tmp_path / "n").mkdir()
    ways: list[tuple[str, dict[str, str], dict[str, str], str]] = [
        (operator_config(tmp_path), {"NATS_CREDS": "user.creds"}, {"creds": str(tmp_path / "user.creds")}, ""),
        (f"authorization {{ users: [ {{ nkey: {key.public_key.decode()} }} ] }}", {"NATS_NKEY": "user.nk"},
         {"nkey": str(tmp_path / "user.nk")}, ""),
        ("authorization { user: u, password: p }", {"NATS_USER": "u", "NATS_PASSWORD": "p"},
         {"user": "u", "password": "p"}, "u:p@"),
        ("authorization { token: s3cr3t }", {"NATS_TOKEN": "s3cr3t"}, {"token": "s3cr3t"}, "s3cr3t@"),
    ]  # fmt: skip

    async def check(number: int) -> None:
        config, env, context, userinfo = ways[number]
        write_context(tmp_path / "config", f"way{number}", **context)
        async with serving(tmp_path / f"server{number}", config) as server:
            cli = Cli(server.url, tmp_path)
            write_context(tmp_path / "config", f"way{number}", **{**context, "url": server.url})
            refused = await cli.fails(1, "list")
            assert "credentials" in refused
            signed_in = [cli.fails(5, "list", **env), cli.fails(5, "list", "--context", f"way{number}", NATS_URL="")]
            if userinfo:
                signed_in.append(cli.fails(5, "list", "--nats", server.url.replace("//", f"//{userinfo}")))
            told = await asyncio.gather(*signed_in)
            assert all("no schedd daemon answers" in each for each in told), "connected, and nobody there"
            assert all("s3cr3t" not in each and "u:p" not in each for each in [*told, refused])

    await few_at_once(check(number) for number in range(len(ways)))


async def test_everything_over_tls(tmp_path: Path) -> None:
    """A server that wants TLS, a client certificate and a password: replica, commands and worker use one context."""
    make_certificates(tmp_path)
    (tmp_path / "tasks.py").write_text(PROGRAM)
    tls = f'cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key", ca_file: "{tmp_path}/ca.pem"'
    config = f"tls {{ {tls}, verify: true }}\nauthorization {{ user: u, password: p }}"
    async with serving(tmp_path / "server", config, jetstream=True) as server:
        url = server.url.replace("nats://", "tls://")
        files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
        paths = {word: str(tmp_path / name) for word, name in files.items()}
        write_context(tmp_path / "config", "secure", url=url, user="u", password="p", **paths)
        env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "NATS_CONTEXT": "secure"}
        run = ["-m", "cli.schedd", "--context", "secure", "run", "--monitor", "off"]
        work = ["-m", "cli.schedctl", "worker", "run", "tasks:worker"]
        processes = [Process("replica", tmp_path, run, {"XDG_CONFIG_HOME": env["XDG_CONFIG_HOME"]})]
        try:
            await eventually(lambda: _said(processes[0], "leadership_gained"), within_s=20, what="a leader")
            processes.append(Process("worker", tmp_path, work, env))
            cli = Cli("", tmp_path)
            add = ("add", "s", "--manual", "--queue", "secure", "--type", "t", "--payload", "7")
            await cli.ok(*add, NATS_CONTEXT="secure")
            made = (await cli.ok("trigger", "s", "--json", NATS_CONTEXT="secure")).json["execution_id"]
            by_environment = {"NATS_URL": url, "NATS_USER": "u", "NATS_PASSWORD": "p"} | {
                f"NATS_{word.upper()}": path for word, path in paths.items()
            }

            async def done() -> Any:
                found = (await cli.ok("executions", "show", made, "--json", **by_environment)).json
                return found if found["state"] == "succeeded" else None

            assert (await eventually(done, within_s=15, what="the run"))["result"] == 7
            without = {**by_environment, "NATS_CERT": "", "NATS_KEY": ""}
            refused = await cli("list", **without)
            assert refused.code in {1, 5}
            assert refused.out == ""
            for process in processes:
                process.signal(signal.SIGTERM)
            assert [await process.ended(10) for process in processes] == [0, 0]
        finally:
            await asyncio.gather(*(process.kill() for process in processes))


async def _said(process: Process, word: str) -> bool:
    assert process.exit_code is None, process.log
    return word in process.log


# --- schedd run


async def schedd(*arguments: str, cwd: Path, **env: str) -> Result:
    return await command("schedd", *arguments, cwd=cwd, **env)


async def test_run_refuses_bad_settings(tmp_path: Path) -> None:
    """A flag or an environment name that is wrong: exit 2, one sentence that names both, before anything is tried."""
    cases: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("--horizon", "1s"), {}, "--horizon"),
        ((), {"SCHEDD_HORIZON": "1s"}, "SCHEDD_HORIZON"),
        (("--stream-replicas", "2"), {}, "--stream-replicas"),
        ((), {"SCHEDD_STREAM_REPLICAS": "two"}, "SCHEDD_STREAM_REPLICAS"),
        (("--log-format", "xml"), {}, "--log-format"),
        (("--replica", "a b"), {}, "--replica"),
        (("--monitor", "nonsense"), {}, "--monitor"),
        (("--admin", "0.0.0.0:8088"), {}, "--admin"),
        ((), {"SCHEDD_NAMESPACE": "No Such"}, "SCHEDD_NAMESPACE"),
        (("nonsense",), {}, "nonsense"),
    ]

    async def check(arguments: tuple[str, ...], env: dict[str, str], word: str) -> None:
        result = await schedd("run", *arguments, cwd=tmp_path, **env)
        assert (result.code, result.out) == (2, ""), f"{arguments} {env}: {result}"
        assert word in result.err
        assert result.err.startswith("schedd: ")

    await few_at_once(check(*case) for case in cases)


async def test_run_without_what_it_needs(place: Place, tmp_path: Path) -> None:
    """No NATS, no JetStream, a port that is taken: exit 5 and one sentence as the last line."""
    async with serving(tmp_path / "plain", "") as plain:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            busy = f"127.0.0.1:{taken.getsockname()[1]}"
            cases = {
                "no NATS server": ("--nats", "nats://127.0.0.1:1", "--monitor", "off"),
                "JetStream": ("--nats", plain.url, "--monitor", "off"),
                busy: ("--nats", place.url, "--monitor", busy),
                "cluster": ("--nats", place.url, "--monitor", "off", "--stream-replicas", "3", "--namespace", "three"),
            }
            results = await few_at_once(schedd("run", *each, cwd=tmp_path) for each in cases.values())
    for word, result in zip(cases, results, strict=True):
        last = result.err.splitlines()[-1]
        assert word in last
        assert last.startswith("schedd: ")
        assert result.code == (2 if word == "cluster" else 5), result


async def test_run(place: Place, site: Site, tmp_path: Path) -> None:
    """Flags and environment are in force; it logs to stderr only; SIGTERM and SIGINT end it with 0 in a moment."""
    [port] = free_ports(1)
    flags = ["--namespace", "team1", "--replica", "by-flag", "--monitor", f"127.0.0.1:{port}", "--horizon", "30s"]
    arguments = ["-m", "cli.schedd", "--nats", place.url, "run", *flags, "--log-format", "json", "--admin", "off"]
    first = Process("flags", tmp_path, arguments, {"SCHEDD_REPLICA": "by-environment", "SCHEDD_HORIZON": "60s"})
    named = {"NATS_URL": place.url, "SCHEDD_NAMESPACE": "team1", "SCHEDD_REPLICA": "second", "SCHEDD_MONITOR": "off"}
    second = Process("env", tmp_path, ["-m", "cli.schedd", "run"], {**named, "SCHEDD_LOG_FORMAT": "json"})
    try:
        await asyncio.gather(*(eventually(lambda each=each: _said(each, '"ready"'), within_s=20, what="it")
                               for each in (first, second)))  # fmt: skip
        assert all(json.loads(line)["message"] for line in first.log.splitlines()), "json, line by line"
        cli = Cli(place.url, tmp_path)

        async def planned() -> Any:
            found = (await cli("--namespace", "team1", "status", "--json")).json
            return found if found["planned_until"] and found["leader"] else None

        status = await eventually(planned, what="a leader")
        assert [each["replica"] for each in status["replicas"]] == ["by-flag", "second"]
        assert (await http(port, "/readyz"))[0] == 200
        assert (await http(port, "/healthz"))[0] == 200
        assert b"schedd_leader" in (await http(port, "/metrics"))[1]
        assert {"TEAM1_TIMELINE", "KV_team1-schedules"} <= set((await site.api("STREAM.NAMES"))["streams"])
        began = time.monotonic()
        first.signal(signal.SIGTERM)
        second.signal(signal.SIGINT)
        assert [await each.ended(10) for each in (first, second)] == [0, 0]
        assert time.monotonic() - began < 3
    finally:
        await asyncio.gather(first.kill(), second.kill())


async def http(port: int, path: str) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        reply = await reader.read()
        writer.close()
    return int(reply.split()[1]), reply


# --- schedd dev and demo


class Dev:
    """`schedd dev` in a folder of its own, with a temporary folder of its own."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process, url: str) -> None:
        self.folder, self.process, self.url = folder, process, url

    @classmethod
    async def start(cls, folder: Path, *arguments: str) -> Dev:
        for name in ("cwd", "tmp"):
            (folder / name).mkdir(exist_ok=True)
        env = {**clean_environment(), "TMPDIR": str(folder / "tmp"), "XDG_CONFIG_HOME": "/nowhere"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.schedd", "dev", *arguments, cwd=folder / "cwd", env=env,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
        assert re.fullmatch(r"NATS_URL=nats://127\.0\.0\.1:\d+\n", line)
        return cls(folder, process, line.strip().partition("=")[2])

    async def end(self, number: signal.Signals) -> int:
        """The exit code; fails if it said anything else, or if its server is still there after a moment."""
        self.process.send_signal(number)
        async with asyncio.timeout(10):
            rest, _ = await self.process.communicate()
        assert rest == b""
        await eventually(self.server_gone, within_s=5, what="the server's end")
        assert self.process.returncode is not None
        return self.process.returncode

    async def server_gone(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(*self.url.removeprefix("nats://").split(":"))
        except OSError:
            return True
        writer.close()
        return False

    def server_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def left(self) -> list[str]:
        return [path.name for name in ("cwd", "tmp") for path in (self.folder / name).iterdir()]


async def test_dev(tmp_path: Path) -> None:
    """NATS_URL=..., ready to be used, data kept where it is told to; it leaves neither process nor file."""
    first = await Dev.start(tmp_path, "--data", str(tmp_path / "data"), "--monitor", "off")
    cli = Cli(first.url, tmp_path)
    await cli.ok("add", "kept", "--every", "1h", "--queue", "q", "--type", "t")
    assert await first.end(signal.SIGTERM) == 0
    assert first.left() == []
    second = await Dev.start(tmp_path, "--data", str(tmp_path / "data"))
    assert (await Cli(second.url, tmp_path).ok("list", "--names")).lines == ["kept"]
    taken = await schedd("dev", "--data", str(tmp_path / "data"), cwd=tmp_path)
    assert (taken.code, taken.out) == (2, "")
    assert "in use" in taken.err
    assert await second.end(signal.SIGINT) == 0
    assert second.left() == []


async def test_dev_killed(tmp_path: Path) -> None:
    """kill -9 leaves no process; and where its NATS server dies, dev ends too (5) instead of waiting for ever."""
    dev, other = await asyncio.gather(Dev.start(tmp_path), Dev.start(tmp_path))
    await dev.end(signal.SIGKILL)
    os.kill(other.server_pid(), signal.SIGKILL)
    async with asyncio.timeout(10):
        assert await other.process.wait() == 5


async def test_demo(tmp_path: Path) -> None:
    """Executions as they happen, states in full, within 80 columns; exit 0; nothing is left behind."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "cwd").mkdir()
    began = time.monotonic()
    result = await schedd("demo", "--for", "5s", cwd=tmp_path / "cwd", TMPDIR=str(tmp_path / "tmp"))
    assert result.code == 0, result
    assert 5 < time.monotonic() - began < 20
    assert max(map(len, result.lines)) <= 80
    for word in ("succeeded", "running", "retrying", "hello", "STATE"):
        assert word in result.out
    assert re.search(r"^\d+ executions: \d+ succeeded$", result.lines[-1])
    left = [path.name for name in ("cwd", "tmp") for path in (tmp_path / name).iterdir()]
    assert left == []
    assert (await schedd("demo", "--for", "never", cwd=tmp_path)).code == 2
