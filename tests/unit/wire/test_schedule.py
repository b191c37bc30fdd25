"""The schedule JSON: every field of the contract's table, its default, its limits, and the words of each refusal."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import (
    EPOCH,
    After,
    At,
    Backoff,
    CatchUp,
    Cron,
    Dst,
    Every,
    EveryDays,
    Gap,
    Manual,
    Overlap,
    RRule,
    Schedule,
    Twice,
)
from scheduler.wire.schedule import FIELDS, ScheduleLimits, parse_document, parse_schedule

BASE: dict[str, Any] = {"every": "1m", "queue": "EMAIL", "type": "email:monthly"}
NO_TRIGGER = {"queue": "EMAIL", "type": "email:monthly"}


def parse(document: Any, limits: ScheduleLimits | None = None) -> Schedule:
    return parse_schedule("mail", json.dumps(document).encode(), limits or ScheduleLimits())


def refusal(document: Any, limits: ScheduleLimits | None = None) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as refused:
        parse(document, limits)
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 400
    return refused.value


def test_the_least_schedule_has_all_defaults() -> None:
    """Trigger, queue and type are enough; the rest is as the contract's defaults say."""
    assert parse(BASE) == Schedule(
        id="mail",
        queue="EMAIL",
        type="email:monthly",
        trigger=Every(timedelta(minutes=1), EPOCH),
        timezone="UTC",
        start_delay=timedelta(0),
        payload=None,
        payload_is_json=True,
        headers={},
        overlap=Overlap.SKIP,
        max_running=None,
        catch_up=CatchUp(mode="latest", after=timedelta(seconds=10), window=timedelta(hours=24), max=100),
        timeout=None,
        max_tries=3,
        backoff=Backoff(initial=timedelta(seconds=1), max=timedelta(minutes=5), factor=2.0, jitter=0.2),
        paused=False,
        pause_note=None,
        paused_until=None,
        retention_age=timedelta(days=7),
        known_for=timedelta(days=7, minutes=-15),
        name=None,
        description=None,
        labels={},
    )


@pytest.mark.parametrize(("age", "minutes"), [("0s", 15), ("30m", 15), ("31m", 16), ("1h", 45)])
def test_how_long_a_fire_is_known_for(age: str, minutes: int) -> None:
    """As long as a record is kept at least, less the time after which its creator would not go on with it."""
    assert parse({**BASE, "retention": {"age": age}}).known_for == timedelta(minutes=minutes)


def test_the_example_of_the_contract() -> None:
    """The example everybody copies is valid."""
    raw = (
        b'{"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin", "queue": "EMAIL", "type": "email:monthly", '
        b'"payload": {"any": "json"}}'
    )
    schedule = parse_schedule("mail", raw)
    assert schedule.trigger == Cron(("0 9 * * 1-5",))
    assert schedule.payload == b'{"any": "json"}'


ACCEPTED: dict[str, tuple[dict[str, Any], str, Any]] = {
    "cron": ({**NO_TRIGGER, "cron": "0 9 * * *"}, "trigger", Cron(("0 9 * * *",))),
    "cron with tabs": ({**NO_TRIGGER, "cron": "0\t9 * * *"}, "trigger", Cron(("0\t9 * * *",))),
    "cron list": ({**NO_TRIGGER, "cron": ["0 9 * * *", "@daily"]}, "trigger", Cron(("0 9 * * *", "@daily"))),
    "every": ({**BASE, "every": "1h30m"}, "trigger", Every(timedelta(minutes=90))),
    "every, anchored": (
        {**BASE, "anchor": "2026-01-01T00:07:00+01:00"},
        "trigger",
        Every(timedelta(minutes=1), datetime(2025, 12, 31, 23, 7, tzinfo=UTC)),
    ),
    "at": ({**NO_TRIGGER, "at": "2026-11-21T08:00:00Z"}, "trigger", At((datetime(2026, 11, 21, 8, tzinfo=UTC),))),
    "at list, sorted, once": (
        {**NO_TRIGGER, "at": ["2026-11-22T08:00:00Z", "2026-11-21T08:00:00Z", "2026-11-22T09:00:00+01:00"]},
        "trigger",
        At((datetime(2026, 11, 21, 8, tzinfo=UTC), datetime(2026, 11, 22, 8, tzinfo=UTC))),
    ),
    "rrule until, in UTC": (
        {**NO_TRIGGER, "rrule": "FREQ=DAILY;UNTIL=20271231T000000Z"},
        "trigger",
        RRule(("FREQ=DAILY;UNTIL=20271231T000000Z",)),
    ),
    "rrule until, local": (
        {**NO_TRIGGER, "rrule": "RRULE:FREQ=DAILY;UNTIL=20271231T000000"},
        "trigger",
        RRule(("RRULE:FREQ=DAILY;UNTIL=20271231T000000",)),
    ),
    "rrule list": (
        {**NO_TRIGGER, "rrule": ["FREQ=DAILY;COUNT=3", "FREQ=WEEKLY;BYDAY=MO"], "anchor": "2026-01-01T00:00:00Z"},
        "trigger",
        RRule(("FREQ=DAILY;COUNT=3", "FREQ=WEEKLY;BYDAY=MO"), datetime(2026, 1, 1, tzinfo=UTC)),
    ),
    "every day": ({**BASE, "every": "1d"}, "trigger", EveryDays(1)),
    "every two weeks": (
        {**BASE, "every": "2w", "anchor": "2026-01-01T09:00:00+01:00"},
        "trigger",
        EveryDays(14, datetime(2026, 1, 1, 8, tzinfo=UTC)),
    ),
    "every 24 hours": ({**BASE, "every": "24h"}, "trigger", Every(timedelta(hours=24))),
    "manual": ({**NO_TRIGGER, "manual": True}, "trigger", Manual()),
    "timezone": ({**BASE, "timezone": "Asia/Kathmandu"}, "timezone", "Asia/Kathmandu"),
    "dst default": ({**BASE, "dst": {"gap": "next", "overlap": "first"}}, "dst", Dst()),
    "dst gap": ({**BASE, "dst": {"gap": "skip"}}, "dst", Dst(gap=Gap.SKIP)),
    "dst overlap": ({**BASE, "dst": {"overlap": "both"}}, "dst", Dst(overlap=Twice.BOTH)),
    "jitter of nothing": ({**BASE, "jitter": "0s"}, "timezone", "UTC"),
    "jitter": ({**BASE, "jitter": "10s"}, "jitter", timedelta(seconds=10)),
    "starts_at": (
        {**BASE, "starts_at": "2026-11-21T09:00:00+01:00"},
        "starts_at",
        datetime(2026, 11, 21, 8, tzinfo=UTC),
    ),
    "ends_at": (
        {**BASE, "ends_at": "2026-11-21T08:00:00.5Z"},
        "ends_at",
        datetime(2026, 11, 21, 8, 0, 0, 500_000, UTC),
    ),
    "exclude": (
        {**BASE, "exclude": ["* * 24 12 *", "@daily"], "on_excluded": "next_business_day"},
        "exclude",
        ("* * 24 12 *", "@daily"),
    ),
    "exclude nothing": ({**BASE, "exclude": [], "on_excluded": "skip"}, "timezone", "UTC"),
    "start_delay": ({**BASE, "start_delay": "5s"}, "start_delay", timedelta(seconds=5)),
    "start_delay of nothing": ({**BASE, "start_delay": "0s"}, "start_delay", timedelta(0)),
    "headers": ({**BASE, "headers": {"X-Team": "größe 1"}}, "headers", {"X-Team": "größe 1"}),
    "overlap allow": ({**BASE, "overlap": "allow"}, "overlap", Overlap.ALLOW),
    "overlap latest": ({**BASE, "overlap": "latest"}, "overlap", Overlap.LATEST),
    "max_running": ({**BASE, "overlap": "allow", "max_running": 1000}, "max_running", 1000),
    "catch_up in full": (
        {**BASE, "catch_up": {"mode": "all", "after": "1s", "window": "48h", "max": 10_000}},
        "catch_up",
        CatchUp(mode="all", after=timedelta(seconds=1), window=timedelta(hours=48), max=10_000),
    ),
    "catch_up in part": ({**BASE, "catch_up": {"mode": "none"}}, "catch_up", CatchUp(mode="none")),
    "timeout": ({**BASE, "timeout": "30s"}, "timeout", timedelta(seconds=30)),
    "max_tries": ({**BASE, "max_tries": 100}, "max_tries", 100),
    "backoff in part": ({**BASE, "backoff": {"factor": 1}}, "backoff", Backoff(factor=1.0)),
    "backoff beyond the default max": (
        {**BASE, "backoff": {"initial": "10m"}},
        "backoff",
        Backoff(initial=timedelta(minutes=10), max=timedelta(minutes=10)),
    ),
    "backoff below the default initial": (
        {**BASE, "backoff": {"max": "100ms"}},
        "backoff",
        Backoff(initial=timedelta(milliseconds=100), max=timedelta(milliseconds=100)),
    ),
    "paused": ({**BASE, "paused": True}, "paused", True),
    "pause_note": ({**BASE, "paused": True, "pause_note": "until\nMonday"}, "pause_note", "until\nMonday"),
    "paused_until": (
        {**BASE, "paused": True, "paused_until": "2026-11-21T08:00:00Z"},
        "paused_until",
        datetime(2026, 11, 21, 8, tzinfo=UTC),
    ),
    "paused_until alone pauses": ({**BASE, "paused_until": "2026-11-21T08:00:00Z"}, "paused", True),
    "paused false beside it": ({**BASE, "paused": False, "paused_until": "2026-11-21T08:00:00Z"}, "paused", False),
    "retention": ({**BASE, "retention": {"age": "2d"}}, "retention_age", timedelta(days=2)),
    "after": ({**NO_TRIGGER, "after": "5m"}, "trigger", After(timedelta(minutes=5))),
    "name": ({**BASE, "name": "Monthly mail"}, "name", "Monthly mail"),
    "description": ({**BASE, "description": "two\nlines"}, "description", "two\nlines"),
    "labels": ({**BASE, "labels": {"team": "mail"}}, "labels", {"team": "mail"}),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str) -> None:
    """Every field whose behaviour exists is read into the model, from KV and from the API alike."""
    document, attribute, expected = ACCEPTED[case]
    assert getattr(parse(document), attribute) == expected
    assert parse_document("mail", document) == parse(document)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "after with what lies before": (
        {**NO_TRIGGER, "after": "5m", "exclude": ["* * * * 6"], "on_excluded": "previous_business_day"},
        "on_excluded",
        "known ahead",
    ),
    "after too fast": ({**NO_TRIGGER, "after": "500ms"}, "after", "after fires every 500ms"),
    "after nothing": ({**NO_TRIGGER, "after": "0s"}, "after", ""),
    "no trigger": (NO_TRIGGER, "cron", "exactly one of"),
    "two triggers": ({**BASE, "cron": "* * * * *"}, "every", "cron and every"),
    "unknown field": ({**BASE, "timezome": "UTC"}, "timezome", "did you mean 'timezone'"),
    "unknown field, no idea": ({**BASE, "zzzzzz": 1}, "zzzzzz", "no field 'zzzzzz'"),
    "wrong case": ({**BASE, "Payload": 1}, "Payload", "did you mean 'payload'"),
    "id inside": ({**BASE, "id": "mail"}, "id", "no field 'id'"),
    "no queue": ({"every": "1m", "type": "t"}, "queue", "queue is required"),
    "no type": ({"every": "1m", "queue": "q"}, "type", "type is required"),
    "queue with a dot": ({**BASE, "queue": "a.b"}, "queue", "not a queue"),
    "queue of null": ({**BASE, "queue": None}, "queue", "not null"),
    "type with a space": ({**BASE, "type": "a b"}, "type", "not a type"),
    "cron as number": ({**NO_TRIGGER, "cron": 5}, "cron", "must be text"),
    "cron of nothing": ({**NO_TRIGGER, "cron": []}, "cron", "1 to 64"),
    "too many crons": ({**NO_TRIGGER, "cron": ["* * * * *"] * 65}, "cron", "1 to 64"),
    "impossible cron": ({**NO_TRIGGER, "cron": "0 0 30 2 *"}, "cron", "never fires"),
    "one impossible cron of two": ({**NO_TRIGGER, "cron": ["@daily", "0 0 30 2 *"]}, "cron", "never fires"),
    "bad cron": ({**NO_TRIGGER, "cron": "a b c d e"}, "cron", "no minute"),
    "every as number": ({**BASE, "every": 60}, "every", "duration in text"),
    "every too often": ({**BASE, "every": "999ms"}, "every", "more often than every 1s"),
    "every zero": ({**BASE, "every": "0s"}, "every", "at least"),
    "every for eleven years": ({**BASE, "every": "99999h"}, "every", "longer than ten years"),
    "@every too often": ({**NO_TRIGGER, "cron": "@every 10ms"}, "cron", "more often than every 1s"),
    "anchor without every": (
        {**NO_TRIGGER, "cron": "@daily", "anchor": "2026-01-01T00:00:00Z"},
        "anchor",
        "belongs to",
    ),
    "at without offset": ({**NO_TRIGGER, "at": "2026-11-21T08:00:00"}, "at", "with an offset"),
    "at far away": ({**NO_TRIGGER, "at": "2200-01-01T00:00:00Z"}, "at", "1970 and 2199"),
    "at of nothing": ({**NO_TRIGGER, "at": []}, "at", "1 to 1000"),
    "at nested": ({**NO_TRIGGER, "at": [["2026-11-21T08:00:00Z"]]}, "at", "must be an instant"),
    "manual false": ({**NO_TRIGGER, "manual": False}, "manual", "must be true"),
    "manual 1": ({**NO_TRIGGER, "manual": 1}, "manual", "must be true"),
    "bad rrule": ({**NO_TRIGGER, "rrule": "FREQ=SOMETIMES"}, "rrule", "MINUTELY"),
    "rrule that counts from nowhere": ({**NO_TRIGGER, "rrule": "FREQ=DAILY;COUNT=3"}, "anchor", "as anchor"),
    "rrule that never fires": ({**NO_TRIGGER, "rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "rrule", "never fires"),
    "too many rrules": ({**NO_TRIGGER, "rrule": ["FREQ=DAILY"] * 17}, "rrule", "1 to 16"),
    "rrules that count too much": (
        {**NO_TRIGGER, "rrule": ["FREQ=DAILY;COUNT=6000"] * 2, "anchor": "2026-01-01T00:00:00Z"},
        "rrule",
        "12000 occurrences in all",
    ),
    "every of days and hours": ({**BASE, "every": "1d12h"}, "every", "mixes days"),
    "every of half a day": ({**BASE, "every": "0.5d"}, "every", "mixes days"),
    "rrule with a start": (
        {**NO_TRIGGER, "rrule": "DTSTART;TZID=/etc/passwd:20270101T000000\nFREQ=DAILY"},
        "rrule",
        "anchor",
    ),
    "bad after": ({**NO_TRIGGER, "after": "soon"}, "after", "not a duration"),
    "unknown zone": ({**BASE, "timezone": "Europe/Berln"}, "timezone", "did you mean 'Europe/Berlin'"),
    "zone as a path": ({**BASE, "timezone": "../../etc/passwd"}, "timezone", "not a time zone"),
    "bad dst": ({**BASE, "dst": {"gap": "jump"}}, "dst.gap", "one of next, skip"),
    "unknown dst": ({**BASE, "dst": {"gaps": "next"}}, "dst.gaps", "did you mean 'gap'"),
    "bad starts_at": ({**BASE, "starts_at": "tomorrow"}, "starts_at", "not an instant"),
    "bad max_fires": ({**BASE, "max_fires": 0}, "max_fires", "whole number"),
    "bad jitter": ({**BASE, "jitter": -1}, "jitter", "duration"),
    "bad exclude": ({**BASE, "exclude": "holidays"}, "exclude", "a list"),
    "empty exclude": ({**BASE, "exclude": [""]}, "exclude", "not the name of a calendar"),
    "unknown calendar": ({**BASE, "exclude": ["xmas"]}, "exclude", "no calendar 'xmas'"),
    "bad cron in exclude": ({**BASE, "exclude": ["* * 32 * *"]}, "exclude", "no day"),
    "bad on_excluded": ({**BASE, "on_excluded": "never"}, "on_excluded", "one of"),
    "bad overlap": ({**BASE, "overlap": "skipp"}, "overlap", "did you mean 'skip'"),
    "max_running zero": ({**BASE, "max_running": 0}, "max_running", "from 1 to 1000"),
    "max_running true": ({**BASE, "max_running": True}, "max_running", "not true"),
    "max_running null": ({**BASE, "max_running": None}, "max_running", "not null"),
    "bad start_deadline": ({**BASE, "start_deadline": "0s"}, "start_deadline", "at least"),
    "start_delay negative": ({**BASE, "start_delay": "-5s"}, "start_delay", "not a duration"),
    "timeout zero": ({**BASE, "timeout": "0s"}, "timeout", "at least"),
    "max_tries zero": ({**BASE, "max_tries": 0}, "max_tries", "from 1 to 100"),
    "max_tries half": ({**BASE, "max_tries": 1.5}, "max_tries", "whole number"),
    "max_tries enormous": ({**BASE, "max_tries": 10**400}, "max_tries", "that number"),
    "catch_up as text": ({**BASE, "catch_up": "latest"}, "catch_up", "must be a JSON object"),
    "catch_up mode": ({**BASE, "catch_up": {"mode": "oldest"}}, "catch_up.mode", "one of latest"),
    "catch_up max": ({**BASE, "catch_up": {"max": 10_001}}, "catch_up.max", "from 1 to 10000"),
    "catch_up unknown": ({**BASE, "catch_up": {"modus": "all"}}, "catch_up.modus", "did you mean 'mode'"),
    "backoff factor": ({**BASE, "backoff": {"factor": 0.5}}, "backoff.factor", "from 1 to 1000"),
    "backoff jitter": ({**BASE, "backoff": {"jitter": 2}}, "backoff.jitter", "from 0 to 1"),
    "backoff upside down": ({**BASE, "backoff": {"initial": "10s", "max": "1s"}}, "backoff.max", "shorter than"),
    "paused as text": ({**BASE, "paused": "yes"}, "paused", "true or false"),
    "long note": ({**BASE, "pause_note": "x" * 1025}, "pause_note", "more than 1024"),
    "retention unknown": ({**BASE, "retention": {"count": 5}}, "retention.count", "no field"),
    "name with a line": ({**BASE, "name": "a\nb"}, "name", "cannot be printed"),
    "name too long": ({**BASE, "name": "x" * 257}, "name", "more than 256"),
    "labels as list": ({**BASE, "labels": ["a"]}, "labels", "an object of texts"),
    "label as number": ({**BASE, "labels": {"a": 1}}, "labels.a", "must be text"),
    "too many labels": ({**BASE, "labels": {str(n): "" for n in range(65)}}, "labels", "more than 64"),
    "header name": ({**BASE, "headers": {"X_Team": "a"}}, "headers", "letters, digits and '-'"),
    "header of NATS": ({**BASE, "headers": {"nats-msg-id": "a"}}, "headers.nats-msg-id", "reserved"),
    "header of KV": ({**BASE, "headers": {"KV-Operation": "DEL"}}, "headers.KV-Operation", "reserved"),
    "header of schedd": ({**BASE, "headers": {"SCHEDD-Type": "a"}}, "headers.SCHEDD-Type", "reserved"),
    "header Status": ({**BASE, "headers": {"sTaTuS": "a"}}, "headers.sTaTuS", "reserved"),
    "header with a line": ({**BASE, "headers": {"A": "b\r\nNats-Msg-Id: 1"}}, "headers.A", "cannot be printed"),
    "header too long": ({**BASE, "headers": {"A": "ä" * 600}}, "headers.A", "more than 1024 bytes"),
    "header as number": ({**BASE, "headers": {"A": 1}}, "headers.A", "must be text"),
    "two payloads": ({**BASE, "payload": None, "payload_base64": ""}, "payload_base64", "not both"),
    "not base64": ({**BASE, "payload_base64": "a b"}, "payload_base64", "not base64"),
    "base64 not ASCII": ({**BASE, "payload_base64": "ä"}, "payload_base64", "not base64"),
    "lone surrogate": ({**BASE, "name": "\ud800"}, "name", "cannot be printed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """A wrong value is refused in one clear sentence, and the error names its field."""
    document, field, words = REFUSED[case]
    refused = refusal(document)
    assert words in refused.message
    assert refused.field == field


def problem_of(document: Any) -> InvalidArgument | None:
    try:
        parse(document)
    except InvalidArgument as problem:
        return problem
    return None


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_no_field_takes_a_wrong_type(field: str) -> None:
    """Each field refuses values of every type that is not its own; a payload alone may be anything."""
    base = {
        name: value
        for name, value in BASE.items()
        if field not in {"cron", "after", "at", "rrule", "manual"} or name != "every"
    }
    accepted = 0
    values: tuple[Any, ...] = (None, 17, -0.5, "\0", [None], [[]], {"x": 1}, True)
    for value in values:
        problem = problem_of({**base, field: value})
        if problem is None:
            accepted += 1
        else:
            assert problem.field is not None
            assert "not supported yet" not in problem.message
    whole = dict.fromkeys(["max_running", "max_tries", "max_fires"], 1)
    assert accepted == ({"payload": 8, "paused": 1, "manual": 1} | whole).get(field, 0)


# --- limits and ids
def test_minimum_interval_is_configurable() -> None:
    """The minimum interval holds for every and cron alike and may be set lower or higher."""
    fast = ScheduleLimits(minimum_interval=timedelta(milliseconds=100))
    slow = ScheduleLimits(minimum_interval=timedelta(minutes=1))
    assert parse({**BASE, "every": "100ms"}, fast).trigger == Every(timedelta(milliseconds=100))
    assert refusal({**BASE, "every": "59s"}, slow).field == "every"
    assert refusal({**NO_TRIGGER, "cron": "*/30 * * * * *"}, slow).field == "cron"
    assert parse({**NO_TRIGGER, "cron": "0 * * * * *"}, slow).trigger == Cron(("0 * * * * *",))
    close = refusal({**NO_TRIGGER, "cron": ["59 59 23 31 12 *", "@yearly"]}, slow)
    assert close.message == "cron fires twice within 1s, more often than every 1m"
    assert parse({**NO_TRIGGER, "cron": ["59 23 31 12 *", "@yearly"]}, slow).id == "mail"
    assert parse({**NO_TRIGGER, "cron": ["0 0,59 0,23 * * 1", "59 59 23 * * 3"]}, slow).id == "mail"


@pytest.mark.parametrize("schedule_id", ["", "a..b", "a b", "_x", "x" * 129])
def test_the_id_is_checked_too(schedule_id: str) -> None:
    """A valid definition under an impossible id is refused, naming the id."""
    with pytest.raises(InvalidArgument) as refused:
        parse_schedule(schedule_id, json.dumps(BASE).encode())
    assert refused.value.field == "id"
