"""Webhooks as configured, where they may go, and how they are signed."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.wire.signing import message_id, read_secret, signed_headers
from scheduler.wire.targets import read_target
from scheduler.wire.webhooks import WebhookSettings, read_webhooks

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK = {"name": "ops", "url": "https://ops.example/hook?x=1"}
KNOWN = {("env", "S"): SECRET, ("env", "T"): "Bearer abc\n", ("file", "key"): SECRET + "\n", ("env", "EMPTY"): " "}


def resolve(how: str, where: str) -> str:
    if (how, where) not in KNOWN:
        raise InvalidArgument(f"there is no {how} {where}")
    return KNOWN[how, where]


def read(document: Any) -> WebhookSettings:
    return read_webhooks(document, resolve)


def refusal(document: Any) -> str:
    with pytest.raises(InvalidArgument) as refused:
        read(document)
    assert "\n" not in refused.value.message
    assert SECRET not in refused.value.message
    return refused.value.message


# --- signing


def test_the_vector_of_standard_webhooks() -> None:
    """The example that the specification's own libraries test with."""
    headers = signed_headers(
        [read_secret(SECRET, field="secret")], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_secrets_are_two_signatures() -> None:
    """While one follows the other a receiver finds its own among them."""
    one, other = (read_secret("whsec_" + base64.b64encode(bytes([n]) * 24).decode(), field="x") for n in (1, 2))
    both = signed_headers([one, other], "msg_1", 1, b"x")["webhook-signature"].split(" ")
    assert both == [signed_headers([key], "msg_1", 1, b"x")["webhook-signature"] for key in (one, other)]
    assert "webhook-signature" not in signed_headers([], "msg_1", 1, b"x")


def test_ids_have_no_dots() -> None:
    """What is signed is divided by dots; ids of events have some."""
    found = message_id("/schedd/schedd", "failed-report.daily.20261121T080000000Z")
    assert found.startswith("msg_")
    assert "." not in found
    assert found == message_id("/schedd/schedd", "failed-report.daily.20261121T080000000Z")
    assert found != message_id("/schedd/other", "failed-report.daily.20261121T080000000Z")


@pytest.mark.parametrize(
    "text", ["", "whsec_", "whsec_AAAA", SECRET.removeprefix("whsec_"), "whsec_!!!", "whsec_" + "A" * 88]
)
def test_bad_secrets(text: str) -> None:
    """Too short, too long, no prefix, no base64: refused without showing it."""
    with pytest.raises(InvalidArgument, match="whsec_ and the base64") as refused:
        read_secret(text, field="ops.secret")
    assert not text or text == "whsec_" or text not in refused.value.message


# --- targets


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example",
        "https://10.0.0.1:8443/x?y=z",
        "http://localhost:8080/",
        "http://127.0.0.1/",
        "http://[::1]:1/",
    ],
)
def test_where_it_may_go(url: str) -> None:
    """https anywhere, private networks included; http on this machine."""
    assert read_target(url, field="url").path.startswith("/")


@pytest.mark.parametrize(
    "url",
    [
        "", "ops.example", "ftp://a.example/", "https://", "https:///x", "https://u:p@a.example/", "https://a b/",
        "https://a.example/\r\nX: y", "https://a.example:99999/", "https://a.example:0/", "https://ä.example/",
        "https://" + "a" * 3000, "http://a.example/", "http://10.0.0.1/", "http://127.1/", "http://2130706433/",
        "https://169.254.169.254/latest", "https://[fe80::1]/", "https://[::ffff:169.254.169.254]/", "https://0.0.0.0/",
        "https://[::]/", "https://224.0.0.1/", "https://[64:ff9b::a9fe:a9fe]/", "https://[fd00:ec2::254]/",
        "https://100.100.100.200/", "https://[2002:a9fe:a9fe::]/",
    ],
)  # fmt: skip
def test_where_it_may_not_go(url: str) -> None:
    """No URL, no password in it, http to others, link-local however it is dressed."""
    with pytest.raises(InvalidArgument, match=r"^ops\.url: ") as refused:
        read_target(url, field="ops.url")
    assert len(url) < 9 or url not in refused.value.message


def test_addresses_are_judged_when_they_are_known() -> None:
    """A name may turn out to be anything: an address that must not be connected to has a reason."""
    target = read_target("https://innocent.example/", field="url")
    assert target.problem_with("169.254.169.254") == "address_refused"
    assert target.problem_with("fe80::1%eth0") == "address_refused"
    assert target.problem_with("10.1.2.3") is None
    assert target.problem_with("no address") == "address_refused"
    allowed = read_target("https://innocent.example/", field="url", allow_link_local=True)
    assert allowed.problem_with("169.254.169.254") is None
    local = read_target("http://localhost/", field="url")
    assert local.problem_with("10.1.2.3") == "http_refused"
    assert local.problem_with("127.0.0.1") is None


def test_host_header() -> None:
    """With its port unless it is the usual one; brackets around IPv6."""
    urls = ["https://a.example", "https://a.example:444", "http://[::1]:80/", "http://[::1]:81/"]
    assert [read_target(url, field="url").host_header for url in urls] == [
        "a.example", "a.example:444", "[::1]", "[::1]:81",
    ]  # fmt: skip


# --- the file


def test_the_shortest_one() -> None:
    """A name and a URL; it gets what usually wakes people up."""
    (hook,) = read([HOOK]).webhooks
    assert hook.events == {"missed", "failed", "late", "recovered", "flapping"}
    assert (hook.timeout_s, hook.patience.max_tries, hook.keys) == (10.0, 20, ())
    assert hook.wants("anything", {})
    assert hook.wants(None, {})


def test_all_of_it() -> None:
    """Every field."""
    settings = read(
        {
            "late_after": "5m",
            "webhooks": [
                {
                    **HOOK,
                    "secret": [{"env": "S"}, {"file": "key"}],
                    "events": ["failed", "finished"],
                    "schedules": ["crm.*", "billing"],
                    "labels": "team=crm,env!=dev",
                    "headers": {"Authorization": {"env": "T"}, "X-Y": "z", "Team": "crm"},
                    "timeout": "3s",
                    "max_tries": 5,
                    "allow_http": True,
                    "allow_link_local": True,
                },
                {"name": "all", "url": {"env": "S"}, "events": ["*"]}
                | {"url": "http://localhost/", "labels": {"team": "crm"}},
            ],
        }
    )
    ops, everything = settings.webhooks
    assert settings.late_after.total_seconds() == 300
    assert len(ops.keys) == 2
    assert ops.headers == {"Authorization": "Bearer abc", "X-Y": "z", "Team": "crm"}
    assert (ops.timeout_s, ops.patience.max_tries) == (3.0, 5)
    assert ops.wants("crm.x", {"team": "crm"})
    assert not ops.wants("crm.x", {"team": "crm", "env": "dev"})
    assert not ops.wants("crm.x", {})
    assert not ops.wants("crm", {"team": "crm"})
    assert not ops.wants(None, {"team": "crm"})
    assert {"leader", "failed", "applied", "undelivered"} <= set(everything.kinds)
    assert everything.wants("x", {"team": "crm"})
    assert not everything.wants("x", {})
    assert "Bearer" not in repr(settings)
    assert SECRET not in repr(settings)
    assert "ops.example" not in repr(settings)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("x", "webhooks: write a list"),
        ({"hooks": []}, "webhooks: write a list"),
        ({"webhooks": [], "late": "1s"}, "late: there is no such field"),
        ({"webhooks": [], "late_after": "0s"}, "late_after: use 1s"),
        (["x"], "webhooks[0]: write a mapping"),
        ([{"url": "https://a"}], "webhooks[0].name: "),
        ([{**HOOK, "name": "Ops"}], "webhooks[0].name: "),
        ([HOOK, HOOK], "'ops' is given twice"),
        ([{**HOOK, "evnts": []}], "ops.evnts: there is no such field"),
        ([{**HOOK, "url": None}], "ops.url: write a text"),
        ([{**HOOK, "url": {"env": "NO"}}], "ops.url: there is no env NO"),
        ([{**HOOK, "secret": SECRET}], "ops.secret: never write it into the file"),
        ([{**HOOK, "secret": {"env": "NO"}}], "ops.secret: there is no env NO"),
        ([{**HOOK, "secret": {"env": "EMPTY"}}], "ops.secret: env EMPTY is empty"),
        ([{**HOOK, "secret": {"env": "T"}}], "ops.secret: no secret of Standard Webhooks"),
        ([{**HOOK, "secret": []}], "ops.secret: one secret"),
        ([{**HOOK, "secret": {"vault": "x"}}], "ops.secret: never write"),
        ([{**HOOK, "events": "failed"}], "ops.events: write a list"),
        ([{**HOOK, "events": []}], "ops.events: write a list"),
        ([{**HOOK, "events": ["failde"]}], "ops.events: 'failde' is no kind"),
        ([{**HOOK, "schedules": [1]}], "ops.schedules: write a list"),
        ([{**HOOK, "labels": {"team": 1}}], "ops.labels: write a selector"),
        ([{**HOOK, "labels": "team in (a"}], "ops.labels: selector"),
        ([{**HOOK, "headers": {"Host": "x"}}], "ops.headers: 'Host' cannot be set"),
        ([{**HOOK, "headers": {"Webhook-Id": "x"}}], "ops.headers: 'Webhook-Id' cannot be set"),
        ([{**HOOK, "headers": {"X": "a\r\nb"}}], "ops.headers.X: no printable"),
        ([{**HOOK, "timeout": "0s"}], "ops.timeout: use 1s to 60s"),
        ([{**HOOK, "timeout": True}], "ops.timeout: use 1s to 60s"),
        ([{**HOOK, "timeout": "soon"}], "ops.timeout: write a duration"),
        ([{**HOOK, "max_tries": 0}], "ops.max_tries: use 1 to 100"),
        ([{**HOOK, "max_tries": 2.5}], "ops.max_tries: use 1 to 100"),
        ([{**HOOK, "allow_http": "yes"}], "ops.allow_http: write true or false"),
        ([{"name": f"h{n}", "url": "https://a"} for n in range(33)], "33 are more than 32"),
    ],
)  # fmt: skip
def test_what_is_refused(document: Any, told: str) -> None:
    """One sentence that names the webhook and the field, and never a secret."""
    assert told in refusal(document)
