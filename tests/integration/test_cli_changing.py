"""`schedctl add` and the commands that change what is there: a real process beside a stand-in for the daemon's API."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.cli_process import HELLO, Cli
from tests.integration.fake_daemon import LATER, FakeDaemon

# --- add


async def test_add_by_flags(cli: Cli, daemon: FakeDaemon) -> None:
    """Flags named as the fields make the definition, and adding creates only."""
    result = await cli(
        "add", "hello", "--cron", "0 9 * * 1-5", "--timezone", "Europe/Berlin", "--queue", "EMAIL", "--type", "email:m",
        "--payload", '{"any": 1}', "--header", "A-B=c=d", "--label", "team=x", "--max-tries", "5",
        "--backoff-factor", "1.5", "--catch-up", "all",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "hello stored as revision 1, next 2026-11-21 08:10:00.500Z" in result.out
    assert "warning: w" in result.err
    (_, request), *_ = daemon.requests
    assert request == {
        "id": "hello",
        "expected_revision": 0,
        "schedule": {
            "cron": "0 9 * * 1-5", "timezone": "Europe/Berlin", "queue": "EMAIL", "type": "email:m",
            "payload": {"any": 1}, "headers": {"A-B": "c=d"}, "labels": {"team": "x"}, "max_tries": 5,
            "backoff": {"factor": 1.5}, "catch_up": {"mode": "all"},
        },
    }  # fmt: skip


async def test_add_leaves_what_exists_alone(cli: Cli, daemon: FakeDaemon) -> None:
    """A second `add` of one id is a conflict (exit 4) that names the way out; --replace takes it."""
    daemon.put("hello", HELLO)
    arguments = ("add", "hello", "--every", "5s", "--queue", "q", "--type", "t")
    refused = await cli(*arguments)
    assert refused.code == 4
    assert "--replace" in refused.err
    assert daemon.schedules["hello"][1] == HELLO
    assert (await cli(*arguments, "--replace")).code == 0
    assert daemon.schedules["hello"][1]["every"] == "5s"


async def test_add_from_a_file(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> None:
    """A file of YAML documents adds each; an instant needs no quotes; the JSON answer is an array."""
    file = tmp_path / "s.yaml"
    file.write_text(
        "id: one\nat: 2026-11-21T08:00:00Z\nqueue: q\ntype: t\n---\n- {id: two, every: 10m, queue: q, type: t}\n"
    )
    result = await cli("add", "-f", str(file), "--json")
    assert result.code == 0, result.err
    assert [reply["id"] for reply in result.json] == ["one", "two"]
    assert daemon.schedules["one"][1] == {"at": "2026-11-21T08:00:00Z", "queue": "q", "type": "t"}


async def test_add_from_stdin_goes_on_after_a_refusal(cli: Cli, daemon: FakeDaemon) -> None:
    """One bad definition of a file does not keep the others out; it decides the exit code."""
    text = json.dumps([{"id": "bad", "cron": "never"}, {"id": "good", **HELLO}])
    result = await cli("add", "-f", "-", stdin=text)
    assert result.code == 2
    assert "bad: cron: 'never'" in result.err
    assert "1 of 2 schedules were refused" in result.err
    assert list(daemon.schedules) == ["good"]


async def test_add_json(cli: Cli, daemon: FakeDaemon) -> None:
    """What `add --json` answers is the API's body."""
    result = await cli("add", "x", "--every", "1m", "--queue", "q", "--type", "t", "--json")
    assert result.json == {"id": "x", "revision": 1, "generation": 1, "next": [LATER], "warnings": ["w"]}


# --- changes


async def test_pause_resume_delete(cli: Cli, daemon: FakeDaemon) -> None:
    """Each verb does its work, takes several ids, and answers with the API's body if asked."""
    for name in ("a", "b"):
        daemon.put(name, HELLO)
    paused = await cli("pause", "a", "--note", "why", "--until", "2026-11-21T09:00:00+01:00", "--json")
    assert paused.json == {"id": "a", "revision": 3}
    assert daemon.schedules["a"][1]["paused_until"] == "2026-11-21T08:00:00.000Z"
    assert (await cli("resume", "a", "b")).out == "a resumed\nb resumed\n"
    assert (await cli("delete", "a", "b")).code == 0, "a script is not asked"
    assert daemon.schedules == {}


async def test_one_of_several_is_not_there(cli: Cli, daemon: FakeDaemon) -> None:
    """The others are done all the same, each told; the exit code and the last sentence tell of the failure."""
    for name in ("a", "c"):
        daemon.put(name, HELLO)
    result = await cli("delete", "a", "b", "c", "--yes")
    assert (result.code, result.out) == (3, "a deleted\nc deleted\n")
    assert "b: there is no schedule 'b'" in result.err
    assert result.err.endswith("schedctl: 1 of 3 schedules were not deleted\n")
    assert daemon.schedules == {}


async def test_trigger(cli: Cli, daemon: FakeDaemon) -> None:
    """`trigger` says which execution it made; the payload goes as it was typed."""
    daemon.put("hello", HELLO)
    result = await cli("trigger", "hello", "--nonce", "n1", "--payload", "null")
    assert result.out == "hello.20261121T080000000Z-mn1 queued\n"
    assert daemon.requests[-1][1] == {"id": "hello", "nonce": "n1", "payload": None}
    assert (await cli("trigger", "hello", "--json")).json["state"] == "queued"


async def test_not_found_is_3(cli: Cli) -> None:
    """What is not there is exit code 3, and one sentence."""
    for arguments in (("get", "x"), ("delete", "x"), ("pause", "x"), ("trigger", "x")):
        result = await cli(*arguments)
        assert result.code == 3, arguments
        assert result.err == "schedctl: there is no schedule 'x'; `schedctl list` shows those that are\n"
    result = await cli("executions", "show", "x")
    assert (result.code, result.err) == (3, "schedctl: there is no execution 'x'\n")
