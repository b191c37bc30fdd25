"""Crontabs as definitions: what cron means is kept, and what cannot be is told with its line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.wire.crontab import name_of, read_crontab
from scheduler.wire.imports import Import, Terms
from scheduler.wire.schedule import parse_document

TERMS = Terms("cron", "command", "Europe/Berlin")
KEPT = {"overlap": "allow", "catch_up": {"mode": "none"}, "max_tries": 1}


def read(text: str, *, is_system: bool = False, **terms: Any) -> Import:
    return read_crontab(text, Terms("cron", "command", **{"timezone": "Europe/Berlin", **terms}), is_system=is_system)


def test_an_entry() -> None:
    """Times, the command, the comment above it; what cron does about overlap, misses and failures stays."""
    [entry] = read("# nightly backup\n15 2 * * 1-5  /usr/local/bin/backup.sh --all >/dev/null\n").found
    assert (entry.id, entry.line, entry.notes) == ("backup.sh", 2, ())
    assert entry.document == {
        "cron": "15 2 * * 1-5", "timezone": "Europe/Berlin", "queue": "cron", "type": "command",
        "payload": {"command": "/usr/local/bin/backup.sh --all >/dev/null"}, "description": "nightly backup", **KEPT,
    }  # fmt: skip


def test_variables_hold_for_what_follows() -> None:
    """CRON_TZ is the zone, RANDOM_DELAY the jitter, MAILTO is told once, the rest is the command's environment."""
    found = read(
        'MAILTO=root\nPATH = "/bin:/usr/bin"\n0 1 * * * one\n'
        "CRON_TZ=Asia/Tokyo\nRANDOM_DELAY=30\nMAILTO=ann\n@daily two\n"
    )
    one, two = found.found
    assert one.document["payload"] == {"command": "one", "env": {"PATH": "/bin:/usr/bin"}}
    assert (one.document["timezone"], "jitter" in one.document) == ("Europe/Berlin", False)
    assert (two.document["cron"], two.document["timezone"], two.document["jitter"]) == ("@daily", "Asia/Tokyo", "30m")
    assert found.notes == [(1, "MAILTO: no mail is sent; a webhook can tell of failures")]


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("date +\\%F", {"command": "date +%F"}),
        ("mail ann%Hello%%Bye\\%", {"command": "mail ann", "stdin": "Hello\n\nBye%\n"}),
        ("cat%", {"command": "cat", "stdin": "\n"}),
        ("echo 100\\%%x", {"command": "echo 100%", "stdin": "x\n"}),
    ],
)
def test_percent_signs(command: str, payload: dict[str, str]) -> None:
    """The first that is not escaped ends the command, further ones end lines of what it reads (crontab(5))."""
    assert read(f"* * * * * {command}\n").found[0].document["payload"] == payload


def test_a_system_crontab() -> None:
    """The sixth field is the user, told in the payload and in a note."""
    [entry] = read("17 *\t* * *\troot    cd / && run-parts --report /etc/cron.hourly\n", is_system=True).found
    assert entry.document["payload"] == {"command": "cd / && run-parts --report /etc/cron.hourly", "user": "root"}
    assert entry.document["cron"] == "17 * * * *"
    assert entry.id == "run-parts"
    assert "root" in entry.notes[0]
    assert read("* * * * * root\n", is_system=True).left_out[0][0] == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("@reboot /bin/x", "knows no boot"),
        ("@REBOOT /bin/x", "knows no boot"),
        ("0 5 * *", "five fields"),
        ("61 * * * * x", "no minute"),
        ("0 0 30 2 * x", "never"),
        ("@fortnightly x", "@fortnightly"),
        ("nonsense", "five fields"),
        ("@daily", "five fields"),
        ("CRON_TZ=Mars/Base\n* * * * * x", "Mars/Base"),
    ],
)
def test_left_out(line: str, told: str) -> None:
    """What cannot be a schedule is left out, with its line and the reason."""
    found = read(line)
    assert found.found == []
    [(number, reason)] = found.left_out
    assert number == line.count("\n") + 1
    assert told in reason


def test_random_times() -> None:
    """A random range becomes a hashed one, and that is told."""
    entries = read("0~59 3 * * * a\n~ 5~7 * * * b\n").found
    assert [entry.document["cron"] for entry in entries] == ["H(0-59) 3 * * *", "H(0-59) H(5-7) * * *"]
    assert all("drawn once" in entry.notes[0] for entry in entries)


def test_ids() -> None:
    """They come from the program, behind the prefix, numbered where they repeat, the same each time."""
    text = "* * * * * /a/job.sh 1\n* * * * * job.sh 2\n* * * * * job.sh\n* * * * * ???\n"
    ids = [entry.id for entry in read(text, prefix="crm-").found]
    assert ids == ["crm-job.sh", "crm-job.sh-2", "crm-job.sh-3", "crm-command"]
    assert ids == [entry.id for entry in read(text, prefix="crm-").found]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("cd /srv/app && python3 manage.py clearsessions", "manage.py"),
        ("cd /srv; cd app; ./run.sh", "run.sh"),
        ("FOO=bar /usr/bin/php -q /srv/cron.php", "cron.php"),
        ("sudo -u www nice -n 10 /opt/x", "www"),
        ("test -x /usr/sbin/anacron || ( cd / && run-parts x )", "test"),
        ("", ""),
    ],
)
def test_names(command: str, name: str) -> None:
    """What a line is about, as well as can be told."""
    assert name_of(command) == name


def test_no_zone_is_told() -> None:
    """Without any zone, times are UTC, and that is said."""
    found = read("0 5 * * * x", timezone=None)
    assert "timezone" not in found.found[0].document
    assert "UTC" in found.notes[0][1]


@given(st.text(max_size=200), st.booleans())
def test_any_text(text: str, is_system: bool) -> None:
    """Whatever a file holds, what comes out is valid, and each id is given once."""
    found = read_crontab(text, TERMS, is_system=is_system)
    for entry in found.found:
        parse_document(entry.id, entry.document)
    assert len({entry.id for entry in found.found}) == len(found.found)


FIELD = st.sampled_from(["*", "0", "*/5", "1-5", "~", "0~9", "mon", "7", "1,2", "x"])


@given(st.lists(FIELD, min_size=5, max_size=5), st.sampled_from(["a", "root b %c", "\\%%", "'"]))
def test_any_entry(fields: list[str], command: str) -> None:
    """Every entry is a definition, or is left out with a reason."""
    found = read_crontab(f"{' '.join(fields)} {command}", TERMS)
    assert len(found.found) + len(found.left_out) == 1
