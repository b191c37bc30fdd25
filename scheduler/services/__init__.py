"""The shells around the decisions: observe, decide (core), apply. They see ports, never an adapter.

Each service is a `run` that ends only by cancellation; one that breaks is started again with a pause (`together`). A
service whose answer did not come looks again before it repeats, and every repetition comes to the same result: ids are
computed, creations are compare-and-set, pairs are atomic.

On every replica: `dispatcher`, `launch` and `slots` (the one way from an occurrence to a task), `tracker` (what workers
report), `settlement` (rows follow records), `api` (use cases). On the leader: `leader` (lease and epoch), `planner`
with `agenda`, `announcing`, `housekeeping`, `schema`, `reconcile`. What they know: `schedules`, `executions`, `rows`,
`records`, `mirror`, `watching`, `applied`.
"""

from __future__ import annotations
