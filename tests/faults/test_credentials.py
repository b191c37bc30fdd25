"""NATS takes our credentials or certificates no longer, and takes those that are put in their place: nobody restarts.

One replica and an SDK worker live through it; the site's own client and the plain worker sign in by other means.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Self

import nkeys

from tests.acceptance.evidence import on_grid
from tests.acceptance.harness import Put, Site, eventually, utc_now
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import Replica, SdkWorker
from tests.faults.signed import Identity, Operator, replace
from tests.nats_servers import Server

HORIZON = {"SCHEDD_HORIZON": "30s"}
EXPIRES_S, AWAY_S = 12, 3
MINUTE = timedelta(minutes=1)
TRIES_PER_S = 1.0
"""A client waits a random 0.25 to 3 s between two tries."""
PROGRAM = """
import json, os
from scheduler.worker import Worker
worker = Worker("sdk")

@worker.task("tick")
async def tick(payload, ctx):
    with open(os.environ["EVIDENCE"], "ab") as notes:
        notes.write(json.dumps({"id": ctx.execution_id, "attempt": ctx.attempt}).encode() + b"\\n")

worker.run()
"""


async def test_what_signs_us_in_is_replaced_while_we_run(tmp_path: Path) -> None:
    """A user that expires, a key that is revoked, certificates and CAs that are rotated: back without a restart."""
    async with asyncio.TaskGroup() as group:
        for job in (a_user_expires, a_key_is_revoked, certificates_are_rotated):
            folder = tmp_path / job.__name__
            folder.mkdir()
            group.create_task(job(folder))


async def a_user_expires(folder: Path) -> None:
    """Operator mode: the user's JWT expires on the open connection; a new file of credentials ends it."""
    operator, ours, own = Operator(), folder / "ours.creds", folder / "own.creds"
    server = Server(folder / "nats", config=operator.config)
    operator.write_user(own)
    operator.write_user(ours)

    async def fault() -> None:
        """First another user, for some seconds only, which they pick up when they sign in to a server that is new."""
        operator.write_user(ours, for_s=EXPIRES_S)
        await again(server)
        await eventually(stage.is_ready, what="the replica to be back by the user that expires")

    async def mend() -> None:
        operator.write_user(ours)

    sign_in = {"NATS_CREDS": str(ours)}
    async with Stage(folder, server, Site(folder, server.url, sign_in={"NATS_CREDS": str(own)}), sign_in) as stage:
        await stage.away_and_back(fault, mend, reason="expired", refusal="authentication error", within_s=EXPIRES_S + 5)
        await stage.verify()


async def a_key_is_revoked(folder: Path) -> None:
    """The server's configuration is reloaded with another key in it; ours is replaced, by half a file first."""
    old, new = Identity(nkeys.PREFIX_BYTE_USER), Identity(nkeys.PREFIX_BYTE_USER)
    ours = folder / "ours.nk"
    replace(ours, old.seed)

    def only(key: Identity) -> str:
        return f"authorization {{ users: [ {{ nkey: {key.public} }}, {{ user: own, password: own }} ] }}"

    server = Server(folder / "nats", config=only(old))

    async def fault() -> None:
        reload(server, only(new))

    async def mend() -> None:
        ours.write_text(new.seed[:20])
        await asyncio.sleep(3)
        ours.write_text(new.seed)

    url = server.url.replace("//", "//own:own@")
    async with Stage(folder, server, Site(folder, url), {"NATS_NKEY": str(ours), "NATS_URL": server.url}) as stage:
        await stage.away_and_back(fault, mend, reason="authorization violation", refusal="authentication error")
        await stage.verify()


async def certificates_are_rotated(folder: Path) -> None:
    """The server's certificate, then its CA, then ours: what we trust and what we show follow by their files."""
    certificates(folder)

    def install(**files: str) -> None:
        for name, sources in files.items():
            place = folder / {"cert": "live.pem", "key": "live.key", "ca": "live-ca.pem", "trust": "trust.pem"}.get(
                name, name.replace("_", ".")
            )
            replace(place, "".join((folder / source).read_text() for source in sources.split()))

    install(cert="server1.pem", key="server1.key", ca="ca1.pem ca2.pem", trust="ca1.pem")
    install(ours_pem="client1.pem", ours_key="client1.key")
    (folder / "both.pem").write_text((folder / "ca1.pem").read_text() + (folder / "ca2.pem").read_text())
    tls = f'cert_file: "{folder}/live.pem", key_file: "{folder}/live.key", ca_file: "{folder}/live-ca.pem"'
    server = Server(folder / "nats", config=f"tls {{ {tls}, verify: true }}")

    async def another_authority() -> None:
        install(cert="server2.pem", key="server2.key")
        await again(server)

    async def trust_both() -> None:
        install(trust="ca1.pem ca2.pem")

    async def old_clients_are_refused() -> None:
        install(ca="ca2.pem")
        await again(server)

    async def show_another() -> None:
        install(ours_pem="client2.pem")
        await asyncio.sleep(3)  # for so long it does not go with its key
        install(ours_key="client2.key", trust="ca2.pem")

    own = {"NATS_CA": f"{folder}/both.pem", "NATS_CERT": f"{folder}/client2.pem", "NATS_KEY": f"{folder}/client2.key"}
    ours = {"NATS_CA": f"{folder}/trust.pem", "NATS_CERT": f"{folder}/ours.pem", "NATS_KEY": f"{folder}/ours.key"}
    async with Stage(folder, server, Site(folder, server.url, sign_in=own), ours) as stage:
        await stage.away_and_back(another_authority, trust_both, reason="verify failed", refusal="TLS handshake error")
        await stage.away_and_back(old_clients_are_refused, show_another, reason="", refusal="TLS handshake error")
        await stage.verify()


class Stage:
    """A server, a replica and an SDK worker that sign in by `ours`, and a tick a second for two queues."""

    def __init__(self, folder: Path, server: Server, site: Site, ours: dict[str, str]) -> None:
        self.folder, self.server, self.site, self.ours = folder, server, site, ours
        self.puts: dict[str, Put] = {}
        self.replica: Replica
        self.sdk: SdkWorker

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__(*sys.exc_info())
            raise
        return self

    async def _begin(self) -> None:
        await self.server.start()
        await self.site.__aenter__()
        [self.replica] = await self.site.replicas("a", **HORIZON, **self.ours)
        assert await self.site.leader() is self.replica
        self.plain = self.site.worker("herd")
        self.sdk = self.site.sdk_worker(PROGRAM, **self.ours)
        self.puts = await put_many(self.site, 10)
        body = {"every": "1s", "queue": "sdk", "type": "tick", "overlap": "allow", "catch_up": {"after": "10m"}}
        self.put = await self.site.put("for-the-sdk", body)

        async def works() -> bool:
            return bool(self.sdk.notes())

        await eventually(works, within_s=30, what="the SDK worker to work")

    async def __aexit__(self, kind: object, problem: object, trace: object) -> None:
        try:
            await self.site.__aexit__(kind, problem, trace)
        finally:
            await self.server.kill()

    async def away_and_back(
        self,
        fault: Callable[[], Awaitable[None]],
        mend: Callable[[], Awaitable[None]],
        *,
        reason: str,
        refusal: str,
        within_s: float = 10,
    ) -> None:
        """The fault takes both away, and they say why; they try without a storm; what mends it brings them back."""
        await fault()

        async def away() -> bool:
            status, body = await self.replica.http("/readyz")
            return status == 503 and "not connected to NATS: " in body

        await eventually(away, within_s=within_s, what="the replica to be away, and to say why")

        async def told() -> bool:
            return any(reason in str(line).lower() for line in self.replica.lines() if line["level"] == "warning")

        await eventually(told, what=f"a warning of the replica that says: {reason}")
        before = self.server.log.count(refusal)
        await asyncio.sleep(AWAY_S)
        tries = self.server.log.count(refusal) - before
        assert 1 <= tries <= 2 * (AWAY_S + 1) * TRIES_PER_S, f"{tries} tries of two clients in {AWAY_S} s"
        assert (await self.replica.http("/healthz"))[0] == 200, "a restart would not help"
        await mend()
        print(f"{reason or 'refused'}: {tries} tries of two clients in {AWAY_S} s")
        await eventually(self.is_ready, within_s=15, what="the replica to be back")
        await asyncio.sleep(2)

    async def is_ready(self) -> bool:
        return (await self.replica.http("/readyz"))[0] == 200

    async def verify(self) -> None:
        """Neither process ever ended; nothing lost or doubled, by the plain worker and by the SDK's."""
        assert (self.replica.exit_code, self.sdk.exit_code) == (None, None), self.sdk.log[-2000:]
        now = utc_now()
        expected = on_grid("for-the-sdk", timedelta(seconds=1), self.put.at, now)
        allowed = on_grid("for-the-sdk", timedelta(seconds=1), self.put.at, self.put.at, may_until=now + MINUTE)
        await self.site.verify(expected_of(self.puts) | allowed, [self.plain], late_max_s=25)

        async def all_noted() -> bool:
            return expected.must.keys() <= {note["id"] for note in self.sdk.notes()}

        await eventually(all_noted, within_s=30, what="the SDK worker to have run everything")
        starts = [(note["id"], note["attempt"]) for note in self.sdk.notes()]
        assert len(starts) == len(set(starts)), "an attempt ran twice"


def reload(server: Server, config: str) -> None:
    """SIGHUP: nats-server reads its configuration anew."""
    server.configure(config)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGHUP)


async def again(server: Server) -> None:
    """A certificate counts for new connections, so all are made anew."""
    await server.stop()
    await server.start()


def certificates(folder: Path) -> None:
    """Two authorities, and of each a server's and a client's certificate, by the openssl command."""

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for number in "12":
        ca = f"ca{number}"
        run(*new, "-x509", "-days", "2", "-subj", f"/CN={ca}", "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
        for kind in ("server", "client"):
            name = f"{kind}{number}"
            run(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
            sign = ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-extfile", "ext"]
            run("x509", "-req", "-days", "2", *sign, "-in", f"{name}.csr", "-out", f"{name}.pem")
