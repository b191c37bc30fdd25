"""Credentials of every kind and TLS, from outside (contract, part 8)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import nkeys

from tests.acceptance.commands.running import Cli, said, serving, write_context
from tests.acceptance.contract_site import few_at_once
from tests.acceptance.harness import eventually
from tests.acceptance.processes import Process

PROGRAM = """
from scheduler.worker import Worker
worker = Worker("secure")
@worker.task("t")
def t(payload):
    return payload
"""


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
            await eventually(lambda: said(processes[0], "leadership_gained"), within_s=20, what="a leader")
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
