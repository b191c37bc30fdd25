"""From what NATS says to what services understand, in one place: no nats-py exception leaves this package."""

from __future__ import annotations

import asyncio

from msgspec import Struct
from nats import errors as nats_errors
from nats.aio.client import Client as NatsClient

from scheduler.core.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    ScheddError,
    Unavailable,
    Unsure,
)

WRONG_LAST_SEQUENCE = 10071  # the expectation failed
WRONG_LAST_SEQUENCE_IN_FLIGHT = 10164  # another write on that subject is being replicated: ask again
BATCH_INCOMPLETE = 10176  # part of an atomic batch got lost on its way or with a stream leader: nothing is stored
NO_MESSAGE = 10037
SEQUENCE_NOT_FOUND = 10043
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
CONSUMER_DOES_NOT_EXIST = 10149  # to an update
MESSAGE_TOO_LARGE = 10054
_INPUT = frozenset({MESSAGE_TOO_LARGE, 10165, 10166, 10189, 10190, 10191})


class InFlight(Unavailable):
    """A write on the same subject is still being replicated: whether it will stand is not known yet; ask again."""


class NoConsumer(Unavailable):
    """There is no consumer of that name: that of a queue is made once somebody names the queue."""


class ApiError(Struct):
    """The `error` object of any JetStream reply."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Place(Struct):
    """Who leads a stream or a consumer, as JetStream tells with it; a server that is alone tells nothing."""

    leader: str = ""


def is_led(place: Place | None) -> bool:
    """Whether it can be believed. A node that knows of no leader was cut off: it answers by the side of the leader, and
    with the past, until it has caught up (measured on 2.15.1: 13 s after the link was back it still did)."""
    return place is None or bool(place.leader)


def check_led(place: Place | None, doing: str) -> None:
    """Raises Unavailable unless `is_led`."""
    if not is_led(place):
        raise Unavailable(f"{doing}: has no leader at the moment")


def from_api(error: ApiError, doing: str) -> ScheddError:
    """The error for a refusal of JetStream; `doing` tells what was tried, for the message."""
    text = f"{doing}: NATS refused it: {error.description} ({error.err_code})"
    if error.err_code == WRONG_LAST_SEQUENCE:
        return Conflict(text)
    if error.err_code == STREAM_NOT_FOUND:
        return Unavailable(f"{doing}: {error.description}; is schedd provisioned?")
    if error.err_code in {CONSUMER_NOT_FOUND, CONSUMER_DOES_NOT_EXIST}:
        return NoConsumer(f"{doing}: {error.description}; that of a queue is made once a schedule names the queue")
    if error.err_code in {NO_MESSAGE, SEQUENCE_NOT_FOUND}:
        return NotFound(text)
    if error.err_code in _INPUT:
        return InvalidArgument(text)
    if error.err_code == WRONG_LAST_SEQUENCE_IN_FLIGHT:
        return InFlight(text)
    if error.err_code == BATCH_INCOMPLETE or error.code in {503, 500, 408, 429}:
        return Unavailable(text)
    return Unavailable(text) if error.code >= 500 else Internal(text)


def from_exception(problem: BaseException, doing: str) -> ScheddError:
    """The error for a failure of the client library or the network."""
    if isinstance(problem, ScheddError):
        return problem
    if isinstance(problem, (asyncio.TimeoutError, TimeoutError, nats_errors.TimeoutError)):
        return Unsure(f"{doing}: no answer from NATS in time")
    if isinstance(problem, nats_errors.MaxPayloadError):
        return PayloadTooLarge(f"{doing}: more bytes than the NATS server takes in one message (its max_payload)")
    if isinstance(problem, nats_errors.OutboundBufferLimitError):
        return Unavailable(f"{doing}: not connected to NATS")  # nothing may wait in a buffer until it is back
    if isinstance(problem, nats_errors.Error | OSError):
        return Unavailable(f"{doing}: {str(problem) or type(problem).__name__}")
    return Internal(f"{doing}: {type(problem).__name__}: {problem}")


def refusal(client: NatsClient) -> str:
    """What NATS last did not permit on this connection, in its words (nats-py lowers them); empty if there is nothing.

    A refusal does not say which request it was for, and that request only times out: so it explains a silence, no more.
    """
    text = str(client.last_error or "").removeprefix("nats: ")
    return text if "permissions violation" in text.lower() else ""
