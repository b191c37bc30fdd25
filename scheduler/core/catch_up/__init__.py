"""What becomes of occurrences that were not dispatched in time: one decision for every kind of outage. Pure.

An occurrence is late once its *fire time* (nominal + start_delay + jitter, or where it was moved to) has passed by more
than `catch_up.after`. The late nominal times of one schedule form a span, and are decided in one go, oldest first:

    in a pause             verdict paused: nobody wanted it, so it is not missed
    before the window      missed, `window`: fired longer ago than `catch_up.window`
    out of our knowledge   missed, `retention`: its record, if it fired, may be gone already (`Schedule.known_for`)
    mode latest            the newest one fires, if its successor is not due yet (else that one is the make-up);
                           the others are missed, `catch_up`
    mode earliest          the oldest one in the window fires, the others are missed, `catch_up`
    mode all               each fires, from the oldest in the window on, up to `max`; the others are missed, `cap`
    mode none              all are missed, `catch_up`

What already has a record is left out. The decision follows from the span and the instant at which it was fixed alone,
so that a successor who repeats it comes to the same.

A span can hold millions of nominal times: those that do not fire are only counted, and the functions that count are
generators that pause every `STEPS` nominal times (for the event loop's sake) and return their result.

Rooms: `lateness` what is late · `rows` a catch-up in its status row · `deciding` what becomes of a span · `counting`.
"""

from __future__ import annotations

from scheduler.core.catch_up.counting import (
    STEPS,
    Counting,
    counted,
    drained,
)
from scheduler.core.catch_up.deciding import (
    Decision,
    Range,
    as_of,
    catch_up,
    catching_up,
)
from scheduler.core.catch_up.lateness import (
    Span,
    is_late,
    late_after,
    missed_in_chain,
    newest_late,
)
from scheduler.core.catch_up.rows import (
    LISTED_MAX,
    answers_for,
    disowned,
    is_dealt_with,
    is_owed,
    owed_in,
    with_decided,
    with_late,
    with_late_span,
    with_span,
    without_disowned,
)

__all__ = [
    "LISTED_MAX",
    "STEPS",
    "Counting",
    "Decision",
    "Range",
    "Span",
    "answers_for",
    "as_of",
    "catch_up",
    "catching_up",
    "counted",
    "disowned",
    "drained",
    "is_dealt_with",
    "is_late",
    "is_owed",
    "late_after",
    "missed_in_chain",
    "newest_late",
    "owed_in",
    "with_decided",
    "with_late",
    "with_late_span",
    "with_span",
    "without_disowned",
]
