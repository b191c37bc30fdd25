"""An outage of all replicas, long enough for catch-up: every nominal time has its one verdict, and audit tells it.

Twelve schedules, every catch-up mode and every overlap policy among them, run on a real server. What audit says is held
against a list of nominal times, a set of task messages and an outage that this file knows by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import Struct

from tests.acceptance.evidence import Delivery, grid, id_of
from tests.acceptance.harness import TERMINAL, Site, eventually, utc_now
from tests.acceptance.processes import PlainWorker

AFTER = timedelta(seconds=10)  # catch_up.after, the default
EVERY = timedelta(seconds=5)
QUICK = {"every": "5s", "queue": "quick", "type": "t"}
SLOW = {"every": "5s", "queue": "slow", "type": "t"}  # its worker takes longer than the interval
SCHEDULES: Mapping[str, dict[str, Any]] = {
    "latest": QUICK,
    "none": {**QUICK, "catch_up": {"mode": "none"}},
    "earliest": {**QUICK, "catch_up": {"mode": "earliest"}},
    "all": {**QUICK, "catch_up": {"mode": "all"}, "overlap": "buffer_all"},
    "capped": {**QUICK, "catch_up": {"mode": "all", "max": 3}, "overlap": "allow"},
    "windowed": {**QUICK, "catch_up": {"mode": "all", "window": "30s"}, "overlap": "allow"},
    "jittered": {**QUICK, "catch_up": {"mode": "all"}, "overlap": "allow", "jitter": "3s"},
    "buffer-one": {**SLOW, "overlap": "buffer_one", "catch_up": {"mode": "all"}},
    "cancel-other": {**SLOW, "overlap": "cancel_other"},
    "terminate-other": {**SLOW, "overlap": "terminate_other", "catch_up": {"mode": "all"}},
    "keep-latest": {**SLOW, "overlap": "latest", "catch_up": {"mode": "all"}},
    "two-at-once": {**SLOW, "overlap": "allow", "max_running": 2},
}


class Seen(Struct, frozen=True):
    """What is known of the run without asking schedd: from when on each schedule held, and the outage."""

    began: Mapping[str, datetime]
    down: datetime
    up: datetime
    until: datetime
    delivered: Mapping[str, list[Delivery]]


@pytest.mark.timeout(280)
@pytest.mark.parametrize("outage_s", [45, pytest.param(90, marks=pytest.mark.slow)])
async def test_every_nominal_time_of_an_outage_has_its_verdict(site: Site, outage_s: int) -> None:
    """12 schedules without a replica for so long: audit adds up to what had to be, and no verdict is unexplained."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="12s")
    workers = [site.worker("quick"), site.worker("slow", "7")]
    began = {name: (await site.put(name, definition)).at for name, definition in SCHEDULES.items()}
    await asyncio.sleep(20)
    down = utc_now()
    await asyncio.gather(*(replica.kill() for replica in replicas))
    await asyncio.sleep(outage_s)
    up = utc_now()
    await site.replicas("c", "d", SCHEDD_HORIZON="12s")
    await asyncio.sleep(25)
    until = utc_now() - timedelta(seconds=6)
    for name in SCHEDULES:  # no more to come: what waits or runs comes to its end
        await site.request("schedule.pause", {"id": name})
    await eventually(lambda: _settled(site, until), within_s=60, what="every execution's end")
    seen = Seen(began, down, up, until, _by_schedule(workers))
    audits = {name: await _audit(site, name, seen) for name in SCHEDULES}
    for name, audit in audits.items():
        _check_sums(name, audit, seen)
    _check_modes(audits, seen)


async def _audit(site: Site, name: str, seen: Seen) -> dict[str, Any]:
    since, until = _text(seen.began[name]), _text(seen.until)
    return await site.request("schedule.audit", {"id": name, "since": since, "until": until})


async def _settled(site: Site, until: datetime) -> bool:
    """Nothing that was due before `until` is on its way any more."""
    return all(
        record["state"] in TERMINAL
        for record in (await site.records()).values()
        if datetime.fromisoformat(record["nominal_at"]) <= until
    )


def _by_schedule(workers: list[PlainWorker]) -> dict[str, list[Delivery]]:
    found: dict[str, list[Delivery]] = {name: [] for name in SCHEDULES}
    for worker in workers:
        for each in worker.deliveries():
            found[each.id.partition(".")[0]].append(each)
    return found


def _check_sums(name: str, audit: Mapping[str, Any], seen: Seen) -> None:
    """Every nominal time is there once, in order; `fired` are exactly those that had a task."""
    told = [datetime.fromisoformat(each["nominal_at"]) for each in audit["occurrences"]]
    owed = grid(EVERY, seen.began[name], seen.until)
    if name == "jittered":  # the last one may fire after the window
        owed = [at for at in owed if at in set(told) or at + timedelta(seconds=3) <= seen.until]
    assert told == owed, name
    assert audit["expected"] == len(owed), name
    assert audit["unexplained"] == 0, (name, [each for each in audit["occurrences"] if not each["verdict"]])
    assert sum(audit["verdicts"].values()) == len(owed), name
    fired = {id_of(name, datetime.fromisoformat(each["nominal_at"])) for each in _of(audit, "fired")}
    tasks = {each.id for each in seen.delivered[name]}
    known = {id_of(name, at) for at in owed}
    assert tasks & known <= fired, (name, "a task that audit does not know as fired", sorted(tasks & known - fired))
    if name not in {"cancel-other", "terminate-other"}:  # these may be taken back before a worker has them
        assert fired <= tasks, (name, "fired, and no worker saw it", sorted(fired - tasks))
    seqs = [(each.id, each.seq) for each in seen.delivered[name]]
    assert len({seq for _, seq in seqs}) == len({id_ for id_, _ in seqs}), (name, "one occurrence as two tasks")


def _of(audit: Mapping[str, Any], verdict: str) -> list[dict[str, Any]]:
    return [each for each in audit["occurrences"] if each["verdict"] == verdict]


def _late(audit: Mapping[str, Any], seen: Seen, *, from_s: float = 1) -> list[dict[str, Any]]:
    """What was due while nobody was there (from `from_s` into it), and is certainly too late when somebody is."""
    found = [(datetime.fromisoformat(each["nominal_at"]), each) for each in audit["occurrences"]]
    return [each for at, each in found if seen.down + timedelta(seconds=from_s) < at < seen.up - AFTER - EVERY]


def _check_modes(audits: Mapping[str, Mapping[str, Any]], seen: Seen) -> None:
    """What each mode makes of the same outage."""
    verdicts = {name: [each["verdict"] for each in _late(audit, seen)] for name, audit in audits.items()}
    reasons = {name: {each["reason"] for each in _late(audit, seen)} for name, audit in audits.items()}
    assert set(verdicts["none"]) == {"missed"}
    assert reasons["none"] == {"catch_up"}
    assert set(verdicts["latest"]) == {"missed"}  # the newest late one lies at the very end, beyond `_late`
    first = [each["verdict"] for each in _late(audits["earliest"], seen, from_s=-1)]
    assert "fired" in first[:2]  # the oldest late one, unless it was dispatched just before the outage
    assert "fired" not in first[2:]
    assert set(verdicts["all"]) == {"fired"}
    assert set(verdicts["jittered"]) == {"fired"}
    assert verdicts["capped"].count("fired") in (2, 3)  # of the three one may have been due just before the outage
    assert verdicts["capped"][-1] == "missed"
    assert "cap" in reasons["capped"]
    assert verdicts["windowed"][0] == "missed"
    assert verdicts["windowed"][-1] == "fired"
    assert "window" in reasons["windowed"]
    newest = max(datetime.fromisoformat(each["nominal_at"]) for each in _of(audits["latest"], "missed"))
    next_ones = [each for each in audits["latest"]["occurrences"] if each["nominal_at"] > _text(newest)][:2]
    assert "fired" in {each["verdict"] for each in next_ones}  # what came due while all was decided is the make-up
    assert {each["verdict"] for each in next_ones} <= {"fired", "skipped"}


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
