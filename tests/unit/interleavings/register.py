"""Each interleaving that mechanisms.md names, and the directed tests that force it. Data; `test_register.py` holds it.

Directed: the test puts one thing between two named steps of another and looks at what comes of it. Random histories
(tests/unit/simulation) run beside them and are not listed here.
"""

from __future__ import annotations

from tests.unit.interleavings.ending import ATTEMPTS, AUDIT_AND_REPAIR
from tests.unit.interleavings.planning import LEADING, PLANNING, WATERMARK
from tests.unit.interleavings.running import CATCHING_UP, DISPATCHING, SLOTS

INTERLEAVINGS = (
    *LEADING,
    *WATERMARK,
    *PLANNING,
    *DISPATCHING,
    *SLOTS,
    *CATCHING_UP,
    *ATTEMPTS,
    *AUDIT_AND_REPAIR,
)
