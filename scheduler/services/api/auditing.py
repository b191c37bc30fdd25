"""Use case of the audit: what became of every nominal time of a window."""

from __future__ import annotations

from scheduler.core.auditing import Judged, Tally
from scheduler.core.errors import InvalidArgument
from scheduler.core.previewing import fire_of
from scheduler.core.triggers import FIRST, LAST
from scheduler.services.api.endpoint import answers
from scheduler.services.api.paging import BYTES_MAX
from scheduler.services.auditing import Auditor
from scheduler.wire import api
from scheduler.wire.ids import check_schedule_id
from scheduler.wire.instants import format_instant, parse_instant, parse_optional

ITEM_BYTES = len('{"nominal_at":"2026-11-21T08:00:00.000Z","verdict":"","reason":null,"execution_id":null},')
HEAD_BYTES = 1024


class Audits:
    """Answers `schedule.audit`."""

    def __init__(self, auditor: Auditor, *, bytes_max: int = BYTES_MAX) -> None:
        self._auditor, self._bytes_max = auditor, bytes_max

    @answers("schedule.audit", api.AuditSchedule)
    async def audit(self, request: api.AuditSchedule) -> api.AuditReply:
        """Raises NotFound, InvalidArgument (`since`, `until`), Unavailable."""
        schedule_id = check_schedule_id(request.id)
        since, until = parse_instant(request.since, field="since"), parse_optional(request.until, field="until")
        if not FIRST <= since <= LAST or (until is not None and not since < until <= LAST):
            raise InvalidArgument("until must be after since, and both between 1970 and 2199", field="until")
        return self._reply(await self._auditor.audit(schedule_id, since, until))

    def _reply(self, found: list[Judged]) -> api.AuditReply:
        tally, shown, room = Tally(), list[api.Verdict](), self._bytes_max - HEAD_BYTES
        for each in found:
            tally.add(each)
            room -= ITEM_BYTES + sum(len(text or "") for text in (each.verdict, each.reason, each.execution_id))
            if room >= 0:
                shown.append(_verdict(each))
        return api.AuditReply(
            expected=tally.expected,
            verdicts=tally.verdicts,
            unexplained=tally.unexplained,
            occurrences=shown,
            truncated=len(shown) < len(found),
        )


def past_fire(each: Judged) -> api.Past:
    """An occurrence that was expected, as a preview tells it, and what became of it."""
    known = each.in_force
    fire = None if known is None else fire_of(known.definition.schedule, known.trigger, each.nominal_at)
    return api.Past(
        nominal_at=format_instant(each.nominal_at),
        fire_at=format_instant(each.fire_at),
        local=format_instant(each.nominal_at) if fire is None else fire.local,
        notes=[] if fire is None else list(fire.notes),
        verdict=each.verdict,
        reason=each.reason,
        execution_id=each.execution_id,
    )


def _verdict(each: Judged) -> api.Verdict:
    return api.Verdict(
        nominal_at=format_instant(each.nominal_at),
        verdict=each.verdict,
        reason=each.reason,
        execution_id=each.execution_id,
    )
