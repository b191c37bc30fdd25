"""Records and audits of a soak, taken while they last: a record lives for its retention only."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from nats.errors import Error as NatsError

from tests.acceptance.harness import TERMINAL, Site, utc_now
from tests.faults.soak.history import Audited, Window
from tests.faults.storm.asking import states

EVERY_S = 12.0
PART = timedelta(seconds=20)
BEHIND = timedelta(seconds=35)
"""An audit looks at what is so old: everything is decided by then, and its record still there."""
ANSWER_S = 10.0


class Watcher:
    """`run` until it is cancelled, then `finish`."""

    def __init__(self, site: Site, schedules: list[str], window: Window) -> None:
        self._site, self._schedules = site, schedules
        self._audited: dict[str, datetime] = dict.fromkeys(schedules, window.began)
        self._window = window
        self.records: dict[str, dict[str, object]] = {}
        self.audits: list[Audited] = []

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            with contextlib.suppress(NatsError, TimeoutError, OSError, KeyError):  # NATS is away: next time
                await self.read()
            await self._audit_parts()

    async def finish(self) -> None:
        """What is left, once everything has settled."""
        await self.read_once_more()
        for _ in range(5):
            await self._audit_parts(behind=timedelta(seconds=5))
            if all(at >= self._window.ended for at in self._audited.values()):
                return
            await asyncio.sleep(1)

    async def read(self) -> None:
        """A terminal state is kept over what comes after it: nothing does."""
        for id_, record in (await states(self._site)).items():
            if self.records.get(id_, {}).get("state") not in TERMINAL:
                self.records[id_] = record

    async def read_once_more(self) -> None:
        """As `read`, and again where it fails: NATS may have been mended a moment ago."""
        for left in (4, 3, 2, 1, 0):
            try:
                await self.read()
            except (NatsError, TimeoutError, OSError, KeyError):
                if not left:
                    raise
                await asyncio.sleep(2)
            else:
                return

    def unsettled(self) -> list[str]:
        return [id_ for id_, record in self.records.items() if record["state"] not in TERMINAL]

    async def _audit_parts(self, behind: timedelta = BEHIND) -> None:
        """Each schedule's next part, if it is old enough."""
        until = min(self._window.ended, utc_now() - behind)
        for id_ in self._schedules:
            since = self._audited[id_]
            if until - since >= PART or (until == self._window.ended and since < until):
                answer = await self._audit(id_, since, until)
                if answer is not None:
                    self._audited[id_] = until
                    self.audits.append(answer)

    async def _audit(self, id_: str, since: datetime, until: datetime) -> Audited | None:
        """None: nobody answered, or said to come back."""
        body = {"id": id_, "since": since.isoformat(), "until": until.isoformat()}
        text = json.dumps(body).encode()
        try:
            reply = await self._site.client.request("schedd.api.v1.schedule.audit", text, timeout=ANSWER_S)
        except (NatsError, TimeoutError, OSError):
            return None
        return audited(id_, since, until, json.loads(reply.data))


def audited(id_: str, since: datetime, until: datetime, reply: Mapping[str, Any]) -> Audited | None:
    """What an answer says; one that explains nothing is a problem. None of a replica that is busy, and of a schedule
    that is deleted at the moment: later."""
    if reply.get("code") in {"unavailable", "not_found"}:
        return None
    if "code" in reply:
        return Audited(id_, since, until, 0, {}, 0, str(reply.get("message", reply["code"])))
    return Audited(id_, since, until, reply["expected"], reply["verdicts"], reply["unexplained"])
