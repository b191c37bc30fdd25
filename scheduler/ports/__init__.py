"""What services need from the world, in their own words: protocols, no code.

Services see these and nothing behind them. There are two adapters: `scheduler.jetstream`, and `scheduler.memory` with
virtual time and faults; `tests/contracts` holds both to the same behaviour, so what is written here is tested. Failures
are the classes of `core.errors`; `Unsure` means that a write may have landed, and is never taken for a failure.

`clock` · `stores` (buckets) · `timeline` · `queues` (tasks, reports, signals, events) · `telemetry` · `api` (serving
requests) · `checkpoints` (stop points of tests).
"""

from __future__ import annotations
