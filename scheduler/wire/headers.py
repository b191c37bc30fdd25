"""Headers: those of schedd on a task (contract, part 4) and those of NATS that schedd sends."""

from __future__ import annotations

EXECUTION_ID = "Schedd-Execution-Id"
SCHEDULE_ID = "Schedd-Schedule-Id"
TYPE = "Schedd-Type"
KIND = "Schedd-Kind"
NOMINAL_AT = "Schedd-Nominal-At"
FIRE_AT = "Schedd-Fire-At"
PREVIOUS_AT = "Schedd-Previous-At"
NEXT_AT = "Schedd-Next-At"
DEADLINE = "Schedd-Deadline"
TIMEOUT = "Schedd-Timeout"
MAX_TRIES = "Schedd-Max-Tries"
BACKOFF = "Schedd-Backoff"  # beyond the contract: the SDK has no other way to know the schedule's
GENERATION = "Schedd-Generation"
DRIVE = "Schedd-Drive"
ATTEMPTS_BEFORE = "Schedd-Attempts-Before"
TRACEPARENT = "traceparent"
CLIENT = "Schedd-Client"  # on a request of the API: what the client calls itself

# NATS (ADR-51 schedules, ADR-50 atomic batches, ADR-43 TTL)
SCHEDULE = "Nats-Schedule"
SCHEDULE_TARGET = "Nats-Schedule-Target"
TTL = "Nats-TTL"
ROLLUP = "Nats-Rollup"
MSG_ID = "Nats-Msg-Id"
EXPECTED_LAST_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"
KV_OPERATION = "KV-Operation"
MARKER_REASON = "Nats-Marker-Reason"  # of a delete marker that the server wrote: MaxAge, Remove or Purge
SERVICE_ERROR = "Nats-Service-Error"
SERVICE_ERROR_CODE = "Nats-Service-Error-Code"


def is_reserved(name: str) -> bool:
    """Whether a user header may not have this name, in any case."""
    low = name.lower()
    return low.startswith(("nats-", "kv-", "schedd-")) or low == "status"
