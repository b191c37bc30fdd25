"""A replica that is killed between a record and its event: whoever listens is told all the same, under one id."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import defaultdict
from pathlib import Path

from scheduler.client import Client, Event
from tests.acceptance.harness import Site, eventually
from tests.faults.test_webhooks import configured, ids_of
from tests.integration.receivers import OK, Receiver

KILLED_AT = 4  # the end over which it dies


async def test_an_end_is_told_though_its_replica_was_killed_over_it(site: Site, tmp_path: Path) -> None:
    """A listener, a webhook and the past tell every end on record, each under one id; the killed one's, too."""
    async with Receiver(lambda _: OK) as receiver, Client.connect(site.url) as client:
        hook = configured(tmp_path, {"name": "ops", "url": receiver.url, "events": ["finished"]})
        [doomed] = await site.replicas("doomed", SCHEDD_TEST_STOP=f"settle.recorded:KILL:{KILLED_AT}", **hook)
        heard: dict[str, set[str]] = defaultdict(set)

        @client.on("finished")
        def hears(event: Event) -> None:
            heard[event.data["execution_id"]].add(event.id)

        await client.listening()
        site.worker("q")
        await site.put("s", {"every": "1s", "queue": "q", "type": "t"})
        assert await doomed.ended(40) == -signal.SIGKILL
        ended = {id_ for id_, each in (await site.records()).items() if each["finished_at"]}
        await asyncio.sleep(0.5)
        untold = ended - heard.keys()
        assert untold, "it died, and every end was told"
        [successor] = await site.replicas("next", **hook)

        async def all_told() -> bool:
            records = {id_ for id_, each in (await site.records()).items() if each["finished_at"]}
            return len(records) > len(ended) + 3 and untold <= heard.keys() and untold <= told_by(receiver).keys()

        await eventually(all_told, within_s=60, what="every end told")
        await site.delete("s")
        await asyncio.sleep(3)
        records = {id_ for id_, each in (await site.records()).items() if each["finished_at"]}
        assert dict(heard) == {id_: {f"finished-{id_}-0"} for id_ in records}
        assert told_by(receiver).keys() == records
        assert all(len(ids) == 1 for ids in told_by(receiver).values())
        past = [event.id async for event in client.events("finished")]
        assert sorted(past) == sorted(f"finished-{id_}-0" for id_ in records)
        assert (await successor.metrics())['schedd_reconciler_repairs_total{kind="events"}'] >= len(untold)


def told_by(receiver: Receiver) -> dict[str, set[str]]:
    assert all(json.loads(each.body)["source"] == "/schedd/schedd" for each in receiver.received)
    return ids_of(receiver.received, "finished")
