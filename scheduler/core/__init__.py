"""The decisions of schedd, pure: functions of their arguments, `now` included.

No asyncio, clock, randomness, logging, NATS. Whatever can be decided without looking at the world is decided here, so
that every interleaving can be tested without one. A function that cannot decide raises `errors.InvalidArgument` naming
the field; nothing else leaves this package. Times are aware UTC, cut to milliseconds; the same question has the same
answer on every replica.

When does it fire? `triggers`, `zones`, `durations` · what is to be armed? `planning`, `arming` · what at the instant?
`dispatching`, `overlap` · what can a run become? `lifecycle`, fed by `tracking` · who leads? `leadership` · what is
wrong? `reconciling` · what would happen? `previewing` · the values themselves: `model` · how things fail: `errors`.
"""

from __future__ import annotations
