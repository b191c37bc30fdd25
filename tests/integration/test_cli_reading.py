"""The commands of `schedctl` that show what is there: a real process beside a stand-in for the daemon's API."""

from __future__ import annotations

import pytest

from tests.integration.cli_process import HELLO, Cli
from tests.integration.fake_daemon import FakeDaemon, execution


async def test_list_json_is_one_array_of_all_pages(cli: Cli, daemon: FakeDaemon) -> None:
    """`list --json` holds every schedule exactly as the API gives it, however many pages that takes."""
    for number in range(5):
        daemon.put(f"s{number}", HELLO)
    result = await cli("list", "--json")
    assert result.code == 0
    assert result.json == [daemon._item(f"s{number}") for number in range(5)]
    assert len([name for name, _ in daemon.requests if name == "schedule.list"]) == 3


async def test_list_names(cli: Cli, daemon: FakeDaemon) -> None:
    """`--names` prints ids, one a line; `--limit` ends it early."""
    for number in range(5):
        daemon.put(f"s{number}", HELLO)
    assert (await cli("list", "--names")).out == "s0\ns1\ns2\ns3\ns4\n"
    assert (await cli("list", "--names", "--limit", "3")).out == "s0\ns1\ns2\n"


async def test_list_filters_reach_the_daemon(cli: Cli, daemon: FakeDaemon) -> None:
    """Prefix, labels and state are asked of the daemon, not sieved here."""
    daemon.put("a1", HELLO)
    result = await cli("list", "--prefix", "a", "--label", "x=y", "--state", "active", "--names")
    assert result.out == "a1\n"
    assert daemon.requests[0][1] | {"limit": 0} == {
        "prefix": "a", "labels": {"x": "y"}, "state": "active", "limit": 0,
    }  # fmt: skip


async def test_list_table_at_80_columns(cli: Cli, daemon: FakeDaemon) -> None:
    """At 80 columns no line is longer, states and instants are whole, long ids wrap without loss."""
    name = "a-rather-long-schedule-id-with-many-words-in-it"
    daemon.put(name, {**HELLO, "paused": True})
    daemon.put("b", {"cron": "never"})
    result = await cli("list", COLUMNS="80")
    assert all(len(line) <= 80 for line in result.out.splitlines())
    for word in ("paused", "invalid", "timed_out", "2026-11-21 08:10:00.500Z", "every 10s"):
        assert word in result.out
    assert name in "".join(line.split(" ")[0] for line in result.out.splitlines())
    assert "\x1b" not in result.out


async def test_a_pipe_cuts_nothing(cli: Cli, daemon: FakeDaemon) -> None:
    """Into a pipe every row is one line, whole, with the wide columns."""
    name = "x" * 128
    daemon.put(name, {**HELLO, "type": "t" * 128})
    lines = (await cli("list")).out.splitlines()
    assert len(lines) == 2
    assert name in lines[1]
    assert "t" * 128 in lines[1]


@pytest.mark.parametrize("noun", [("list",), ("executions", "list")])
async def test_empty_lists_tell_what_to_do(cli: Cli, noun: tuple[str, ...]) -> None:
    """An empty table is a hint on stderr; an empty array stays an array; no names are no lines."""
    table = await cli(*noun)
    assert table.code == 0
    assert table.out == ""
    assert table.err.startswith("No ")
    assert (await cli(*noun, "--json")).json == []
    assert (await cli(*noun, "--names")).out == ""


async def test_get(cli: Cli, daemon: FakeDaemon) -> None:
    """`get` shows definition, state, next fires; with --json the API's body."""
    daemon.put("hello", HELLO)
    shown = (await cli("get", "hello")).out
    for word in ("active", "every 10s", '"queue": "default"', "2026-11-21 09:00:00+01:00", "after a gap"):
        assert word in shown
    assert (await cli("get", "hello", "--json")).json == daemon._item("hello")


async def test_get_shows_what_is_wrong(cli: Cli, daemon: FakeDaemon) -> None:
    """An invalid schedule shows its error; a value that is no JSON shows in base64."""
    daemon.put("bad", {"cron": "never"})
    daemon.put("binary", None)
    daemon.raw["binary"] = b"\x00\xff"
    shown = (await cli("get", "bad")).out
    assert "invalid" in shown
    assert "'never' is no cron expression" in shown
    assert "AP8=" in (await cli("get", "binary")).out


async def test_a_terminal_that_is_not_utf8(cli: Cli, daemon: FakeDaemon) -> None:
    """What stdout cannot encode is spelled out, so that JSON stays the same JSON; no command fails for it."""
    daemon.put("x", {**HELLO, "name": "größe 🚀"})
    result = await cli("get", "x", "--json", PYTHONIOENCODING="ascii")
    assert result.code == 0, result.err
    assert result.json["schedule"]["name"] == "größe 🚀"
    assert "gr\\u00f6\\u00dfe" in (await cli("get", "x", PYTHONIOENCODING="ascii")).out


async def test_control_characters_never_reach_the_terminal(cli: Cli, daemon: FakeDaemon) -> None:
    """An escape sequence somebody put into a definition is spelled out."""
    daemon.put("evil", {**HELLO, "name": "\x1b[2Jboo", "type": "t\nx"})
    result = await cli("get", "evil")
    assert "\x1b" not in result.out
    assert "\\x1b[2Jboo" in result.out
    assert "\x1b" not in (await cli("list")).out


async def test_executions_list(cli: Cli, daemon: FakeDaemon) -> None:
    """Every state is whole at 80 columns, with lateness, duration and reason; --json is the records, raw."""
    states = ["succeeded", "superseded", "timed_out", "cancelled"]
    daemon.executions = [execution(number=place, state=state) for place, state in enumerate(states)]
    daemon.executions.append(execution(number=9, state="failed", error={"type": "ValueError", "message": "no \x1b"}))
    table = await cli("executions", "list", COLUMNS="80")
    assert table.code == 0, table.err
    for word in (*states, "hello.20261121T080000000Z", "12ms", "250ms", "1/3", "ValueError"):
        assert word in table.out
    assert all(len(line) <= 80 for line in table.out.splitlines())
    assert (await cli("executions", "list", "--json")).json == daemon.executions
    one = await cli("executions", "list", "--schedule", "hello", "--state", "failed", "--names")
    assert one.out == "hello.20261121T080009000Z\n"


async def test_retry_of_many(cli: Cli, daemon: FakeDaemon) -> None:
    """A filter finds the dead letters; a dry run shows them; without a terminal it needs --yes; one request each, for
    the drive that was seen; what fails keeps no other from going, and is told."""
    states = ["failed", "succeeded", "lost", "timed_out", "missed"]
    daemon.executions = [execution(number=place, state=state) for place, state in enumerate(states)]
    dry = await cli("executions", "retry", "--queue", "default", "--dry-run")
    assert (dry.code, dry.out.count("hello.2026")) == (0, 3), dry.err
    assert (await cli("executions", "retry", "--queue", "default", "--dry-run", "--json")).json == [
        daemon.executions[place] for place in (0, 2, 3)
    ]
    refused = await cli("executions", "retry", "--queue", "default")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert not [body for endpoint, body in daemon.requests if endpoint == "execution.retry"]
    done = await cli("executions", "retry", "--state", "failed,lost,missed", "--yes", "--rate", "1000")
    assert (done.code, done.out) == (1, "2 executions retried.\n")
    assert "not retried: hello.20261121T080004000Z: execution" in done.err
    assert next(body for endpoint, body in daemon.requests if endpoint == "execution.retry") == {
        "id": "hello.20261121T080000000Z", "expected_drive": 0,
    }  # fmt: skip
    nothing = await cli("executions", "retry", "--state", "failed", "--yes")
    assert (nothing.code, nothing.err) == (0, "No execution matches (--state failed).\n")


async def test_retry_of_some(cli: Cli, daemon: FakeDaemon) -> None:
    """By ids nobody is asked; one that is not there is told at the end; one id shows what it came to."""
    daemon.executions = [execution(number=place, state="failed") for place in range(3)]
    ids = [each["id"] for each in daemon.executions]
    one = await cli("executions", "retry", ids[0], "--payload", '{"n": 2}')
    assert (one.code, one.out) == (0, f"{ids[0]}: retried, queued\n"), one.err
    assert daemon.executions[0]["payload"] == {"n": 2}
    some = await cli("executions", "retry", ids[1], "gone.20261121T080000000Z", ids[2], "--json")
    assert (some.code, [each["id"] for each in some.json]) == (1, ids[1:])
    assert "there is no execution 'gone.20261121T080000000Z'" in some.err
    assert (await cli("executions", "retry", "gone.20261121T080000000Z")).code == 3
    for wrong in ([], [ids[0], "--state", "failed"], [*ids, "--payload", "1"], ["--state", "broken", "--yes"]):
        assert (await cli("executions", "retry", *wrong)).code == 2, wrong


async def test_older_ones_are_told(cli: Cli, daemon: FakeDaemon) -> None:
    """A list without a schedule may not see all there are, and says how to reach them."""
    daemon.executions = [execution(state="failed")]
    daemon.older = True
    for words in (["list"], ["retry", "--state", "failed", "--dry-run"], ["cancel", "--state", "lost", "--dry-run"]):
        assert "--schedule ID" in (await cli("executions", *words)).err
    assert "--schedule ID" not in (await cli("executions", "list", "--schedule", "hello")).err


async def test_executions_show(cli: Cli, daemon: FakeDaemon) -> None:
    """`show` has history, error with traceback, result."""
    failure = {"type": "ValueError", "message": "no", "traceback": "File x\n  raise ValueError"}
    daemon.executions = [execution(state="failed", error=failure, result={"answer": 42})]
    name = daemon.executions[0]["id"]
    shown = (await cli("executions", "show", name)).out
    for word in ("failed", "  raise ValueError", '"answer": 42', "History", "queued", "took 250ms"):
        assert word in shown
    assert (await cli("executions", "show", name, "--json")).json == daemon.executions[0]


async def test_status(cli: Cli, daemon: FakeDaemon) -> None:
    """`status` names leader, epoch, replicas, watermark, counts, tzdata, server, clock skew."""
    shown = (await cli("status")).out
    for word in ("a, epoch 7", "2026-11-21 08:10:00.500Z", "3 active, 1 paused, 0 invalid", "2026a", "2.15.1", "-4 ms"):
        assert word in shown
    assert (await cli("status", "--json")).json == daemon._status_get({})
    daemon.leader = None
    assert "none" in (await cli("status")).out


async def test_did_you_mean(cli: Cli, daemon: FakeDaemon) -> None:
    """An id that is like one that is there is named with it; else how to see what is there."""
    daemon.schedules = {"hello": (1, HELLO), "hotel": (2, HELLO)}
    found = await cli("get", "helo")
    assert (found.code, "did you mean 'hello'" in found.err) == (3, True)
    found = await cli("pause", "h-nothing-like-it")
    assert (found.code, "`schedctl list` shows those that are" in found.err) == (3, True)


async def test_names_of_executions(cli: Cli, daemon: FakeDaemon) -> None:
    """Their ids, also of those that no worker has."""
    daemon.executions = [execution("a", 1, worker=None), execution("b", 2)]
    found = await cli("executions", "list", "--names")
    assert (found.code, found.out.split()) == (0, [each["id"] for each in daemon.executions])


async def test_status_detailed(cli: Cli, daemon: FakeDaemon) -> None:
    """Every check with its level, advice only for what is not well; exit code 1 for CRIT, 0 for WARN."""
    found = await cli("status", "--detailed")
    assert found.code == 0
    for word in ("OK     leader", "WARN   queue EMAIL", "90 waiting", "start more workers", "All in all: WARN"):
        assert word in found.out
    daemon.leader = None
    found = await cli("status", "--detailed")
    assert (found.code, "All in all: CRIT" in found.out, "wait for one lease" in found.out) == (1, True, True)
    found = await cli("status", "--detailed", "--json")
    assert (found.code, found.json) == (1, daemon._status_health({}))


async def test_preview(cli: Cli, daemon: FakeDaemon) -> None:
    """`preview` takes an id or the flags; queue and type are not needed to ask when something fires."""
    assert (await cli("preview", "hello", "--count", "3", "--json")).json == daemon._schedule_preview({"count": 3})
    assert daemon.requests[-1][1] == {"id": "hello", "count": 3}
    nameless = await cli("preview", "--cron", "H 9 * * *")
    assert "hashed from the id" in nameless.err
    assert "hashed" not in (await cli("preview", "hello", "--cron", "H 9 * * *")).err
    result = await cli("preview", "--cron", "0 9 * * *", "--after", "2026-11-21T09:00:00+01:00")
    assert "2026-11-21 09:00:00+01:00" in result.out
    assert daemon.requests[-1][1] == {"schedule": {"cron": "0 9 * * *"}, "after": "2026-11-21T08:00:00.000Z"}
