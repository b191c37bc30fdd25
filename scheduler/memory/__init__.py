"""Twins of the ports in memory, with virtual time and faults on demand. For tests only.

They keep the rules of the server that the guarantees rest on: revisions, expectations, atomic batches, TTL,
redelivery, work queues. `tests/contracts` runs one suite over them and over a real nats-server. Faults are asked for by
name: lost acknowledgements, refusals, late landings, silence, an outage.
"""

from __future__ import annotations
