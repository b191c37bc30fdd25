"""From an endpoint and a body to an answer: decode, carry out, encode; every failure becomes one sentence.

Nothing of the inside reaches the caller: what nobody foresaw is `internal`, and its traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct

from scheduler.core.errors import Internal, NotFound, ScheddError, Unsure
from scheduler.ports.api import Answer
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Events
from scheduler.ports.stores import Bucket
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Timeline
from scheduler.services.api.auditing import Audits
from scheduler.services.api.backfills import BackfillRuns
from scheduler.services.api.calendars import Calendars
from scheduler.services.api.cancelling import Cancellations
from scheduler.services.api.executions import Executions
from scheduler.services.api.schedules import Schedules
from scheduler.services.api.status import Discover, Status
from scheduler.services.api.triggering import ManualRuns
from scheduler.services.applied import AppliedWatermark
from scheduler.services.auditing import Auditor
from scheduler.services.backfills import Backfills
from scheduler.services.cancelling import Canceller
from scheduler.services.executions import ExecutionIndex
from scheduler.services.launch import Launcher
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.watching import Census
from scheduler.services.watermarks import WatermarkCopy
from scheduler.wire import api
from scheduler.wire.schedule import ScheduleLimits

log = logging.getLogger(__name__)
ANSWER_S = 12.0  # writes wait 5 s until they are applied, and a store may take 5 s to answer
Handle = Callable[[Any], Awaitable[Any]]


class Endpoint(Struct, frozen=True):
    """The type of the request, and who answers it."""

    request: type[api.Request]
    handle: Handle


class Api:
    """Implements `ports.api.Api` over the use cases. `discover_replicas` is the transport's to set."""

    def __init__(
        self,
        *,
        schedules: ScheduleCache,
        bucket: Bucket,
        control: Bucket,
        timeline: Timeline,
        rows: StatusRows,
        records: Records,
        index: ExecutionIndex,
        launcher: Launcher,
        canceller: Canceller,
        applied: AppliedWatermark,
        events: Events,
        clock: Clock,
        telemetry: Telemetry,
        limits: ScheduleLimits,
        ack_wait_s: float,
        claim_floor_s: float,
        server: str,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._telemetry, self._answer_s = telemetry, answer_s
        self.discover_replicas: Discover | None = None
        runs = ManualRuns(launcher=launcher, records=records, clock=clock, claim_floor_s=claim_floor_s)
        auditor = Auditor(
            schedules=schedules,
            timeline=timeline,
            events=events,
            rows=rows,
            records=records,
            first_start=WatermarkCopy(control, clock),
            clock=clock,
            claim_floor_s=claim_floor_s,
        )
        self.audits = Audits(auditor)
        self.schedules = Schedules(
            bucket=bucket,
            cache=schedules,
            rows=rows,
            applied=applied,
            runs=runs,
            clock=clock,
            limits=limits,
            auditor=auditor,
            ack_wait_s=ack_wait_s,
        )
        self.backfills = BackfillRuns(backfills=Backfills(control, telemetry), cache=schedules, clock=clock)
        self.executions = Executions(bucket=records.bucket, index=index, clock=clock)
        self.cancellations = Cancellations(canceller=canceller, executions=self.executions, clock=clock)
        self.status = Status(
            control=control,
            timeline=timeline,
            schedules=schedules,
            clock=clock,
            census=Census(schedules, clock, telemetry),
            server=server,
            discover=self._discover,
        )
        self.calendars = None
        if schedules.calendars is not None:
            self.calendars = Calendars(
                calendars=schedules.calendars, schedules=schedules, applied=applied.of_calendars(), clock=clock
            )
        self._endpoints = endpoints_of(
            self.schedules,
            self.audits,
            self.backfills,
            self.executions,
            self.cancellations,
            self.status,
            self.calendars,
        )

    @property
    def endpoints(self) -> Sequence[str]:
        return list(self._endpoints)

    async def answer(self, endpoint: str, body: bytes) -> Answer:
        """See `ports.api.Api.answer`."""
        try:
            answer = Answer(await self._carry_out(self._endpoints.get(endpoint), endpoint, body))
        except ScheddError as problem:
            return self.refuse(endpoint, problem)
        self._count(endpoint, "ok")
        return answer

    def refuse(self, endpoint: str, error: ScheddError) -> Answer:
        """See `ports.api.Api.refuse`."""
        self._count(endpoint, error.code)
        return Answer(api.encode_error(error), error)

    def unsent(self, endpoint: str) -> None:
        """See `ports.api.Api.unsent`."""
        self._telemetry.dropped(what="api_reply", reason="disconnected")

    def _count(self, endpoint: str, code: str) -> None:
        known = endpoint if endpoint in self._endpoints else "_unknown"
        self._telemetry.api_request(endpoint=known, code=code)

    async def _discover(self) -> Sequence[api.ReplicaStatus]:
        return [] if self.discover_replicas is None else await self.discover_replicas()

    async def _carry_out(self, known: Endpoint | None, endpoint: str, body: bytes) -> bytes:
        if known is None:
            raise NotFound(f"there is no endpoint {endpoint!r:.80}")
        request = api.decode_request(body, known.request)
        try:
            async with asyncio.timeout(self._answer_s):
                return api.encode(await known.handle(request))
        except ScheddError:
            raise
        except TimeoutError:
            raise Unsure(f"{endpoint} took longer than {self._answer_s:g} s: look before repeating it") from None
        except Exception:
            log.exception("an API request broke", extra={"event": "api_broke", "endpoint": endpoint})
            raise Internal(f"{endpoint} failed inside the daemon; its log says more") from None


def endpoints_of(
    schedules: Schedules,
    audits: Audits,
    backfills: BackfillRuns,
    executions: Executions,
    cancellations: Cancellations,
    status: Status,
    calendars: Calendars | None,
) -> dict[str, Endpoint]:
    """Every endpoint of this version (contract, part 7)."""
    return {
        **({} if calendars is None else calendar_endpoints(calendars)),
        "schedule.put": Endpoint(api.PutSchedule, schedules.put),
        "schedule.get": Endpoint(api.Id, schedules.get),
        "schedule.list": Endpoint(api.ListSchedules, schedules.list),
        "schedule.delete": Endpoint(api.Id, schedules.delete),
        "schedule.pause": Endpoint(api.PauseSchedule, schedules.pause),
        "schedule.resume": Endpoint(api.Id, schedules.resume),
        "schedule.trigger": Endpoint(api.TriggerSchedule, schedules.trigger),
        "schedule.preview": Endpoint(api.PreviewSchedule, schedules.preview),
        "schedule.audit": Endpoint(api.AuditSchedule, audits.audit),
        "schedule.backfill": Endpoint(api.BackfillSchedule, backfills.backfill),
        "backfill.get": Endpoint(api.Id, backfills.get),
        "backfill.list": Endpoint(api.ListBackfills, backfills.list),
        "backfill.cancel": Endpoint(api.Id, backfills.cancel),
        "execution.list": Endpoint(api.ListExecutions, executions.list),
        "execution.get": Endpoint(api.Id, executions.get),
        "execution.cancel": Endpoint(api.CancelExecution, cancellations.cancel),
        "status.get": Endpoint(api.Nothing, status.get),
    }


def calendar_endpoints(calendars: Calendars) -> dict[str, Endpoint]:
    return {
        "calendar.put": Endpoint(api.PutCalendar, calendars.put),
        "calendar.get": Endpoint(api.Id, calendars.get),
        "calendar.list": Endpoint(api.ListCalendars, calendars.list),
        "calendar.delete": Endpoint(api.Id, calendars.delete),
    }
