"""Names of actions, and bodies that make no sense."""

from __future__ import annotations

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.wire.actions import Offer, check_action, decode_answer, decode_call, slug
from scheduler.wire.names import Names
from scheduler.wire.reports import WorkerRow, decode, encode


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Rebuild index", "rebuild-index"),
        ("  Größe neu berechnen! ", "grosse-neu-berechnen"),
        ("a/b.c>*", "a-b-c"),
        ("インデックス", ""),
        ("x" * 200, "x" * 64),
        ("-", ""),
    ],
)
def test_the_name_of_a_title(title: str, name: str) -> None:
    """Latin letters and digits, whatever else stood there; always a token of a subject."""
    assert slug(title) == name
    if name:
        assert check_action(name) == name


@pytest.mark.parametrize("text", ["", "A", "a.b", "a b", "*", ">", "-a", "a" * 65, "ü"])
def test_what_is_no_name(text: str) -> None:
    """It is a token in subjects."""
    with pytest.raises(InvalidArgument, match="name of an action"):
        check_action(text)


def test_the_subject_of_an_action() -> None:
    """The action is one token, the schedule may be several."""
    assert Names("team1").action("rebuild", "a.b") == "team1.action.rebuild.a.b"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"timeout_s": 0}', b'{"timeout_s": 1e9}', b'{"until": "soon"}'])
def test_what_is_no_call(body: bytes) -> None:
    """Told as such."""
    with pytest.raises(InvalidArgument):
        decode_call(body)


def test_what_is_no_answer() -> None:
    """An outcome and a worker are the least."""
    with pytest.raises(InvalidArgument):
        decode_answer(b'{"outcome": "succeeded"}')


def test_actions_in_a_row() -> None:
    """Offers go through a row; what is no offer, from a worker in another language, is left alone."""
    offer = Offer(schedule="a", action="b", title="C")
    row = decode(encode(WorkerRow(worker="w", actions=(offer,))), WorkerRow)
    assert row.offers == (offer,)
    assert decode(b'{"worker":"w","actions":["cancel",{"schedule":"a","action":"b"}]}', WorkerRow).offers == (
        Offer(schedule="a", action="b"),
    )
