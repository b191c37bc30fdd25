"""`schedctl apply`, `diff`, `get -o`, and selectors, as a user meets them: real processes, a real daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.client import Client
from tests.acceptance.standing import Standing, stand
from tests.integration.cli_here import Cli, cli_at
from tests.integration.cli_process import run

MANY = [500, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(400)])]


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    yield from stand(tmp_path_factory.mktemp("files"))


@pytest.fixture
def team(request: pytest.FixtureRequest) -> str:
    """A label and a prefix of this test's own."""
    return str(request.node.name).partition("[")[0].removeprefix("test_").replace("_", "-")


@pytest.fixture
def cli(standing: Standing) -> Cli:
    return cli_at(standing.url)


def definition(schedule_id: str, team: str, **fields: Any) -> dict[str, Any]:
    base = {"id": schedule_id, "every": "1h", "queue": "q", "type": "t", "labels": {"team": team}}
    return {**base, **fields}


def write(path: Path, *definitions: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(definitions, indent=1))
    return path


async def revisions(standing: Standing, team: str) -> dict[str, int]:
    async with Client.connect(standing.url) as client:
        return {item.id: item.revision async for item in client.schedules.list(selector=f"team={team}")}


# --- apply


async def test_apply_creates_changes_and_leaves_alone(cli: Cli, standing: Standing, team: str, tmp_path: Path) -> None:
    """What is missing is created, what differs is changed, the rest is not written; a stored pause stays."""
    a, b, c = (f"{team}-{name}" for name in "abc")
    write(tmp_path / "d" / "one.json", definition(a, team), _cron(b, team, "0 9 * * *"),
          definition(c, team, payload={"n": 1}))  # fmt: skip
    first = await cli("apply", "-f", str(tmp_path / "d"))
    assert first.code == 0, first.err
    assert first.out.endswith("3 created, 0 unchanged\n")
    assert (await cli("pause", a, "--note", "why")).code == 0
    before = await revisions(standing, team)
    write(tmp_path / "d" / "one.json", definition(a, team, max_tries=3, every="60m"), _cron(b, team, "0 10 * * *"),
          definition(c, team, payload={"n": 2}))  # fmt: skip
    shown = await cli("apply", "-f", str(tmp_path / "d"), "--dry-run", "--exit-code")
    assert shown.code == 1
    assert await revisions(standing, team) == before, "a dry run writes nothing"
    second = await cli("apply", "-f", str(tmp_path / "d"))
    assert second.out.splitlines()[:-1] == shown.out.splitlines()[:-1], "a dry run shows exactly what is done"
    lines = second.out.splitlines()
    assert lines[0] == f"changed   {b}"
    assert lines[1] == "  cron  0 9 * * * -> 0 10 * * *"
    assert "1 fire gained (20" in lines[2]
    assert "T10:00" not in lines[2]
    assert "1 fire lost (20" in lines[2]
    assert lines[3:] == [f"changed   {c}", "  payload.n  1 -> 2", "2 changed, 1 unchanged"]
    after = await revisions(standing, team)
    assert after[a] == before[a]
    assert (await cli("get", a, "--json")).json["schedule"]["pause_note"] == "why"
    third = await cli("apply", "-f", str(tmp_path / "d"), "--json")
    assert third.json["counts"]["unchanged"] == 3
    assert third.json["items"] == []
    assert await revisions(standing, team) == after


def _cron(schedule_id: str, team: str, cron: str) -> dict[str, Any]:
    found = definition(schedule_id, team, cron=cron)
    del found["every"]
    return found


async def test_nothing_is_applied_if_one_is_wrong(cli: Cli, standing: Standing, team: str, tmp_path: Path) -> None:
    """Everything is checked before anything is written: each mistake is told with its file and line."""
    (tmp_path / "a.yaml").write_text(
        f"- id: {team}-ok\n  every: 1h\n  queue: q\n  type: t\n"
        f"- id: {team}-cron\n  cron: 61 * * * *\n  queue: q\n  type: t\n"
        f"- id: {team}-typo\n  evry: 1h\n  queue: q\n  type: t\n"
        f"- id: {team}-often\n  every: 10ms\n  queue: q\n  type: t\n"
        f"- id: {team}-day\n  every: 1h\n  exclude: [nowhere]\n  queue: q\n  type: t\n"
        f"- id: {team}-labels\n  every: 1h\n  labels: [team]\n  queue: q\n  type: t\n"
    )
    result = await cli("apply", "-f", str(tmp_path))
    assert (result.code, result.out) == (2, "")
    problems = sorted(result.err.splitlines())
    place = f"{tmp_path}/a.yaml, line"
    for line, told in ((6, "no minute"), (10, "did you mean 'every'"), (14, "every"), (19, "nowhere"), (24, "labels")):
        assert any(problem.startswith(f"{place} {line}: ") and told in problem for problem in problems), (
            line,
            problems,
        )
    assert problems[-1].endswith("5 of 6 definitions are wrong; nothing was applied")
    assert (await cli("get", f"{team}-ok")).code == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no definition in it"),
        ("\x00\x01", "binary"),
        ("id: a\n\tevery: 1h\n", "indent with blanks"),
        ("a: &x [1, 2]\nb: [*x, *x, *x]\n", "aliases and anchors are refused"),
        ("id: big\nevery: 1h\nqueue: q\ntype: t\npayload: " + "x" * 10_000_000, "10000002 bytes, more than 65536"),
        ("[" * 100_000, "nested deeper"),
        ("id: y\nevery: 1h\nqueue: on\ntype: 1_000\npayload: no\nlabels: {a: 1}\n", "line 6: y: labels.a must be text"),
    ],
)
async def test_hostile_input(cli: Cli, content: str, told: str) -> None:
    """Whatever comes in on stdin ends in one sentence and exit code 2, soon."""
    result = await asyncio.wait_for(cli("apply", "-f", "-", stdin=content), 30)
    assert result.code == 2
    assert told in result.err
    assert result.out == ""
    assert len(result.err) < 400


async def test_two_at_once_and_a_change_meanwhile(cli: Cli, standing: Standing, team: str, tmp_path: Path) -> None:
    """Two applies of the same files come to the same schedules, written once; nobody is overwritten unseen."""
    file = write(tmp_path / "x.json", *(definition(f"{team}-{n}", team) for n in range(20)))
    results = await asyncio.gather(*(run("apply", "-f", str(file), NATS_URL=standing.url) for _ in range(3)))
    assert [result.code for result in results] == [0, 0, 0], results
    assert len(await revisions(standing, team)) == 20
    again = await cli("apply", "-f", str(file))
    assert again.out == "20 unchanged\n"


@pytest.mark.parametrize("many", MANY)
async def test_many_twice(cli: Cli, standing: Standing, team: str, tmp_path: Path, many: int) -> None:
    """A directory of many files, applied twice: the second time nothing is written."""
    team = f"{team}-{many}"
    for number in range(many):
        folder = tmp_path / "all" / str(number % 10)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.yaml").write_text(
            f"id: {team}-{number}\ncron: {number % 60} {number % 24} * * *\nqueue: q\ntype: t\n"
            f"labels: {{team: {team}}}\n"
        )
    first = await cli("apply", "-f", str(tmp_path / "all"))
    assert first.out.splitlines()[-1] == f"{many:,} created, 0 unchanged", first.err
    before = await revisions(standing, team)
    second = await cli("apply", "-f", str(tmp_path / "all"))
    assert (second.code, second.out) == (0, f"{many:,} unchanged\n")
    assert await revisions(standing, team) == before
    assert len(before) == many


# --- prune


async def test_prune(cli: Cli, standing: Standing, team: str, tmp_path: Path) -> None:
    """What a selector names and no file does is deleted, after it was shown, agreed to and exported."""
    keep, gone, foreign, owned = (f"{team}-{name}" for name in ("keep", "gone", "foreign", "owned"))
    labels = {"team": team, "schedd-worker": "mailer"}
    everything = [definition(keep, team), definition(gone, team, payload={"n": "1e3"}), definition(foreign, "other"),
                  definition(owned, team, labels=labels)]  # fmt: skip
    assert (await cli("apply", "-f", str(write(tmp_path / "all.json", *everything)))).code == 0
    file, export = str(write(tmp_path / "some.json", definition(keep, team))), str(tmp_path / "gone.yaml")
    prune = ("apply", "-f", file, "--prune", "-l", f"team={team}", "--export", export)
    shown = await cli(*prune, "--dry-run")
    assert shown.code == 0
    assert [line.split(",")[0].split(":")[0] for line in shown.out.splitlines()] == [
        f"pruned    {gone}", f"kept      {owned}", "Would be",
    ]  # fmt: skip
    refused = await cli(*prune)
    assert refused.code == 2
    assert "--yes" in refused.err
    assert len(await revisions(standing, team)) == 3
    done = await cli(*prune, "--yes")
    assert done.code == 0, done.err
    assert "1 unchanged, 1 pruned, 1 kept" in done.out
    assert set(await revisions(standing, team)) == {keep, owned}
    assert (await cli("get", foreign)).code == 0
    back = await cli("apply", "-f", export, "--json")
    assert back.json["counts"]["created"] == 1
    assert (await cli("get", gone, "--json")).json["schedule"] == {
        name: value for name, value in everything[1].items() if name != "id"
    }
    again = await cli(*prune, "--yes")
    assert again.code == 2
    assert "nothing was deleted" in again.err
    assert gone in await revisions(standing, team)


async def test_prune_needs_to_know_among_which(cli: Cli, standing: Standing, team: str, tmp_path: Path) -> None:
    """Without a selector or --all nothing is pruned, nor by files that the selector does not match, nor by none."""
    file = str(write(tmp_path / "x.json", definition(team, team)))
    assert (await cli("apply", "-f", file)).code == 0
    (tmp_path / "empty").mkdir()
    (tmp_path / "void.yaml").write_text("# nothing\n")
    for arguments, told in (
        (("-f", file, "--prune"), "say among which"),
        (("-f", file, "--prune", "--all", "-l", "a=b"), "say among which"),
        (("-f", file, "-l", f"team={team}"), "-l is for --prune"),
        (("-f", file, "--prune", "-l", "team=other", "--yes"), "does not match its labels"),
        (("-f", file, "--prune", "-l", "team in (a", "--yes"), "closing bracket"),
        (("-f", str(tmp_path / "empty"), "--prune", "-l", f"team={team}", "--yes"), "no definition in it"),
        (("-f", str(tmp_path / "void.yaml"), "--prune", "-l", f"team={team}", "--yes"), "no definition in it"),
        (("-f", "-", "--prune", "-l", f"team={team}", "--yes"), "no definition in it"),
    ):
        result = await cli("apply", *arguments)
        assert result.code == 2, arguments
        assert told in result.err
    assert list(await revisions(standing, team)) == [team]


async def test_prune_all_would_take_everything(cli: Cli, team: str, tmp_path: Path) -> None:
    """--all with a dry run prints exactly what would go: everything but what the file names and code declares."""
    file = str(write(tmp_path / "x.json", definition(team, team)))
    assert (await cli("apply", "-f", file)).code == 0
    names = set((await cli("list", "-l", "!schedd-worker", "--names")).out.split())
    shown = await cli("apply", "-f", file, "--prune", "--all", "--dry-run", "--json")
    assert {item["id"] for item in shown.json["items"] if item["change"] == "pruned"} == names - {team}
    plain = await cli("apply", "-f", file, "--prune", "--dry-run", "--json")
    assert (plain.code, plain.json["items"]) == (0, shown.json["items"]), "to look needs no selector"
    assert "say among which" in plain.err


# --- definitions out and in again


async def test_what_is_listed_applies_to_nothing(cli: Cli, standing: Standing, team: str, tmp_path: Path) -> None:
    """`list -o yaml | apply -f -` changes nothing, whatever the definitions hold; nor does JSON."""
    payload = {"text": "1e3", "no": "no", "big": 2**70, "half": 0.5, "deep": {"a": [None, True, "ü\n# x: y"]}}
    write(
        tmp_path / "x.json",
        definition(f"{team}-a", team, payload=payload),
        definition(f"{team}-b", team, paused=True),
        _cron(f"{team}-c", team, "*/5 * * * *"),
    )
    assert (await cli("apply", "-f", str(tmp_path / "x.json"))).code == 0
    async with Client.connect(standing.url) as client:
        kv = await client.connection.jetstream().key_value("schedd-schedules")
        await kv.put(f"{team}-d", json.dumps({"evry": "1h", "labels": {"team": team}}).encode())
    await asyncio.sleep(0.2)
    before = await revisions(standing, team)
    assert len(before) == 4
    for form in ("yaml", "json"):
        listed = await cli("list", "-l", f"team={team}", "-o", form)
        applied = await cli("apply", "-f", "-", stdin=listed.out)
        assert (applied.code, applied.out) == (0, "4 unchanged\n"), applied.err
        assert f"warning: {team}-d is invalid" in applied.err
    assert await revisions(standing, team) == before


async def test_get_as_a_file(cli: Cli, team: str, tmp_path: Path) -> None:
    """`get -o` shows definitions as files have them: one, several, or by a selector; what is missing is told."""
    one = definition(f"{team}-1", team)
    write(tmp_path / "x.json", one, definition(f"{team}-2", team))
    assert (await cli("apply", "-f", str(tmp_path / "x.json"))).code == 0
    assert (await cli("get", f"{team}-1", "-o", "json")).json == one
    assert (await cli("get", f"{team}-1", "-o", "yaml")).out.startswith(f"---\nid: {team}-1\nevery: 1h\n")
    both = await cli("get", f"{team}-1", "nobody", f"{team}-2", "-o", "json")
    assert [item["id"] for item in both.json] == [f"{team}-1", f"{team}-2"]
    assert both.code == 3
    assert "nobody" in both.err
    assert len((await cli("get", "-l", f"team={team}", "--json")).json) == 2
    assert "2" in (await cli("get", "-l", f"team={team}")).out
    for arguments in (("get", "a", "-o", "xml"), ("get", "a", "-o", "yaml", "--json"), ("get", "a", "-l", "b=c")):
        assert (await cli(*arguments)).code == 2


async def test_diff(cli: Cli, standing: Standing, team: str, tmp_path: Path) -> None:
    """`diff` tells what apply would do, writes nothing, and its exit code says whether that is anything, if asked."""
    file = str(write(tmp_path / "x.json", definition(team, team)))
    new = await cli("diff", "-f", file, "--exit-code")
    assert (new.code, new.out.splitlines()[-1]) == (1, "Would be: 1 created, 0 unchanged")
    assert (await cli("diff", "-f", file)).code == 0
    assert await revisions(standing, team) == {}
    await cli("apply", "-f", file)
    same = await cli("diff", "-f", file, "--exit-code")
    assert (same.code, same.out) == (0, "1 unchanged\n")


# --- selectors


async def test_bulk_verbs(cli: Cli, standing: Standing, team: str, tmp_path: Path) -> None:
    """A selector is shown what it finds and asked for; each verb does its work on all of them and on no other."""
    ids = [f"{team}-{n}" for n in range(5)]
    other = definition(f"{team}-other", team, labels={"team": "other"})
    write(tmp_path / "x.json", *(definition(schedule_id, team) for schedule_id in ids), other)
    assert (await cli("apply", "-f", str(tmp_path / "x.json"))).code == 0
    mine = ("-l", f"team={team}")
    looked = await cli("pause", *mine, "--dry-run")
    assert (looked.code, looked.out) == (0, f"5 schedules to pause: {', '.join(ids)}\n")
    asked = await cli("pause", *mine)
    assert asked.code == 2
    assert "--yes" in asked.err
    assert (await cli("pause", ids[0], "--note", "mine")).code == 0
    paused = await cli("pause", *mine, "--note", "all", "--yes")
    assert paused.code == 0, paused.err
    assert paused.out.splitlines()[1:] == [f"{schedule_id} paused" for schedule_id in ids[1:]]
    assert "(paused already: 1)" in paused.out
    assert (await cli("get", ids[0], "--json")).json["schedule"]["pause_note"] == "mine"
    assert (await cli("get", f"{team}-other", "--json")).json["status"]["state"] == "active"
    assert len((await cli("trigger", *mine, "--yes", "--json")).json) == 5
    assert (await cli("resume", *mine, "--yes")).out.count("resumed") == 5
    assert "0 schedules to resume" in (await cli("resume", *mine, "--yes")).out
    deleted = await cli("delete", *mine, "--yes", "--json")
    assert [reply["id"] for reply in deleted.json] == ids
    assert await revisions(standing, team) == {}
    assert (await cli("get", f"{team}-other")).code == 0
    for arguments in (("delete",), ("delete", "a", "--all"), ("trigger", "--all"), ("pause", "-l", "a=")):
        assert (await cli(*arguments)).code == 2, arguments
