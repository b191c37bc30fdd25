"""Ids: what may be one, deterministic execution ids, and that nothing else is taken for one."""

# ruff: noqa: DTZ001 - hypothesis takes naive bounds; each instant gets its zone
from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.wire.ids import (
    check_namespace,
    check_nonce,
    check_queue,
    check_schedule_id,
    check_type,
    execution_id,
    format_nominal,
    is_schedule_id,
    manual_execution_id,
    parse_execution_id,
    parse_nominal,
)
from scheduler.wire.instants import cut

schedule_ids = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,40}[A-Za-z0-9])?", fullmatch=True).filter(
    lambda text: ".." not in text
)
nonces = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)
instants = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda at: cut(at.replace(tzinfo=UTC)))


@given(at=instants)
def test_nominals_round_trip(at: datetime) -> None:
    """A nominal time is one token of nineteen characters, whatever the year, and is read back exactly."""
    text = format_nominal(at)
    assert len(text) == 19
    assert "." not in text
    assert parse_nominal(text) == at


@given(one=instants, other=instants)
def test_nominals_sort_as_time_does(one: datetime, other: datetime) -> None:
    """The text of a nominal time sorts as the instant does, so subjects and keys list in order."""
    assert (format_nominal(one) < format_nominal(other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20261121T080000000",
        "20261121T080000000z",
        "20261121T080000000Z\n",
        "20261121T08000000Z",
        "20261121T080000+12Z",
        "20261121T080000 12Z",
        "20261121T0800001_2Z",
        "20261321T080000000Z",
        "20260230T080000000Z",
        "20261121T240000000Z",
        "20261121T080060000Z",
        "2026 1 1T080000000Z",
        "\uff12026112T080000000Z",
    ],
)
def test_other_nominals_are_refused(text: str) -> None:
    """Only what format_nominal writes is a nominal time."""
    with pytest.raises(ValueError, match=r"\S"):
        parse_nominal(text)


@given(schedule_id=schedule_ids, at=instants, nonce=nonces)
def test_execution_ids_round_trip(schedule_id: str, at: datetime, nonce: str) -> None:
    """An execution id is taken apart into what it was made of, for automatic and manual runs alike."""
    assert parse_execution_id(execution_id(schedule_id, at)) == (schedule_id, at, "auto", None)
    assert parse_execution_id(manual_execution_id(schedule_id, at, nonce)) == (schedule_id, at, "manual", nonce)


def test_execution_id_is_as_the_contract_says() -> None:
    """The very text that other languages compute."""
    at = datetime(2026, 11, 21, 8, 0, 0, 250_000, tzinfo=UTC)
    assert execution_id("mail.monthly", at) == "mail.monthly.20261121T080000250Z"
    assert manual_execution_id("mail", at, "x-1") == "mail.20261121T080000250Z-mx-1"
    assert parse_execution_id("mail.20261121T080000250Z-bfill_1").kind == "backfill"


def test_an_id_that_looks_like_an_execution_is_not_confused() -> None:
    """A schedule may be named as an execution id is; its executions still come apart rightly."""
    at = datetime(2026, 11, 21, 8, tzinfo=UTC)
    tricky = execution_id("a", at)
    assert parse_execution_id(execution_id(tricky, at)).schedule_id == tricky


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a",
        "a.",
        "a.20261121T080000000Z.",
        ".20261121T080000000Z",
        "a.20261121T080000000Z-x1",
        "a.20261121T080000000Z-m",
        "a.20261121T080000000Z-m" + "x" * 33,
        "a..20261121T080000000Z",
        "a.20261399T080000000Z",
        "a b.20261121T080000000Z",
        "a.20261121T080000000Z\n",
        "a>.20261121T080000000Z",
        "x" * 5_000_000,
        None,
        7,
    ],
)
def test_other_execution_ids_are_refused(text: object) -> None:
    """What schedd cannot have made is invalid input, told in a short sentence."""
    with pytest.raises(InvalidArgument) as refused:
        parse_execution_id(text)  # type: ignore[arg-type]  # the point of the test
    assert len(refused.value.message) < 200


@given(text=st.text(max_size=80))
def test_any_text_is_an_execution_id_or_refused(text: str) -> None:
    """No text raises anything but InvalidArgument; what is accepted is rebuilt to the same text."""
    try:
        key = parse_execution_id(text)
    except InvalidArgument:
        return
    assert text.startswith(execution_id(key.schedule_id, key.nominal_at))


@pytest.mark.parametrize("text", ["a", "A1", "a.b", "a-b_c.d", "0", "x" * 128])
def test_schedule_ids(text: str) -> None:
    """Letters, digits, '.', '_' and '-' in between make a schedule id."""
    assert is_schedule_id(text)
    assert check_schedule_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "_a",
        "a b",
        "a/b",
        "a*",
        "a>",
        "ä",
        "a\n",
        "x" * 129,
        None,
        5,
        b"a",
        ["a"],
    ],
)
def test_other_schedule_ids_are_refused(text: object) -> None:
    """Whatever would break a subject, a key or a line is no schedule id."""
    with pytest.raises(InvalidArgument) as refused:
        check_schedule_id(text)  # type: ignore[arg-type]  # the point of the test
    assert refused.value.field == "id"


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_queue, ["EMAIL", "a_b-1", "x" * 64], ["", "a.b", "a b", "x" * 65, "a\n", None, 1]),
        (check_nonce, ["n", "x" * 32, "_-"], ["", "a.b", "x" * 33, None]),
        (check_namespace, ["schedd", "team1", "a-b"], ["", "Team", "1a", "a_b", "x" * 33, None]),
        (check_type, ["email:monthly", "a/b.c-d_e", "x" * 128], ["", ":a", "a b", "x" * 129, None]),
    ],
)
def test_tokens(check: object, good: list[str], bad: list[object]) -> None:
    """Queue, nonce, namespace and type keep to their alphabets and lengths."""
    assert callable(check)
    for text in good:
        assert check(text) == text
    for wrong in bad:
        with pytest.raises(InvalidArgument):
            check(wrong)
