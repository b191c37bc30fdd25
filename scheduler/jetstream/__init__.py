"""The ports on NATS JetStream.

Whatever NATS says becomes a class of `core.errors` here (`errors`); no nats-py exception leaves this package. Every
call is bounded; a time-out is `Unsure`, never a failure. Reads that decide something go to the stream's leader, never
to a follower. Nothing is published into a reconnect buffer: a write must not land after its author
lost the right to it.

`connection`, `contexts`, `client`: where and how to connect · `requests`: pipelined requests and atomic batches ·
`topology` (as data), `provisioning` · `buckets`, `changes`, `watching` · `timeline`: arms, fence, due messages ·
`queues`: pairs and tasks · `reports`, `signals`, `delivery`, `pulling`: what comes back · `events` · `service`,
`micro`: the API · `adapters`: all of them on one connection.
"""

from __future__ import annotations
