"""Manual runs: a schedule is run now, through the same launch as every other occurrence.

The nominal time is the server's time of the request. A nonce makes a repeat harmless: it first claims the key
`_nonce.<schedule>.<nonce>`, whose value is the id of the execution, so whoever repeats it, on whatever replica, comes
to the same execution and carries it on from where it stopped (mechanisms.md, part 7). Manual runs ignore a pause and
obey the overlap policy unless the request names another one.
"""

from __future__ import annotations

import secrets

from msgspec import UNSET, Raw, structs

from scheduler.core.dispatching import InForce, claim
from scheduler.core.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    PayloadTooLarge,
    ScheddError,
    Unavailable,
    Unsure,
)
from scheduler.core.model.execution import Execution, Kind, State
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import Definition, Overlap
from scheduler.ports.clock import Clock
from scheduler.services.api.grouping import LaunchGroups
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate
from scheduler.services.records import Records
from scheduler.wire import api
from scheduler.wire.ids import check_nonce, manual_execution_id, parse_execution_id
from scheduler.wire.names import nonce_key
from scheduler.wire.nesting import DEPTH_MAX, is_too_deep

NO_EPOCH = 0  # no leader planned a manual run
ROUNDS_MAX = 4
LAUNCH_S = 4.0
LOOK_S = 0.05  # doubled each time


class ManualRuns:
    """Makes executions out of requests."""

    def __init__(self, *, launcher: Launcher, records: Records, clock: Clock, claim_floor_s: float) -> None:
        self._groups, self._records, self._clock = LaunchGroups(launcher), records, clock
        self._claim_floor_s = claim_floor_s

    async def trigger(
        self, in_force: InForce, request: api.TriggerSchedule, payload_bytes_max: int
    ) -> api.TriggerReply:
        """Raises InvalidArgument, PayloadTooLarge, Unavailable, Unsure (repeat it with the same nonce)."""
        overlap = read_overlap(request.overlap)
        definition = _with_payload(in_force.definition, request, payload_bytes_max)
        execution_id = await self._execution_id(definition.id, request.nonce)
        nominal_at = parse_execution_id(execution_id).nominal_at
        stored = await self._records.get(execution_id) if request.nonce is not None else None
        if stored is not None and stored.execution.state is not State.CLAIMED:
            return api.TriggerReply(execution_id=execution_id, state=stored.execution.state.value)
        occurrence = Occurrence(definition.id, nominal_at, nominal_at, definition.generation)
        now = self._clock.now()
        execution = claim(
            definition, execution_id, occurrence, epoch=NO_EPOCH, now=now, kind=Kind.MANUAL, overlap=overlap
        )
        candidate = Candidate(execution, definition.schedule, in_force.trigger)
        launched = await self._launch(candidate)
        return api.TriggerReply(execution_id=execution_id, state=launched.state.value)

    async def _launch(self, candidate: Candidate) -> Execution:
        """Launch it, and again while somebody who sent the same nonce at the same time is launching it too."""
        until_s = self._clock.boottime_s() + LAUNCH_S
        pause_s = LOOK_S
        while True:
            result = await self._groups.launch(candidate)
            if not isinstance(result, ScheddError):
                return result
            if not isinstance(result, Unsure) or self._clock.boottime_s() + pause_s >= until_s:
                raise result
            await self._clock.sleep(pause_s)
            pause_s *= 2

    async def _execution_id(self, schedule_id: str, nonce: str | None) -> str:
        """A new id, or the one that an earlier request with this nonce made."""
        now = self._clock.now()
        if nonce is None:
            return manual_execution_id(schedule_id, now, secrets.token_hex(8))
        key = nonce_key(schedule_id, check_nonce(nonce))
        made = manual_execution_id(schedule_id, now, nonce)
        expect = 0
        for _ in range(ROUNDS_MAX):
            try:
                await self._records.bucket.put(key, made.encode(), expect=expect, ttl_s=int(self._claim_floor_s))
                return made
            except Conflict:
                entry = await self._records.bucket.get(key)
            if entry is not None and not entry.deleted:
                return _known_id(entry.value, schedule_id, nonce)
            expect = 0 if entry is None else entry.revision  # the marker that an expired nonce left
        raise Unavailable("this nonce keeps changing: try again")


def _known_id(value: bytes, schedule_id: str, nonce: str) -> str:
    """The execution id in a nonce's key, which only a daemon writes."""
    try:
        key = parse_execution_id(value.decode())
    except (UnicodeDecodeError, InvalidArgument):
        raise Internal(f"the key of nonce {nonce!r} holds no execution id") from None
    return manual_execution_id(schedule_id, key.nominal_at, nonce)


def read_overlap(given: str | None) -> Overlap | None:
    """The policy of a request. Raises InvalidArgument."""
    if given is None:
        return None
    known = [each.value for each in Overlap]
    if given not in known:
        raise InvalidArgument(f"overlap {given!r:.40} is no policy: use {', '.join(known)}", field="overlap")
    return Overlap(given)


def _with_payload(definition: Definition, request: api.TriggerSchedule, bytes_max: int) -> Definition:
    """The definition, with the payload of the request in place of its own if there is one."""
    if request.payload is UNSET:
        return definition
    payload = checked_payload(request.payload, bytes_max)
    schedule = structs.replace(definition.schedule, payload=payload, payload_is_json=True)
    return structs.replace(definition, schedule=schedule)


def checked_payload(given: Raw, bytes_max: int) -> bytes:
    """The payload of a request. Raises PayloadTooLarge, InvalidArgument."""
    payload = bytes(given)
    if len(payload) > bytes_max:
        message = f"the payload has {len(payload)} bytes, more than {bytes_max}: pass a reference instead"
        raise PayloadTooLarge(message, field="payload")
    if is_too_deep(payload):
        raise InvalidArgument(f"the payload is nested too deeply: at most {DEPTH_MAX} levels", field="payload")
    return payload
