"""Two releases side by side: upgraded and rolled back under load; a migration waits for all; who is older refuses."""

from __future__ import annotations

import asyncio
import random
import signal
from datetime import timedelta
from typing import Any

import pytest

from scheduler import __version__
from scheduler.wire.instants import format_instant
from tests.acceptance.harness import CONTROL, STATUS, Put, Site, eventually
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import PlainWorker, Replica
from tests.faults.other_version import FIELD, VERSION, later_release

HORIZON = {"SCHEDD_HORIZON": "10s"}
COUNT = 100
STRANGE = {"every": "1s", "queue": "herd", "type": "tick", FIELD: "yes"}


class Releases:
    """Replicas by name, each of the release that it was last rolled to."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._later = {**HORIZON, **later_release(site.folder / "later")}
        self.running: dict[str, Replica] = {}

    async def start(self, name: str, *, later: bool) -> Replica:
        started = self.site.replica(name, **(self._later if later else HORIZON))
        await started.ready()
        self.running[name] = started
        return started

    async def roll(self, name: str, *, later: bool) -> Replica:
        """As a rolling update does: SIGTERM, wait for its end, start the other."""
        await self.end(name)
        return await self.start(name, later=later)

    async def end(self, name: str) -> None:
        self.running[name].signal(signal.SIGTERM)
        assert await self.running[name].ended() == 0

    async def lead_by(self, name: str) -> None:
        """Hand over until this one leads; those who did are of this release again, and never is one alone."""
        for _ in range(10):
            leader = await self.site.leader()
            if leader is self.running[name]:
                return
            await self.roll(leader.name.split(".")[0], later=False)
        raise AssertionError(f"{name} never led")

    async def versions(self) -> set[str]:
        told = await self.site.request("status.get")
        return {str(each["version"]) for each in told["replicas"]}


async def schema_in_force(site: Site) -> int:
    return int((await site.value(CONTROL, "schema") or {})["schema"])


@pytest.mark.slow
async def test_two_releases_are_upgraded_and_rolled_back_under_load(site: Site) -> None:
    """100 fires a second through an upgrade of one, its rollback, and an upgrade of all: nothing lost or doubled."""
    replicas = Releases(site)
    await asyncio.gather(*(replicas.start(name, later=False) for name in ("a", "b", "c")))
    workers = [site.worker("herd"), site.worker("herd")]
    puts = await put_many(site, COUNT)
    strange = await site.put("strange", STRANGE)

    await replicas.roll("b", later=True)
    assert await replicas.versions() == {__version__, VERSION}
    await replicas.lead_by("b")
    assert (await site.leader_record())["version"] == VERSION
    await replicas.running["b"].logged("migration_waits")
    await asyncio.sleep(3)
    assert await schema_in_force(site) == 1, "two of three know no other"

    await replicas.roll("b", later=False)
    assert await replicas.versions() == {__version__}
    await asyncio.sleep(2)

    await asyncio.gather(*(replicas.roll(name, later=True) for name in ("a", "b")))
    deaf = replicas.running["c"]
    deaf.signal(signal.SIGSTOP)
    await deaf.stopped()
    await site.leader(other_than=deaf, within_s=15)

    async def migrated() -> bool:
        return await schema_in_force(site) == 2

    await eventually(migrated, within_s=20, what="schema 2 to be in force")
    deaf.signal(signal.SIGCONT)
    assert await deaf.ended(within_s=15) == 5, "who was asked and did not hear it ends by itself"
    assert "what is stored has schema 2, this replica knows 1: upgrade it" in deaf.log
    refused = site.replica("late", **HORIZON)
    assert await refused.ended(within_s=30) == 5
    assert "what is stored has schema 2, this replica knows 1: upgrade it" in refused.log
    assert "Traceback" not in refused.log + deaf.log

    await sound(site, puts, workers, strange)


async def sound(site: Site, puts: dict[str, Put], workers: list[PlainWorker], strange: Put) -> None:
    """Nothing lost, doubled, early, unexplained; both releases wrote, and each read what the other wrote."""
    id_, put = next(iter(puts.items()))
    owed = expected_of(puts)
    await site.verify(owed, workers, late_max_s=8, within_s=60)
    records = await site.records()
    marked = sum(FIELD in record for record in records.values())
    print(f"{marked} of {len(records)} records were last written by the later release")
    assert 0 < marked < len(records)
    rows = [await site.status(id_) for id_ in puts]
    assert any(FIELD in row for row in rows), "no status row of the later release"
    kept = await site.value("schedd-schedules", "strange")
    assert kept == STRANGE, "what we do not know in a schedule is left as it is"
    row = await site.value(STATUS, "strange") or {}
    assert row["state"] == "invalid", row
    assert FIELD in row["error"], row
    assert not [id_ for id_ in records if id_.startswith("strange.")], strange
    mine = [at for each, at in owed.must.items() if each.startswith(f"{id_}.")]
    window = {"since": format_instant(put.at), "until": format_instant(max(mine) + timedelta(milliseconds=1))}
    audit: dict[str, Any] = await site.request("schedule.audit", {"id": id_, **window})
    assert (audit["expected"], audit["unexplained"]) == (len(mine), 0), audit


@pytest.mark.slow
@pytest.mark.timeout(500)
async def test_minutes_of_upgrades_and_rollbacks(site: Site, dice: random.Random) -> None:
    """One replica after the other is rolled to a release at random, and leaders killed: nothing lost or doubled."""
    replicas = Releases(site)
    names = ("a", "b", "c")
    await asyncio.gather(*(replicas.start(name, later=False) for name in names))
    workers = [site.worker("herd"), site.worker("herd")]
    puts = await put_many(site, COUNT)
    strange = await site.put("strange", STRANGE)
    later = dict.fromkeys(names, False)
    for _ in range(30):
        name = dice.choice(names)
        if all(later[each] for each in names if each != name):
            continue  # while the only older one is away, the others may migrate
        later[name] = dice.random() < 0.5
        if dice.random() < 0.3:
            await replicas.running[name].kill()
            await replicas.start(name, later=later[name])
        else:
            await replicas.roll(name, later=later[name])
        await asyncio.sleep(dice.uniform(0, 4))
    assert await schema_in_force(site) == 1
    await sound(site, puts, workers, strange)
