"""`schedctl` from outside: what it prints, files, exit codes, connection (contract, part 8)."""

from __future__ import annotations

import asyncio
import re

from tests.acceptance.commands.running import Cli, write_context
from tests.acceptance.contract_site import Caller, few_at_once
from tests.acceptance.harness import Site

MANUAL = {"manual": True, "queue": "none", "type": "t"}

# --- schedctl: what it prints


async def test_a_schedule_by_its_flags(cli: Cli, api: Caller) -> None:
    """Each flag of this version fills the field it is named after."""
    given = [
        "add", "flags", "--cron", "0 9 * * 1-5", "--cron", "@daily", "--timezone", "Europe/Berlin",
        "--queue", "EMAIL", "--type", "email:monthly", "--payload", '{"a": [1, null, 1.50]}', "--header", "X-A=b=c",
        "--overlap", "allow", "--max-tries", "5", "--timeout", "10s", "--backoff-initial", "2s", "--backoff-max", "1m",
        "--backoff-factor", "1.5", "--backoff-jitter", "0", "--start-delay", "5s", "--catch-up", "none",
        "--catch-up-window", "1h", "--catch-up-max", "7", "--catch-up-after", "20s", "--name", "Nice",
        "--description", "what for", "--label", "team=a", "--label", "env=prod", "--paused", "--pause-note", "why",
        "--paused-until", "2190-01-01T00:00:00Z", "--retention", "1d", "--json",
    ]  # fmt: skip
    added = (await cli.ok(*given)).json
    stored = await api.ask("schedule.get", {"id": "flags"})
    assert (added["id"], added["revision"]) == ("flags", stored["revision"])
    assert stored["schedule"] == {
        "cron": ["0 9 * * 1-5", "@daily"], "timezone": "Europe/Berlin", "queue": "EMAIL", "type": "email:monthly",
        "payload": {"a": [1, None, 1.5]}, "headers": {"X-A": "b=c"}, "overlap": "allow", "max_tries": 5,
        "timeout": "10s", "backoff": {"initial": "2s", "max": "1m", "factor": 1.5, "jitter": 0.0}, "start_delay": "5s",
        "catch_up": {"mode": "none", "window": "1h", "max": 7, "after": "20s"}, "name": "Nice",
        "description": "what for", "labels": {"team": "a", "env": "prod"}, "paused": True, "pause_note": "why",
        "paused_until": "2190-01-01T00:00:00Z", "retention": {"age": "1d"},
    }  # fmt: skip
    for flags in (
        ("--every", "1h", "--anchor", "2026-01-01T00:07:00Z"),
        ("--at", "2190-01-01T00:00:00Z", "--at", "2190-01-02T00:00:00Z", "--payload-base64", "AAE="),
        ("--manual",),
    ):
        await cli.ok("add", "more", *flags, "--queue", "q", "--type", "t", "--replace")
    assert (await api.ask("schedule.get", {"id": "more"}))["schedule"] == {"manual": True, "queue": "q", "type": "t"}


async def test_json_is_the_body_of_the_api(cli: Cli, api: Caller) -> None:
    """`get`, `preview`, `executions show`, `status`: what a plain request answers, and nothing beside it."""
    await api.ask("schedule.put", {"id": "body", "schedule": {**MANUAL, "payload": {"n": 1.50}, "labels": {"a": "b"}}})
    made = (await cli.ok("trigger", "body", "--json", "--nonce", "n1", "--payload", "null")).json
    assert made == await api.ask("schedule.trigger", {"id": "body", "nonce": "n1"})
    after = "2026-03-28T00:00:00Z"
    gap = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    shown = await asyncio.gather(
        cli.ok("get", "body", "--json"),
        cli.ok("executions", "show", made["execution_id"], "--json"),
        cli.ok("preview", "--cron", gap["cron"], "--timezone", gap["timezone"], "--after", after, "--json"),
        cli.ok("executions", "list", "--schedule", "body", "--json"),
        cli.ok("list", "--prefix", "body", "--label", "a=b", "--state", "active", "--json"),
        cli.ok("status", "--json"),
    )
    expected = [
        await api.ask("schedule.get", {"id": "body"}),
        await api.ask("execution.get", {"id": made["execution_id"]}),
        await api.ask("schedule.preview", {"schedule": gap, "after": after}),
        (await api.ask("execution.list", {"schedule": "body"}))["items"],
        (await api.ask("schedule.list", {"prefix": "body"}))["items"],
    ]
    assert [each.json for each in shown[:-1]] == expected
    assert expected[1]["payload"] is None
    status = await api.ask("status.get")
    assert shown[-1].json.keys() == status.keys()
    assert shown[-1].json["leader"] == status["leader"]
    paused = (await cli.ok("pause", "body", "--note", "x", "--json")).json
    assert paused == {"id": "body", "revision": (await api.ask("schedule.get", {"id": "body"}))["revision"]}
    assert (await cli.ok("resume", "body", "--json")).json["revision"] > paused["revision"]
    assert (await cli.ok("delete", "body", "--json")).json.keys() == {"id", "revision"}
    assert (await api.refused("schedule.get", {"id": "body"})).code == "not_found"


async def test_a_list_is_one_array_over_all_pages(cli: Cli, site: Site) -> None:
    """More items than any page holds: one array, or one id a line; `--limit` ends either."""
    ids = [f"many-{number:04d}" for number in range(1050)]
    await asyncio.gather(*(site.put(each, MANUAL) for each in ids))
    whole, names, some = await asyncio.gather(
        cli.ok("list", "--prefix", "many-", "--json"),
        cli.ok("list", "--prefix", "many-", "--names"),
        cli.ok("list", "--prefix", "many-", "--names", "--limit", "3"),
    )
    assert [item["id"] for item in whole.json] == ids
    assert names.lines == ids
    assert some.lines == ids[:3]
    assert (await cli("list", "--prefix", "nothing", "--json")).json == []
    empty = await cli("list", "--prefix", "nothing")
    assert (empty.code, empty.out) == (0, "")
    assert empty.err, "a hint"


async def test_tables_at_80_columns(cli: Cli, api: Caller) -> None:
    """With COLUMNS=80 no line is longer, and ids, states and instants are there; without, nothing is cut."""
    long = "a-rather-long-name-of-a-schedule.with.parts"
    await api.ask("schedule.put", {"id": long, "schedule": {**MANUAL, "queue": "Q" * 40, "type": "some:long:type"}})
    made = (await api.ask("schedule.trigger", {"id": long}))["execution_id"]
    commands = [
        ("list", "--prefix", long), ("get", long), ("executions", "list", "--schedule", long),
        ("executions", "show", made), ("status",), ("preview", "--every", "10s"),
    ]  # fmt: skip
    narrow = await few_at_once(cli.ok(*each, COLUMNS="80") for each in commands)
    assert max(len(line) for each in narrow for line in each.lines) <= 80
    assert "active" in narrow[0].out
    assert "queued" in narrow[2].out
    assert "queued" in narrow[3].out
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", narrow[3].out)
    assert "leader" in narrow[4].out.lower()
    wide = await few_at_once(cli.ok(*each) for each in commands[:3:2])
    assert all(len(each.lines) == 2 for each in wide), "a header and a row"
    assert made in wide[1].out
    assert all("\x1b" not in each.out for each in narrow)


# --- schedctl: files


FILES = {
    "one.yaml": "id: y1\ncron: '0 9 * * 1-5'\ntimezone: Europe/Berlin\nqueue: q\ntype: t\npayload: {a: [1, no, 1.5]}\n",
    "list.yaml": "- {id: y2, manual: true, queue: q, type: t}\n- {id: y3, every: 1h, queue: q, type: t}\n",
    "documents.yaml": "id: y4\nat: 2190-01-01T00:00:00Z\nqueue: q\ntype: t\n---\n"
    "{id: y5, every: 1h, queue: q, type: t}\n",
    "one.json": '{"id": "j1", "manual": true, "queue": "q", "type": "t"}',
    "list.json": '[{"id": "j2", "every": "1h", "queue": "q", "type": "t"}, {"id": "j3", "at": "2190-01-01T00:00:00Z",'
    ' "queue": "q", "type": "t"}]',
}  # fmt: skip


async def test_definitions_from_files(cli: Cli, api: Caller) -> None:
    """One, a list, YAML documents, JSON, from a file or stdin: each is stored under its id, without it."""
    for name, text in FILES.items():
        (cli.folder / name).write_text(text)
    results = await few_at_once(cli.ok("add", "-f", name) for name in FILES)
    assert [len(result.lines) for result in results] == [1, 2, 2, 1, 2]
    first = (await api.ask("schedule.get", {"id": "y1"}))["schedule"]
    assert first == {
        "cron": "0 9 * * 1-5", "timezone": "Europe/Berlin", "queue": "q", "type": "t", "payload": {"a": [1, "no", 1.5]},
    }  # fmt: skip
    for each in ("y2", "y3", "y4", "y5", "j1", "j2", "j3"):
        assert "id" not in (await api.ask("schedule.get", {"id": each}))["schedule"]
    stdin = await cli.ok("add", "-f", "-", "--json", stdin=FILES["one.json"].replace("j1", "s1").encode())
    assert stdin.json["id"] == "s1"
    several = await cli.ok("add", "-f", "list.json", "--replace", "--json")
    assert [each["id"] for each in several.json] == ["j2", "j3"]
    assert (await cli.ok("preview", "-f", "one.yaml", "--count", "3", "--json")).json == await api.ask(
        "schedule.preview", {"id": "y1", "count": 3}
    )


async def test_files_that_are_wrong(cli: Cli, api: Caller) -> None:
    """Unreadable, unparsable, without an id: exit 2, nothing stored; one bad one among good ones is told by its id."""
    wrong = {
        "broken.yaml": "a: [", "no-id.yaml": "manual: true", "empty.yaml": "", "text.yaml": "hello", "bad.json": "{",
        "twice.yaml": "- {id: w, manual: true, queue: q, type: t}\n- {id: w, manual: true, queue: q, type: t}\n",
        "alias.yaml": "id: w\nmanual: true\nqueue: &q q\ntype: *q\n",
    }  # fmt: skip
    for name, text in wrong.items():
        (cli.folder / name).write_text(text)
    texts = await few_at_once(cli.fails(2, "add", "-f", name) for name in (*wrong, "missing.yaml"))
    assert all(name in text for name, text in zip((*wrong, "missing.yaml"), texts, strict=True))
    both = b'[{"id": "good", "manual": true, "queue": "q", "type": "t"}, {"id": "wrong", "every": "1x"}]'
    mixed = await cli("add", "-f", "-", stdin=both)
    assert mixed.code == 2
    assert mixed.out.startswith("good stored")
    assert "wrong" in mixed.err
    assert (await api.ask("schedule.get", {"id": "good"}))["schedule"] == {"manual": True, "queue": "q", "type": "t"}


# --- schedctl: exit codes, connection


async def test_exit_codes(cli: Cli, api: Caller) -> None:
    """2 usage, 3 not found, 4 conflict, 5 unavailable; each with one sentence on stderr and nothing on stdout."""
    await api.ask("schedule.put", {"id": "codes", "schedule": MANUAL})
    add = ("add", "codes", "--manual", "--queue", "q", "--type", "t")
    wrong = {
        2: [
            ("nonsense",), ("list", "--nonsense"), ("get", "a..b"), ("add", "x", "--every", "1s"),
            ("add", "x", "--cron", "0 0 30 2 *", "--queue", "q", "--type", "t"), ("list", "--limit", "0"),
            ("add", "x", "--manual", "--queue", "q", "--type", "t", "--payload", "text"), ("list", "--json", "--names"),
            ("executions", "list", "--state", "done"), ("preview",), ("--context", "nowhere", "list"),
            ("pause", "codes", "--until", "2020-01-01T00:00:00Z"), ("--nats", "http://x", "list"),
        ],
        3: [
            ("get", "nobody"), ("delete", "nobody"), ("trigger", "nobody"), ("executions", "show", "nobody"),
            ("executions", "show", "nobody.20260101T000000000Z"),
        ],
        4: [add, (*add, "--expected-revision", "99999")],
        5: [
            ("list", "--nats", "127.0.0.1:1,127.0.0.1:2"), ("--namespace", "elsewhere", "list"),
        ],
    }  # fmt: skip
    await few_at_once(cli.fails(code, *each) for code, several in wrong.items() for each in several)
    assert "schedd run" in await cli.fails(5, "list", SCHEDD_NAMESPACE="elsewhere"), "what to do about it"


async def test_flags_win_over_environment_over_context(cli: Cli) -> None:
    """--nats and --context, before or after; then NATS_URL, NATS_CONTEXT, the selected context."""
    nowhere = "nats://127.0.0.1:1"
    write_context(cli.folder / "config", "here", selected="here", url=cli.url)
    write_context(cli.folder / "config", "away", url=nowhere)
    well: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("--nats", cli.url, "status", "--json"), {"NATS_URL": nowhere}),
        (("status", "--json", "--nats", f"{nowhere},{cli.url}"), {"NATS_URL": nowhere}),
        (("--nats", nowhere, "status", "--nats", cli.url), {}),
        (("--context", "here", "list"), {"NATS_URL": nowhere}),
        (("executions", "--context", "here", "list"), {"NATS_CONTEXT": "away", "NATS_URL": ""}),
        (("executions", "list", "--context", "here"), {"NATS_CONTEXT": "away", "NATS_URL": ""}),
        (("status",), {"NATS_URL": cli.url, "NATS_CONTEXT": "away"}),
        (("status",), {"NATS_URL": "", "NATS_CONTEXT": "here"}),
        (("status",), {"NATS_URL": ""}),
        (("--namespace", "schedd", "status"), {"SCHEDD_NAMESPACE": "elsewhere"}),
    ]
    results = await few_at_once(cli(*arguments, **env) for arguments, env in well)
    assert [result.code for result in results] == [0] * len(well), results
    assert "127.0.0.1:1" in await cli.fails(5, "list", NATS_URL="", NATS_CONTEXT="away")
