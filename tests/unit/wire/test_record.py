"""The execution record as JSON: contract, part 5, field for field, and whatever an execution can hold."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from scheduler.core.errors import InvalidArgument
from scheduler.core.lifecycle import Event, Finish, Queue, Resume, Retry, Start, advance
from scheduler.core.model.execution import HISTORY_MAX, Execution, Failure, HistoryEntry, Kind, State
from scheduler.wire.record import decode_execution, document_of, encode_execution, summary_of
from tests.unit.core.executions import QUEUED, STARTED, T0, after, at, claimed, in_state

CONTRACT = """id, schedule, generation, epoch, kind, nominal_at, fire_at, queue, type, payload, headers, state, reason,
attempt, max_tries, drive, attempts_before, worker, task_seq, queued_at, started_at, finished_at, duration_s,
lateness_s, result, error, history"""
FIELDS = [each.strip() for each in CONTRACT.replace("\n", " ").split(",")]
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

instants = st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
texts = st.text(max_size=40)
words = st.one_of(st.none(), texts)
seconds = st.floats(0, 1e9, allow_nan=False)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
encoded = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(),
    documents,
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
payloads = st.one_of(
    st.tuples(st.none(), st.just(True)),
    st.tuples(encoded, st.just(True)),
    st.tuples(st.binary(max_size=100), st.just(False)),
)
failures = st.one_of(st.none(), st.builds(Failure, texts, texts, words))
entries = st.builds(HistoryEntry, instants, st.sampled_from(State), words)


@st.composite
def executions(draw: st.DrawFn) -> Execution:
    payload, is_json = draw(payloads)
    result = draw(st.one_of(st.none(), encoded.filter(lambda text: text != b"null")))
    return Execution(
        id=draw(texts),
        schedule=draw(texts),
        generation=draw(st.integers(0, 2**63)),
        epoch=draw(st.integers(0, 2**63)),
        kind=draw(st.sampled_from(Kind)),
        nominal_at=draw(instants),
        fire_at=draw(instants),
        queue=draw(texts),
        type=draw(texts),
        state=draw(st.sampled_from(State)),
        payload=payload,
        payload_is_json=is_json,
        headers=draw(st.dictionaries(texts, texts, max_size=4)),
        reason=draw(words),
        attempt=draw(st.integers(0, 10**9)),
        max_tries=draw(st.integers(1, 100)),
        drive=draw(st.integers(0, 10**9)),
        attempts_before=draw(st.integers(0, 10**9)),
        worker=draw(words),
        task_seq=draw(st.one_of(st.none(), st.integers(1, 2**63))),
        claimed_at=draw(st.one_of(st.none(), instants)),
        queued_at=draw(st.one_of(st.none(), instants)),
        started_at=draw(st.one_of(st.none(), instants)),
        finished_at=draw(st.one_of(st.none(), instants)),
        result=result,
        error=draw(failures),
        timeout_s=draw(st.one_of(st.none(), seconds)),
        retention_s=draw(seconds),
        history=tuple(draw(st.lists(entries, max_size=5))),
    )


def shown(execution: Execution) -> dict[str, Any]:
    document = json.loads(encode_execution(execution))
    assert isinstance(document, dict)
    return document


@given(executions())
def test_round_trip(execution: Execution) -> None:
    """Whatever an execution holds comes back as it was, and every reader takes it."""
    raw = encode_execution(execution)
    assert decode_execution(raw) == execution
    assert encode_execution(decode_execution(raw)) == raw
    document = document_of(raw)
    assert document is not None
    summary = summary_of(raw)
    assert summary is not None
    assert (summary.id, summary.state, summary.task_seq, summary.worker) == (
        execution.id,
        execution.state,
        execution.task_seq,
        execution.worker,
    )


def test_every_field_of_the_contract() -> None:
    """All of them are there from the beginning, under the contract's names; what is not known yet is null."""
    document = shown(claimed(payload=b"{}"))
    assert [name for name in document if name in FIELDS] == FIELDS
    assert {name for name in FIELDS if document[name] is None} == {
        "reason", "worker", "task_seq", "queued_at", "started_at", "finished_at", "duration_s", "lateness_s",
        "result", "error",
    }  # fmt: skip


def test_a_record_in_full() -> None:
    """A run that failed once and succeeded then, as people and programs read it."""
    execution = claimed(payload=b'{"n": 1}', headers={"X-A": "b"}, fire_at=at(0.5))
    execution = after(
        execution,
        QUEUED,
        STARTED,
        Retry(at(3), 1, Failure("ValueError", "boom", "trace"), "again"),
        Start(at(4.25), 2, "w2"),
        Finish(at=at(5.5), state=State.SUCCEEDED, attempt=2, result=b'{"ok":true}'),
    )
    assert {name: value for name, value in shown(execution).items() if name in FIELDS} == {
        "id": "a.20261121T080000000Z", "schedule": "a", "generation": 7, "epoch": 3, "kind": "auto",
        "nominal_at": "2026-11-21T08:00:00.000Z", "fire_at": "2026-11-21T08:00:00.500Z", "queue": "Q", "type": "t",
        "payload": {"n": 1}, "headers": {"X-A": "b"}, "state": "succeeded", "reason": None, "attempt": 2,
        "max_tries": 3, "drive": 0, "attempts_before": 0, "worker": "w2", "task_seq": 11,
        "queued_at": "2026-11-21T08:00:01.000Z", "started_at": "2026-11-21T08:00:04.250Z",
        "finished_at": "2026-11-21T08:00:05.500Z", "duration_s": 1.25, "lateness_s": 0.5,
        "result": {"ok": True}, "error": None,
        "history": [
            {"at": "2026-11-21T08:00:00.000Z", "state": "claimed", "note": None},
            {"at": "2026-11-21T08:00:01.000Z", "state": "queued", "note": None},
            {"at": "2026-11-21T08:00:02.000Z", "state": "running", "note": "attempt 1"},
            {"at": "2026-11-21T08:00:03.000Z", "state": "retrying", "note": "attempt 1: ValueError: boom: again"},
            {"at": "2026-11-21T08:00:04.250Z", "state": "running", "note": "attempt 2"},
            {"at": "2026-11-21T08:00:05.500Z", "state": "succeeded", "note": None},
        ],
    }  # fmt: skip
    failed = after(claimed(), QUEUED, STARTED, Finish(at=at(3), state=State.FAILED, attempt=1, error=Failure("E", "m")))
    assert shown(failed)["error"] == {"type": "E", "message": "m", "traceback": None}


@pytest.mark.parametrize("state", list(State))
def test_states_are_spelled_as_in_the_contract(state: State) -> None:
    """The word itself, in the record and in its history."""
    document = shown(in_state(state))
    assert document["state"] == document["history"][-1]["state"] == state.value == str(state)


@given(instants, instants)
def test_instants(first: datetime, second: datetime) -> None:
    """UTC, a Z, exactly three decimals, whatever the millisecond and the year."""
    document = shown(
        claimed(nominal_at=first, fire_at=second, claimed_at=first, history=(HistoryEntry(second, State.LOST),))
    )
    found = [document["nominal_at"], document["fire_at"], document["claimed_at"], document["history"][0]["at"]]
    assert all(INSTANT.fullmatch(text) for text in found), found


@pytest.mark.parametrize(
    "payload",
    [
        b"null",
        b'""',
        b"0",
        b"1.0",
        b"1e400",
        b'{"b": 1,\n "a":2,"b" : 3}',
        '"\u00e9\U0001f600\u2028"'.encode(),
        b'"\\u00e9\\/"',
    ],
)
def test_a_payload_is_kept_byte_for_byte(payload: bytes) -> None:
    """Not as a value that is written anew: the worker gets the very bytes that were stored."""
    raw = encode_execution(claimed(payload=payload))
    assert decode_execution(raw).payload == payload
    assert b'"payload":' + payload + b"," in raw


def test_no_payload_is_not_null() -> None:
    """Left out where the schedule has none; null is one."""
    assert "payload" not in shown(claimed())
    assert shown(claimed(payload=b"null"))["payload"] is None
    assert decode_execution(encode_execution(claimed())).payload is None
    assert decode_execution(encode_execution(claimed(payload=b"null"))).payload == b"null"


@given(st.binary(max_size=200))
def test_bytes_stand_in_base64(payload: bytes) -> None:
    """Any bytes, the empty ones too."""
    execution = claimed(payload=payload, payload_is_json=False)
    document = shown(execution)
    assert (document["payload_base64"], "payload" in document) == (base64.b64encode(payload).decode(), False)
    assert decode_execution(encode_execution(execution)) == execution


@given(
    st.lists(
        st.one_of(
            st.builds(Start, st.just(T0), st.integers(1, 200), words),
            st.builds(Retry, st.just(T0), st.integers(1, 200), failures, words),
            st.just(Resume(T0)),
            st.just(Queue(T0, 3)),
        ),
        max_size=150,
    )
)
def test_the_history_is_bounded(events: list[Event]) -> None:
    """However long the story: it keeps how it began and what happened last, and still goes round."""
    execution = claimed()
    for number in range(1, 120):
        execution = advance(execution, Start(at(number), number, "w")) or advance(execution, QUEUED) or execution
    for event in events:
        execution = advance(execution, event) or execution
    assert len(execution.history) <= HISTORY_MAX
    assert execution.history[0].state is State.CLAIMED
    assert execution.history[-1].state is execution.state
    assert decode_execution(encode_execution(execution)) == execution


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b"{}", b"x", b"\xff", b'{"id":"a"}', b"[" * 5000,
        encode_execution(claimed())[:-1],
        encode_execution(claimed()).replace(b"claimed", b"resting"),
        encode_execution(claimed()).replace(b'"2026-11-21T08:00:00.000Z"', b'"yesterday"'),
        encode_execution(claimed()).replace(b'"2026-11-21T08:00:00.000Z"', b'"2026-11-21T08:00:00"'),
        encode_execution(claimed()).replace(b'"generation":7', b'"generation":"7"'),
        encode_execution(claimed(payload=b"x", payload_is_json=False)).replace(b'"eA=="', b'"e"'),
    ],
)  # fmt: skip
def test_what_is_no_record(raw: bytes) -> None:
    """Told as such, never as anything else."""
    with pytest.raises(InvalidArgument, match="not an execution record"):
        decode_execution(raw)


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{}", b"x", b"\xff", b"[" * 5000, b'{"id":1,"state":"lost"}'])
def test_indexes_survive_garbage(raw: bytes) -> None:
    """No summary and no document of what is none."""
    assert summary_of(raw) is None
    assert document_of(raw) is None or isinstance(document_of(raw), dict)


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(raw: bytes) -> None:
    """Nothing but InvalidArgument."""
    summary_of(raw)
    document_of(raw)
    with pytest.raises(InvalidArgument):
        decode_execution(raw)


def test_a_newer_replica_may_know_more() -> None:
    """Fields that are not known here are passed over."""
    document = json.loads(encode_execution(claimed())) | {"colour": {"of": "money"}}
    assert decode_execution(json.dumps(document).encode()) == claimed()


def test_an_older_replica_wrote_less() -> None:
    """What has a default may be missing."""
    needed = ("id", "schedule", "generation", "epoch", "kind", "nominal_at", "fire_at", "queue", "type", "state")
    document = {name: value for name, value in shown(claimed()).items() if name in needed}
    read = decode_execution(msgspec.json.encode(document))
    assert read == structs.replace(claimed(), claimed_at=None, history=())


def test_the_largest_record_fits() -> None:
    """Everything at its limit stays below half of what a NATS message may have."""
    trace = "\U0001f600" * 16_384
    execution = claimed(
        payload=b'"' + b"x" * 65_534 + b'"',
        headers={f"X-{number}": "v" * 1024 for number in range(64)},
        result=b'"' + b"y" * 65_534 + b'"',
        error=Failure("E" * 256, "m" * 4096, trace),
        history=tuple(HistoryEntry(T0 + timedelta(seconds=n), State.RETRYING, "n" * 200) for n in range(HISTORY_MAX)),
    )
    assert len(encode_execution(execution)) < 524_288
