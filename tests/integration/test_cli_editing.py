"""`schedctl edit` and `import`, as a user meets them: a real daemon, editors that are scripts."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.client import Client
from tests.acceptance.standing import Standing, stand
from tests.integration.cli_here import Cli, cli_at

HELLO = {"every": "1h", "queue": "q", "type": "t", "payload": {"text": "1e3", "n": 1}}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    yield from stand(tmp_path_factory.mktemp("editing"))


@pytest.fixture
def cli(standing: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return cli_at(standing.url)


async def put(standing: Standing, schedule_id: str, **fields: Any) -> None:
    async with Client.connect(standing.url) as client:
        await client.schedules.put(schedule_id, {**HELLO, **fields})


async def stored(standing: Standing, schedule_id: str) -> dict[str, Any]:
    async with Client.connect(standing.url) as client:
        return dict((await client.schedules.get(schedule_id)).definition)


def editor(folder: Path, *turns: str) -> str:
    """An editor that runs one of these shell scripts each time it is opened; $1 is the file."""
    for number, turn in enumerate(turns):
        (folder / f"turn{number}").write_text(turn)
    script = folder / "editor"
    script.write_text(f'#!/bin/sh\nn=$(cat {folder}/n 2>/dev/null || echo 0)\ncp "$1" {folder}/seen$n\n'
                      f'echo $((n + 1)) > {folder}/n\n. {folder}/turn$n\n')  # fmt: skip
    script.chmod(0o755)
    return str(script)


def left_behind(folder: Path) -> list[Path]:
    return list((folder / "tmp").glob("*.yaml"))


# --- edit


async def test_edit(cli: Cli, standing: Standing, tmp_path: Path) -> None:
    """What was changed is shown and written; everything else stays as it was, to the type; no file is left."""
    await put(standing, "change")
    result = await cli("edit", "change", EDITOR=editor(tmp_path, 'sed -i s/1h/2h/ "$1"'))
    assert result.code == 0, result.err
    assert "  every  1h -> 2h\n  next 24 h: none gained, 12 fires lost" in result.out
    assert await stored(standing, "change") == {**HELLO, "every": "2h"}
    assert (tmp_path / "seen0").read_text().startswith("# change, revision ")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("turn", ["true", 'sed -i s/1h/60m/ "$1"', ': > "$1"', "sed -i '/^#/d' \"$1\""])
async def test_edit_without_a_change(cli: Cli, standing: Standing, tmp_path: Path, turn: str) -> None:
    """Saved as it was, in other words, or empty: nothing is written."""
    await put(standing, "same")
    before = await cli("get", "same", "--json")
    result = await cli("edit", "same", VISUAL=editor(tmp_path, turn))
    assert (result.code, result.out) == (0, "same unchanged\n")
    assert (await cli("get", "same", "--json")).json["revision"] == before.json["revision"]


async def test_a_mistake_opens_the_editor_again(cli: Cli, standing: Standing, tmp_path: Path) -> None:
    """With the reason on top and the text as it was left; mended, it is written."""
    await put(standing, "mend")
    turns = ('sed -i s/every/evry/ "$1"', 'sed -i "s/evry: 1h/cron: [/" "$1"', 'sed -i "s/cron: .*/every: 3h/" "$1"')
    result = await cli("edit", "mend", EDITOR=editor(tmp_path, *turns))
    assert result.code == 0, result.err
    second, third = ((tmp_path / f"seen{number}").read_text() for number in (1, 2))
    assert "# Not written: " in second
    assert "line 5: mend: a schedule has no field 'evry'; did you mean 'every'?" in second
    assert second.splitlines()[4] == "evry: 1h", "the line that is named"
    assert "# Not written: " in third
    assert third.count("# Not written") == 1
    assert (await stored(standing, "mend"))["every"] == "3h"


async def test_giving_up_keeps_the_text(cli: Cli, standing: Standing, tmp_path: Path) -> None:
    """A mistake that is saved again ends with exit code 2, nothing written, and the text in a file that is named."""
    await put(standing, "giveup")
    result = await cli("edit", "giveup", EDITOR=editor(tmp_path, 'sed -i s/1h/often/ "$1"', "true"))
    assert result.code == 2
    assert "nothing written: " in result.err
    [kept] = left_behind(tmp_path)
    assert str(kept) in result.err
    assert "every: often" in kept.read_text()
    assert await stored(standing, "giveup") == HELLO


async def test_somebody_else_was_faster(cli: Cli, standing: Standing, tmp_path: Path) -> None:
    """A change meanwhile is a conflict, exit code 4; it is not overwritten, and the text is kept."""
    await put(standing, "race")
    command = f'sed -i s/1h/2h/ "$1"; NATS_URL={standing.url} {sys.executable} -m cli.schedctl pause race >/dev/null'
    result = await cli("edit", "race", EDITOR=editor(tmp_path, command))
    assert result.code == 4
    assert "somebody changed it while you did" in result.err
    assert len(left_behind(tmp_path)) == 1
    assert await stored(standing, "race") == {**HELLO, "paused": True}


async def test_taking_a_pause_out(cli: Cli, standing: Standing, tmp_path: Path) -> None:
    """Who deletes the lines of a pause ends it; who leaves them keeps it."""
    await put(standing, "pause", paused=True, pause_note="why")
    first = await cli("edit", "pause", EDITOR=editor(tmp_path, 'sed -i s/1h/2h/ "$1"', 'sed -i /pause/d "$1"'))
    assert first.code == 0
    assert (await stored(standing, "pause"))["pause_note"] == "why"
    second = await cli("edit", "pause", EDITOR=f"{tmp_path}/editor")
    assert second.code == 2, "its id is pause, too: without one it is none"
    third = await cli("edit", "pause", EDITOR="sed -i /^pause/d")
    assert third.code == 0, third.err
    assert (await cli("get", "pause", "--json")).json["status"]["state"] == "active"


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ("sed -i 's/^id: .*/id: other/' \"$1\"", "the id cannot be changed"),
        ("cat \"$1\" > $1.x; echo --- >> \"$1\"; cat \"$1.x\" >> \"$1\"; rm \"$1.x\"", "one definition, not 2"),
        ("exit 3", "the editor ended with 3"),
    ],
)  # fmt: skip
async def test_what_edit_refuses(cli: Cli, standing: Standing, tmp_path: Path, turn: str, told: str) -> None:
    """Another id, several definitions, an editor that failed: nothing is written."""
    await put(standing, "refuse")
    result = await cli("edit", "refuse", EDITOR=editor(tmp_path, turn, "true"))
    assert result.code == 2
    assert told in result.err
    assert await stored(standing, "refuse") == HELLO


async def test_what_cannot_be_edited(cli: Cli) -> None:
    """No such schedule, no such editor."""
    assert (await cli("edit", "nobody", EDITOR="true")).code == 3
    missing = await cli("edit", "nobody", EDITOR="no-such-editor -w")
    assert missing.code == 2
    assert "set $EDITOR" in missing.err


# --- import

CRONTAB = """\
MAILTO=ops@example.com
CRON_TZ=Europe/Berlin
# every night
15 2 * * * /usr/local/bin/backup.sh %in%
@reboot /bin/true
"""


async def test_import_a_crontab(cli: Cli, standing: Standing, tmp_path: Path) -> None:
    """What is printed applies as it is; with --apply it is stored at once, the same; what is lost is told."""
    printed = await cli("import", "crontab", "-", "--queue", "OPS", "--label", "team=ops", stdin=CRONTAB)
    assert printed.code == 0
    assert "line 1: MAILTO" in printed.err
    assert "left out: stdin, line 5: @reboot" in printed.err
    assert "1 imported, 1 left out" in printed.err
    applied = await cli("apply", "-f", "-", stdin=printed.out)
    assert applied.out.endswith("1 created, 0 unchanged\n"), applied.err
    again = await cli("import", "crontab", "-", "--queue", "OPS", "--label", "team=ops", "--apply", stdin=CRONTAB)
    assert again.out == "1 unchanged\n"
    found = await stored(standing, "backup.sh")
    assert found["payload"] == {"command": "/usr/local/bin/backup.sh", "stdin": "in\n"}
    assert (found["cron"], found["timezone"], found["labels"]) == ("15 2 * * *", "Europe/Berlin", {"team": "ops"})


async def test_import_cron_jobs(cli: Cli, tmp_path: Path) -> None:
    """CronJobs come from manifests or a List; what a pod has beside its container is told in the comments."""
    manifest = {"kind": "CronJob", "metadata": {"name": "report"},
                "spec": {"schedule": "0 9 * * *", "timeZone": "Asia/Tokyo", "jobTemplate": {"spec": {"template": {
                    "spec": {"containers": [{"image": "crm:1"}], "volumes": []}}}}}}  # fmt: skip
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"kind": "List", "items": [manifest, {"kind": "Service"}]}))
    result = await cli("import", "cronjobs", str(file))
    assert result.code == 0, result.err
    assert "# not carried over: volumes\nid: report\n" in result.out
    assert "1 other object is no CronJob" in result.err
    assert (await cli("diff", "-f", "-", stdin=result.out)).out.startswith("created   report, next ")


async def test_import_refuses(cli: Cli, tmp_path: Path) -> None:
    """Nothing to import, an unknown zone, a queue that is none: exit code 2."""
    for arguments in (("-",), ("-", "--timezone", "Mars/Base"), ("-", "--queue", "a b"), (str(tmp_path / "none"),)):
        result = await cli("import", "crontab", *arguments)
        assert (result.code, result.out) == (2, "")
