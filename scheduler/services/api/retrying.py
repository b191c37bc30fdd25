"""The use case `execution.retry`: an ended execution is carried out again, under its id (`core.redriving`).

The steps are those of every dispatch, and a crash between any two is rolled forward by the reconciler:

    1  what is left of its last task is removed from the queue; the reports tell how far attempts have been counted.
    2  the end that is taken back is told, in case that it was not.
    3  record -> `claimed`, in its next drive, written over the record as it was read: of many who ask one wins, and the
       write, like that of any record that is not terminal, ends the time to live that was running.
    4  slot, pair, queued: `services.launch`.

Exactly once per request: who says which drive he saw (`expected_drive`, as the client does) may ask as often as he
likes, and is answered with the record once there is a later one. Without it a second request finds an execution that
has not ended, and is a Conflict; or one that has ended again, and is a retry of that.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import UNSET, Raw

from scheduler.core.errors import Conflict, InvalidArgument, NotFound, ScheddError, Unavailable, Unsure
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.core.overlap import BUFFER_MAX, terms_of
from scheduler.core.redriving import overlap_of, redrive_of, refusal
from scheduler.core.tracking import Report
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Events, Reports, TaskQueues
from scheduler.services.announcing import ended_fact
from scheduler.services.api.endpoint import answers
from scheduler.services.api.grouping import LaunchGroups
from scheduler.services.api.triggering import checked_payload
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate, Result
from scheduler.services.promotion import candidate_of
from scheduler.services.records import Records, Stored
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.tracker.reading import read_report
from scheduler.wire import api
from scheduler.wire.ids import parse_execution_id
from scheduler.wire.record import encode_execution

ROUNDS_MAX = 6
UNTOLD_MAX = timedelta(seconds=100)  # less than the window of the server in which a repeat is stored once


class Retries:
    """Opens new drives and launches them."""

    def __init__(
        self,
        *,
        records: Records,
        rows: StatusRows,
        schedules: ScheduleCache,
        reports: Reports,
        queues: TaskQueues,
        launcher: Launcher,
        clock: Clock,
        payload_bytes_max: int,
        events: Events,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._records, self._rows, self._schedules = records, rows, schedules
        self._reports, self._queues = reports, queues
        self._launcher, self._groups = launcher, LaunchGroups(launcher)
        self._clock, self._payload_bytes_max = clock, payload_bytes_max
        self._events, self._checkpoints = events, checkpoints or NoCheckpoints()

    @answers("execution.retry", api.RetryExecution)
    async def retry(self, request: api.RetryExecution) -> Raw:
        """The record as it is then: `queued`, `waiting` for a slot, or `claimed` where the rest of its way is left to
        the reconciler.

        Raises InvalidArgument, PayloadTooLarge, NotFound, Conflict (it has not ended, was never queued, finds no room),
        Unsure, Unavailable.
        """
        payload = None if request.payload is UNSET else checked_payload(request.payload, self._payload_bytes_max)
        await self._schedules.fresh()
        for _ in range(ROUNDS_MAX):
            stored = await self._stored(request.id)
            if request.expected_drive is not None and stored.execution.drive > request.expected_drive:
                return Raw(encode_execution(stored.execution))
            await self._check(stored.execution, request.expected_drive)
            opened = await self._open(stored, payload)
            if isinstance(opened, Stored):
                await self._checkpoints.reached("retry.opened")
                return Raw(encode_execution(await self._launch(opened)))
            if not isinstance(opened, Conflict):
                raise opened
        raise Unavailable(f"the record of {request.id} keeps changing: try again")

    async def _stored(self, execution_id: str) -> Stored:
        try:
            parse_execution_id(execution_id)
        except InvalidArgument:
            raise NotFound(f"there is no execution {execution_id!r:.200}", field="id") from None
        stored = await self._records.get(execution_id)
        if stored is None:
            raise NotFound(f"there is no execution {execution_id!r} (any more)", field="id")
        return stored

    # --- whether

    async def _check(self, execution: Execution, expected_drive: int | None) -> None:
        if expected_drive not in (None, execution.drive):
            raise Conflict(
                f"execution {execution.id!r} is in drive {execution.drive}, not {expected_drive}",
                field="expected_drive",
            )
        reason = refusal(execution)
        if reason is not None:
            raise Conflict(reason, field="id")
        if self._launcher.is_full(execution.queue):
            raise Conflict(f"queue {execution.queue!r} is full: retry {execution.id} when it has been worked off")
        await self._check_room(execution)

    async def _check_room(self, execution: Execution) -> None:
        """Before anything is written: a record that has failed is not to become one that was skipped."""
        schedule = candidate_of(self._schedules, execution).schedule
        if overlap_of(execution, schedule) is Overlap.ALLOW and not terms_of(schedule, Overlap.ALLOW).takes_slot:
            return
        row = await self._rows.get(execution.schedule)
        if len(row.waiting) >= BUFFER_MAX:
            waiting = f"{len(row.waiting)} runs of schedule {execution.schedule!r} wait for their turn already"
            raise Conflict(f"{waiting}: retry {execution.id} when some of them are over")

    # --- how

    async def _open(self, stored: Stored, payload: bytes | None) -> Stored | ScheddError:
        execution = stored.execution
        if execution.task_seq is not None:  # nobody is to start it from its old task any more
            await self._queues.remove(execution.task_seq)
        messages = await self._reports.all_of(execution.queue, execution.id)
        reports: list[Report] = [report for each in messages if (report := read_report(each)) is not None]
        schedule = candidate_of(self._schedules, execution).schedule
        await self._queues.ensure(execution.queue)  # somebody may have deleted it since
        await self._tell_end(execution)
        event = redrive_of(execution, reports, schedule, self._clock.now(), payload)
        (opened,) = await self._records.move_many([(stored, event)])
        return opened

    async def _tell_end(self, execution: Execution) -> None:
        """Whoever ended it may have died over telling it, and once the record goes on nobody else knows what to tell.
        Soon after the end only: until then the reconciler has seen to it."""
        if execution.finished_at is not None and self._clock.now() - execution.finished_at < UNTOLD_MAX:
            await self._events.store([ended_fact(execution)])

    async def _launch(self, opened: Stored) -> Execution:
        """What does not work now is rolled forward by the reconciler: the record says what is to come."""
        found = candidate_of(self._schedules, opened.execution)
        candidate = Candidate(opened.execution, found.schedule, found.trigger, revision=opened.revision)
        result: Result = await self._groups.launch(candidate)
        if isinstance(result, ScheddError):
            stored = await self._records.get(opened.execution.id)
            if stored is None:
                raise Unsure(f"retried, and the record of {opened.execution.id} is gone")
            result = stored.execution
        if result.state is State.SKIPPED:  # the last place in the buffer went to somebody else
            raise Conflict(f"execution {result.id!r} found no room ({result.reason}): retry it again later")
        return result
