"""What happened in a history: every trouble, every end, and every mechanism that had to act."""

from __future__ import annotations

from collections import Counter

from scheduler.core.model.execution import State
from tests.unit.simulation.history import History


def happenings(history: History) -> Counter[str]:
    """How often each; what never happens is not in it."""
    journal, found = history.site.journal, Counter[str](history.site.trouble.happened)
    last = journal.last().values()
    found.update(f"{each.state.value} {each.reason or ''}".strip() for each in last)
    found.update(f"range {told.verdict} {told.reason}" for ranges in journal.ranges.values() for told in ranges)
    for replica in history.site.replicas:
        found.update(f"counted {call.name}" for call in replica.telemetry.calls)
        found.update(f"repaired {call['kind']}" for call in replica.telemetry.of("repaired"))
    found["take-over"] = max(0, len(journal.epochs) - 1)
    found["click answered"] = sum(len(set(answers)) for answers in history.client.answers.values())
    found["taken up again"] = sum(entry.note == "taken up again" for each in last for entry in each.history)
    found["promoted"] = sum(each.promoted_at is not None for each in last)
    found["another attempt"] = sum(entry.state is State.RETRYING for each in last for entry in each.history)
    found["another drive"] = sum(each.drive > 0 for each in last)
    return +found
