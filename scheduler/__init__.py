"""schedd: a distributed scheduler daemon on NATS JetStream.

A schedule is JSON in a key-value bucket, put there by any NATS client. At each due instant one task lies in a work
queue, from which a worker in any language takes it; what became of it is a record. Many replicas run, one leads.

The bet: occurrences are armed in the broker before they are due. NATS fires them, so no leader has to be alive, fast
or unique at the due instant. A leader that dies loses nothing; one that only believes it leads is refused by the
storage.

What happens to one occurrence, and where to read about it:

    planned     `core.planning` says what a definition yields in a window; `services.planner`, on the leader, arms it in
                atomic batches that expect its epoch (`core.leadership`, `services.leader`) and end with the watermark:
                up to which nominal time, and up to which edit, everything is on the timeline
    fired       by the server, into a work queue (`jetstream.timeline`)
    dispatched  `core.dispatching` decides again by the definition in force; `services.dispatcher`, on every replica,
                creates the record, takes a slot (`core.overlap`, `services.slots`) and sends claim and task as one
                atomic pair (`services.launch`): a second pair is refused, so a crash anywhere repeats to the same task
    worked on   by `worker`, the SDK, which claims an attempt before it starts; or by any client that acks
    tracked     `core.tracking` folds reports and signals into the record, by the one table in `core.lifecycle`;
                `services.tracker`, on every replica
    reconciled  `core.reconciling` compares what should be with what is; `services.reconcile`, on the leader, repairs by
                the same steps

What it guarantees:

1. Every due occurrence of a valid schedule gets exactly one verdict, on record.
2. At most one execution per occurrence; at most one first attempt starts under the SDK. `max_tries: 1` is at most
   once, more is at least once with the execution id as idempotency key. Plain workers: at least once.
3. Losing the leader or any replica delays no armed occurrence; losing all of them delays by the outage.
4. A stalled or partitioned ex-leader cannot arm anything.
5. An acknowledged edit, pause or delete holds for every occurrence due more than a second later, and fires nothing
   retroactively.
6. Bad input is quarantined and reported; everything else goes on.
7. Nothing grows without bound; every drop has a counter with a reason.

README.md links each of them to the tests that guard it, and says what is not built yet.

What users import: `scheduler.worker` (Worker, TaskContext), `scheduler.client` (Client), `scheduler.testing`
(LocalSchedd). How it is wired: `scheduler.daemon`, `scheduler.wiring`. Direction of imports: daemon → web → services →
ports → wire → core; `jetstream` and `memory` are two adapters of the same ports, which services never see.
"""

from __future__ import annotations

__version__ = "0.1.0"
