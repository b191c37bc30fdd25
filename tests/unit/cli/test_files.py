"""Definitions from files: YAML that means what JSON would mean, and nothing that could surprise."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.files import SIZE_MAX, Entry, load
from scheduler.core.errors import InvalidArgument


def write(folder: Path, text: str | bytes, name: str = "s.yaml") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_one_definition(tmp_path: Path) -> None:
    """The id is taken out, everything else is the schedule."""
    file = write(tmp_path, "id: a\nevery: 10m\nqueue: q\ntype: t\npayload: {n: [1, 2.5, null, true, x]}\n")
    assert load(file) == [
        Entry("a", {"every": "10m", "queue": "q", "type": "t", "payload": {"n": [1, 2.5, None, True, "x"]}})
    ]


@pytest.mark.parametrize(
    "text",
    [
        "id: a\n---\nid: b\n",
        "- id: a\n- id: b\n",
        "---\n- id: a\n---\n---\nid: b\n...\n",
        '[{"id": "a"}, {"id": "b"}]',
        "[{id: a}, {id: b}]",
        '\ufeffid: a\n---\n{"id": "b"}\n',
    ],
)
def test_several_definitions(tmp_path: Path, text: str) -> None:
    """A list, documents, or documents with lists; empty documents are nothing."""
    assert [entry.id for entry in load(write(tmp_path, text))] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-21T08:00:00Z", "2026-11-21T08:00:00Z"),
        ("2026-11-21 08:00:00+01:00", "2026-11-21 08:00:00+01:00"),
        ("2026-11-21", "2026-11-21"),
        ("12:30:00", "12:30:00"),
        ("no", "no"),
        ("on", "on"),
        ("010", "010"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        ("=", "="),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("-7", -7),
        ("1e3", 1000.0),
        ("12345678901234567890123", 12345678901234567890123),
        ("0 9 * * 1-5", "0 9 * * 1-5"),
        ("'* * * * *'", "* * * * *"),
        ("!!str 5", "5"),
    ],
)
def test_scalars_are_those_of_json(tmp_path: Path, text: str, value: object) -> None:
    """Dates, clock times and yes/no stay text; numbers are decimal ones."""
    (entry,) = load(write(tmp_path, f"id: a\npayload: {text}\n"))
    assert entry.schedule["payload"] == value
    assert type(entry.schedule["payload"]) is type(value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("id: a\nx: &n 1\ny: *n\n", "line 2: aliases and anchors"),
        ("id: a\ncron: * * * * *\n", "line 2"),
        ("id: a\ncron: *\n", "quote"),
        ("id: a\ncron: @daily\n", "quote"),
        ("id: a\nid: b\n", "'id' is given twice"),
        ("id: a\npayload: {n: 1, n: 2}\n", "line 2: 'n' is given twice"),
        ('{"id": "a", "every": "1s", "every": "2s"}', "'every' is given twice"),
        ("id: a\npayload: {1: x}\n", "key must be text"),
        ("id: a\npayload: !!python/object:os.system x\n", "tags are refused"),
        ("id: a\npayload: !!binary AAAA\n", "tags are refused"),
        ("id: a\npayload: " + "[" * 5000 + "\n", "deep"),
        ('{"id": "a", "payload": NaN}', "NaN"),
        ('{"id": "a"', "line"),
        ('[{"id": "a", "payload": [}]', "line"),
        ("id: a\n  b: c\n", "line 2"),
        ("id: [a\n", "line"),
        ("", "no definition"),
        ("# nothing\n---\n", "no definition"),
        ("just text\n", "definition 1 is no mapping"),
        ("- id: a\n- 5\n", "definition 2 is no mapping"),
        ("every: 10s\n", "definition 1 has no id"),
        ("id: a..b\n", "schedule id"),
        ("id: 5\n", "schedule id"),
        ("id: a\n---\nid: a\n", "a is defined twice"),
        (b"id: \xff\n", "UTF-8"),
        ("id: a\nx: \x07\n", "YAML"),
    ],
)
def test_refusals_name_the_file_and_the_reason(tmp_path: Path, text: str | bytes, word: str) -> None:
    """Whatever is wrong with a file is one InvalidArgument, never another exception."""
    file = write(tmp_path, text)
    with pytest.raises(InvalidArgument) as caught:
        load(file)
    assert word in caught.value.message
    assert "\n" not in caught.value.message.strip()


def test_json_may_be_indented_with_tabs(tmp_path: Path) -> None:
    """JSON is read as JSON: YAML would refuse the tabs."""
    assert load(write(tmp_path, '{\n\t"id": "a"\n}', "a.json")) == [Entry("a", {})]


def test_a_json_file_is_json_only(tmp_path: Path) -> None:
    """A file named .json gets no second reading as YAML."""
    with pytest.raises(InvalidArgument, match="not JSON"):
        load(write(tmp_path, "{id: a}", "a.json"))


def test_deep_json_is_refused_quietly(tmp_path: Path) -> None:
    """Nesting without end is an invalid argument."""
    with pytest.raises(InvalidArgument):
        load(write(tmp_path, '{"id": "a", "payload": ' + "[" * 400_000))


def test_large_files_are_refused(tmp_path: Path) -> None:
    """More than 1 MB is not read."""
    with pytest.raises(InvalidArgument, match="1 MB"):
        load(write(tmp_path, "id: a\n#" + "x" * SIZE_MAX))


def test_missing_files_are_told(tmp_path: Path) -> None:
    """A file that is not there, or a folder, is named with the reason."""
    for file in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InvalidArgument, match=str(file)):
            load(file)


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads standard input."""
    content = json.dumps({"id": "a", "every": "1s"}).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert load(Path("-")) == [Entry("a", {"every": "1s"})]
