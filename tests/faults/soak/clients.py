"""Clients at work while everything breaks. Each operation goes into the history as its client saw it: sent, answered,
done, refused, or unknown. What is unknown is not guessed at: later the client says again what shall hold.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from nats.errors import Error as NatsError

from tests.acceptance.harness import Site, utc_now
from tests.faults.soak import load
from tests.faults.soak.history import Operation, Outcome, Window

ANSWER_S = 6.0
LOOK_AFTER_S = 15.0
"""Nobody is stopped for so long: what is sent and unanswered has come to pass by then, or never will."""
UNSURE = {"unavailable", "internal"}
LONGEST_S = 40.0
"""A one-shot is left alone for so long after its instant: longer than any outage delays it."""


class Clients:
    """`run` until it is cancelled; `finish` then takes back what is left. `operations` is the history."""

    def __init__(self, site: Site, dice: random.Random, window: Window) -> None:
        self._site, self._dice, self._window = site, dice, window
        self._ones: dict[str, datetime] = {}
        self.operations: list[Operation] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._edit())
            group.create_task(self._trigger())
            group.create_task(self._park_and_cancel())
            group.create_task(self._one_shots())
            for id_ in load.moody():
                group.create_task(self._turn(id_))

    # --- what clients do

    async def _edit(self) -> None:
        """Payloads, by plain writes to the bucket; the grid is the same before and after."""
        turn = 0
        while True:
            await asyncio.sleep(self._dice.uniform(0.3, 1.2))
            id_, turn = load.edited()[turn % load.EDITED], turn + 1
            await self._put("edit", id_, load.ticking(self._window, kind="edited", payload=turn))

    async def _turn(self, id_: str) -> None:
        """Pause, resume, delete, put again, through the API; what is unknown is looked at before anything else."""
        while True:
            await asyncio.sleep(self._dice.uniform(4, 15))
            verb = self._dice.choice(("pause", "delete"))
            if await self._ask(f"schedule.{verb}", id_, fires=False):
                await asyncio.sleep(self._dice.uniform(2, 8))
                back = "resume" if verb == "pause" else "put"
                await self._ask(f"schedule.{back}", id_, self._body(back, id_), fires=True)
            if self.operations_of(id_)[-1].outcome is not Outcome.DONE:
                await asyncio.sleep(LOOK_AFTER_S)
                await self._until_it_fires(id_)

    async def _until_it_fires(self, id_: str) -> None:
        """Whatever came of it: put, and that until it is answered."""
        while not await self._ask("schedule.put", id_, self._body("put", id_, paused=False), fires=True):
            await asyncio.sleep(LOOK_AFTER_S)

    def _body(self, verb: str, id_: str, **more: Any) -> dict[str, Any]:
        return {"schedule": load.ticking(self._window, kind="moody", **more)} if verb == "put" else {}

    async def _trigger(self) -> None:
        """With a nonce; what is not answered is asked again with the same one, twice."""
        count = 0
        while True:
            await asyncio.sleep(self._dice.uniform(1, 3))
            count += 1
            for _ in range(3):
                if await self._ask("schedule.trigger", "by-hand", {"nonce": f"n{count}"}, nonce=f"n{count}"):
                    break

    async def _park_and_cancel(self) -> None:
        """Every other one is cancelled; nobody works on the queue, so a cancel that is acknowledged has won."""
        count = 0
        while True:
            await asyncio.sleep(self._dice.uniform(3, 8))
            count += 1
            done = await self._ask("schedule.trigger", "parked", {"nonce": f"p{count}"}, nonce=f"p{count}")
            if done and count % 2:
                await self._ask("execution.cancel", str(done["execution_id"]), execution=str(done["execution_id"]))

    async def _one_shots(self) -> None:
        """Put, fired, deleted when long over."""
        count = 0
        while True:
            await asyncio.sleep(self._dice.uniform(2, 5))
            count += 1
            id_ = f"once-{count:05d}"
            due = (utc_now() + timedelta(seconds=self._dice.uniform(2, 6))).replace(microsecond=0)
            self._ones[id_] = due
            await self._put("once", id_, load.once(due), due=due)
            await self._delete_spent()

    async def _delete_spent(self) -> None:
        spent = [id_ for id_, due in self._ones.items() if (utc_now() - due).total_seconds() > LONGEST_S]
        for id_ in spent:
            if await self._ask("schedule.delete", id_):
                del self._ones[id_]

    async def finish(self) -> None:
        """Put back what is deleted, delete all one-shots; the caller has waited until they are over."""
        for id_ in load.moody():
            await self._until_it_fires(id_)
        for id_ in list(self._ones):
            for _ in range(10):
                if await self._ask("schedule.delete", id_):
                    break
                await asyncio.sleep(1)

    # --- how

    def operations_of(self, schedule: str) -> list[Operation]:
        return [each for each in self.operations if each.schedule == schedule]

    async def _put(self, kind: str, id_: str, definition: Mapping[str, Any], *, due: datetime | None = None) -> None:
        sent, outcome = utc_now(), Outcome.UNKNOWN
        try:
            await self._site.js.publish(f"$KV.schedd-schedules.{id_}", json.dumps(definition).encode())
            outcome = Outcome.DONE
        except (NatsError, TimeoutError, OSError):
            return
        finally:  # a client that is sent home in the middle of it has asked all the same
            self._keep(kind, id_, sent, outcome, due=due)

    async def _ask(
        self,
        endpoint: str,
        id_: str,
        body: Mapping[str, Any] | None = None,
        *,
        execution: str | None = None,
        **told: Any,
    ) -> dict[str, Any] | None:
        """A request to schedd; what it answered, if it did what was asked."""
        sent, outcome = utc_now(), Outcome.UNKNOWN
        reply: dict[str, Any] = {}
        try:
            text = json.dumps({"id": id_, **(body or {})}).encode()
            answer = await self._site.client.request(f"schedd.api.v1.{endpoint}", text, timeout=ANSWER_S)
            reply = json.loads(answer.data)
            outcome = _outcome(reply, of_cancel=endpoint == "execution.cancel")
        except (NatsError, TimeoutError, OSError):
            return None
        finally:
            told["execution"] = execution or reply.get("execution_id")
            self._keep(endpoint, id_ if execution is None else "parked", sent, outcome, **told)
        return reply if outcome is Outcome.DONE else None

    def _keep(self, kind: str, id_: str, sent: datetime, outcome: Outcome, **told: Any) -> None:
        operation = Operation(kind=kind, schedule=id_, sent=sent, answered=utc_now(), outcome=outcome, **told)
        self.operations.append(operation)


def _outcome(reply: Mapping[str, Any], *, of_cancel: bool) -> Outcome:
    """By the code of an error. A cancel is done when the record says so; one only asked for may come too late."""
    code = reply.get("code")
    if code is None:
        return Outcome.UNKNOWN if of_cancel and reply.get("state") != "cancelled" else Outcome.DONE
    return Outcome.UNKNOWN if code in UNSURE else Outcome.REFUSED
