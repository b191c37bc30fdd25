"""Definitions from directories and several files: each found once, whatever is wrong told with its place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.documents import as_yaml, read_values
from cli.files import Entry, as_documents, gather
from scheduler.core.errors import InvalidArgument


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def told(*paths: Path, size_max: int = 1_000_000) -> tuple[list[str], list[str]]:
    findings = gather(paths, size_max=size_max)
    return [each.entry.id for each in findings.found], [problem.message for problem in findings.problems]


def test_a_directory(tmp_path: Path) -> None:
    """Every definition in it and below, files by name; hidden ones and other kinds of files are none of ours."""
    write(tmp_path, {
        "b.yaml": "id: b", "a.yml": "- id: a1\n- id: a2", "sub/c.json": '{"id": "c"}', "sub/deep/d.yaml": "id: d",
        ".git/x.yaml": "id: x", ".hidden.yaml": "id: y", "README.md": "id: z", "empty.yaml": "# nothing\n",
    })  # fmt: skip
    assert told(tmp_path) == (["a1", "a2", "b", "c", "d"], [])


def test_links(tmp_path: Path) -> None:
    """A loop of directories ends, no file is read twice, and a link that leads nowhere is told."""
    write(tmp_path, {"real/a.yaml": "id: a", "mounted/..data/b.yaml": "id: b"})
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "real")
    (tmp_path / "mounted" / "b.yaml").symlink_to("..data/b.yaml")
    (tmp_path / "lost.yaml").symlink_to("nowhere.yaml")
    ids, problems = told(tmp_path, tmp_path / "real" / "a.yaml")
    assert (ids, len(problems)) == (["a", "b"], 1) or (ids, len(problems)) == (["b", "a"], 1)
    assert "lost.yaml: No such file" in problems[0]


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe in a directory is not waited for; a directory named as a file is one."""
    os.mkfifo(tmp_path / "pipe.yaml")
    write(tmp_path, {"dir.yaml/a.yaml": "id: a"})
    ids, problems = told(tmp_path)
    assert ids == ["a"]
    assert problems == [f"cannot read {tmp_path}/pipe.yaml: it is not a regular file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    """An unreadable file and an unreadable directory are told, and the rest is read."""
    write(tmp_path, {"a.yaml": "id: a", "b.yaml": "id: b", "c/d.yaml": "id: d"})
    (tmp_path / "a.yaml").chmod(0)
    (tmp_path / "c").chmod(0)
    ids, problems = told(tmp_path)
    (tmp_path / "c").chmod(0o700)
    assert ids == ["b"]
    assert [problem.rpartition(": ")[2] for problem in problems] == ["Permission denied"] * 2


def test_one_id_in_two_places(tmp_path: Path) -> None:
    """It is refused, and both places are named."""
    write(tmp_path, {"a.yaml": "- id: x\n- id: y", "b.json": '[\n\n {"id": "z"},\n {"id":\n "y"}]'})
    ids, [problem] = told(tmp_path)
    assert ids == ["x", "y", "z"]
    assert problem.endswith(f"{tmp_path}/b.json, line 4: y is defined twice, first in {tmp_path}/a.yaml, line 2")


@pytest.mark.parametrize(
    ("content", "told_of"),
    [
        (b"\xff\xfei\x00d\x00", "UTF-16 text: save it as UTF-8"),
        (b"id: a\n\x00\x01", "binary"),
        (b"id: a\nname: caf\xe9\n", "line 2: not UTF-8"),
        ("id: a\nlabels:\n\tteam: x\n", r"line 3: .*indent with blanks"),
        ("id: a\ncron: * * * * *\n", "line 2: .*quote"),
        ("id: a\ncron: @daily\n", "line 2: .*quote"),
        ("a: &x [1]\nb: [*x, *x]\n", "line 1: aliases and anchors are refused"),
        ("id: a\nid: b\n", "line 2: 'id' is given twice"),
        ("id: a\n1: b\n", "line 2: 1: a key must be text"),
        ("id: a\nname: b: c\n", "line 2: .*quote a text with a colon"),
        ("id: a\nwhen: !!python/object:os.system x\n", "line 2: tags are refused"),
        ("[" * 5000, "nested deeper"),
        ("id: " + "{a: " * 200 + "}" * 200, "nested deeper"),
        ("id: a\nname: \x07\n", "a character that no text has"),
        ("just text", "line 1: definition 1 is no mapping"),
        ("\n- every: 1s\n", "line 2: definition 1 has no id"),
        ("\n\nname: x\nid: a b\n", "line 4: 'a b' is not a schedule id"),
        ("id: [a]\n", "line 1: "),
        ('{"id": "a",\n "x": ]', "line 2"),
        ('{"id": "a", "id": "b"}', "given twice"),
        ('{"id": "a", "payload": NaN}', "NaN"),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_is_wrong_has_a_place(tmp_path: Path, content: str | bytes, told_of: str, ends: str) -> None:
    """One sentence that names the file and the line, and what to do about it."""
    raw = content.encode() if isinstance(content, str) else content
    write(tmp_path, {"x.yaml": raw.replace(b"\n", ends.encode()) if b"\xff" not in raw else raw})
    ids, problems = told(tmp_path / "x.yaml")
    assert ids == []
    assert len(problems) == 1
    assert problems[0].removeprefix("file: ").removeprefix("id: ").startswith(str(tmp_path / "x.yaml"))
    with pytest.raises(InvalidArgument, match=told_of):
        raise InvalidArgument(problems[0])


@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n", "---\n---\n", "null", "[]", "\ufeff"])
def test_a_file_without_definitions(tmp_path: Path, content: str) -> None:
    """Named, it is a mistake; in a directory of others it is nothing."""
    write(tmp_path, {"a.yaml": content, "b.yaml": "id: b"})
    assert told(tmp_path) == (["b"], [])
    ids, [problem] = told(tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert ids == ["b"]
    assert "no definition in it" in problem


def test_sizes(tmp_path: Path) -> None:
    """All files together are bounded, and nothing is read beyond that."""
    write(tmp_path, {"a.yaml": f"id: a\nname: {'x' * 700_000}", "b.yaml": f"id: b\nname: {'x' * 700_000}"})
    ids, [problem] = told(tmp_path)
    assert ids == ["a"]
    assert "all files together are larger than 1 MB" in problem
    assert told(tmp_path / "nothing")[1] == [f"cannot read {tmp_path}/nothing: No such file or directory"]


def test_lines_of_fields(tmp_path: Path) -> None:
    """The line of a field is known in YAML, that of its definition in JSON."""
    write(
        tmp_path, {"a.yaml": "- id: a\n  every: 1s\n\n  catch_up:\n    max: 0\n", "b.json": '[\n{"id": "b",\n"x": 1}]'}
    )
    found = gather([tmp_path], size_max=10_000).found
    assert found[0].place("catch_up.max") == f"{tmp_path}/a.yaml, line 4"
    assert found[0].place() == f"{tmp_path}/a.yaml, line 1"
    assert found[1].place("x") == f"{tmp_path}/b.json, line 2"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(["1e3", "no", "on", "012", "1_000", "12:30", "2026-11-21", "~", "null", "=", "<<", "*a", "0x1f"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_what_is_written_reads_back_the_same(payload: Any) -> None:
    """Every JSON value comes back from YAML as it was: 1e3 as the text or the number that it is."""
    text = as_documents([Entry("a", {"payload": payload, "x": [payload]})])
    [placed] = read_values(text, "x.yaml")
    assert json.dumps(placed.value) == json.dumps({"id": "a", "payload": payload, "x": [payload]})


def test_what_cannot_be_written() -> None:
    """Half a surrogate pair is JSON and not text: refused, not written wrong."""
    with pytest.raises(InvalidArgument, match="cannot be written"):
        as_yaml([{"id": "a", "payload": "\ud800"}])


def test_json_lines(tmp_path: Path) -> None:
    """Several JSON values one after the other are as many definitions."""
    write(tmp_path, {"a.json": '{"id": "a"}\n{"id": "b"}\n[{"id": "c"}]'})
    assert told(tmp_path)[0] == ["a", "b", "c"]
