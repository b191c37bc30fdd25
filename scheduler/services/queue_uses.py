"""Which schedules name which queue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from scheduler.services.schedules import Known


class _Named(Struct):
    queue: str = ""


def queue_of(known: Known) -> str | None:
    """The queue that a stored definition names, also while it is invalid for another reason."""
    if known.in_force is not None:
        return known.in_force.definition.schedule.queue
    if known.deleted:
        return None
    try:
        return msgspec.json.decode(known.raw, type=_Named).queue or None
    except (ValueError, RecursionError):
        return None


def users_by_queue(schedules: Iterable[Known]) -> dict[str, list[str]]:
    """Ids of the schedules that name each queue, sorted."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for known in schedules:
        queue = queue_of(known)
        if queue is not None:
            found[queue].append(known.id)
    return {queue: sorted(ids) for queue, ids in found.items()}
