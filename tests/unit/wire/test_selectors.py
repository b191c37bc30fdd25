"""Label selectors: what matches, and what is refused with which words."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.wire.selectors import join_selectors, parse_selector

CRM = {"team": "crm", "env": "prod", "tier": "a"}


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("team=crm", True),
        ("team==crm", True),
        (" team = crm ", True),
        ("team=ops", False),
        ("team!=ops", True),
        ("team!=crm", False),
        ("owner!=ann", True),
        ("tier in (a,b)", True),
        ("tier in ( b , c )", False),
        ("owner in (ann)", False),
        ("tier notin (b)", True),
        ("tier notin (a, b)", False),
        ("owner notin (ann)", True),
        ("team", True),
        ("!team", False),
        ("! legacy", True),
        ("legacy", False),
        ("team=crm,env!=dev,tier in (a,b),!legacy", True),
        ("team=crm,env!=prod", False),
        ("in in (a)", False),
        ('"team"="crm"', True),
    ],
)
def test_what_matches(text: str, matched: bool) -> None:
    """As Kubernetes has it: != and notin hold where the label is missing, too."""
    assert parse_selector(text).matches(CRM) is matched


def test_quotes() -> None:
    """A value of any characters can be named."""
    labels = {"a b": 'x,y="z"', "note": "(1)"}
    assert parse_selector(r'"a b"="x,y=\"z\"",note in ("(1)", b)').matches(labels)
    assert parse_selector("schedd-worker=mailer/eu:1").matches({"schedd-worker": "mailer/eu:1"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the name of a label is expected, not the end"),
        (",", "the name of a label is expected, not ','"),
        ("team=", "a value is expected, not the end"),
        ("team=crm,", "the name of a label is expected, not the end"),
        ("team crm", "put a comma between two parts"),
        ("team in a", "values in brackets are expected, not 'a'"),
        ("team in (a", "a closing bracket is expected, not the end"),
        ("team in ()", "a value is expected, not '[)]'"),
        ("team===crm", "a value is expected, not '='"),
        ('team="crm', 'a " has no end'),
        ("!", "the name of a label is expected"),
        ("!team=crm", "nothing can follow here"),
        ("x" * 5000, "more than 4096"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    """One sentence that says what is wrong and shows how it is written."""
    with pytest.raises(InvalidArgument, match=told) as caught:
        parse_selector(text)
    assert caught.value.field == "selector"


def test_joined() -> None:
    """Several selectors are one: each has to match."""
    selector = parse_selector(join_selectors(["team=crm", "env in (prod,dev)"]))
    assert selector.matches(CRM)
    assert not selector.matches({"team": "crm"})
    assert selector.names() == {"team", "env"}


@given(st.text(max_size=60))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    """No text makes another exception, and what is read can be asked."""
    with contextlib.suppress(InvalidArgument):
        parse_selector(text).matches(CRM)


WORD = st.text(st.characters(exclude_characters="\x00"), max_size=12)


@given(WORD, WORD, WORD)
def test_whatever_a_label_says_can_be_selected(name: str, value: str, other: str) -> None:
    """Quoted, every name and value is meant as it is."""
    quoted = [('"' + text.replace("\\", r"\\").replace('"', r"\"") + '"') for text in (name, value)]
    selector = parse_selector("=".join(quoted))
    assert selector.matches({name: value})
    assert selector.matches({name: other}) is (other == value)
