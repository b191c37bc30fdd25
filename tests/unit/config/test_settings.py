"""Settings: where they come from, who wins, what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from scheduler.config import FLAGS, OPTIONS, Settings, env_name
from scheduler.core.errors import InvalidArgument
from scheduler.wire.addresses import Address


def load(*, env: dict[str, str] | None = None, **flags: object) -> Settings:
    return Settings.load(flags, env or {})


def refusal(*, env: dict[str, str] | None = None, **flags: object) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as refused:
        load(env=env, **flags)
    return refused.value


def test_defaults_of_the_contract() -> None:
    """Without flags and environment everything is as documented."""
    settings = load()
    assert settings.monitor == Address("", 8080)
    assert settings.admin == Address("127.0.0.1", 8088)
    assert (settings.stream_replicas, settings.horizon_s, settings.log_format) == (1, 120.0, "text")
    assert (settings.nats, settings.context, settings.namespace) == (None, None, "schedd")
    assert (settings.claim_floor_s, settings.payload_max, settings.batch) == (1800.0, 65_536, 256)
    assert (settings.ack_wait_s, settings.max_deliver) == (30.0, 20)
    assert (settings.max_ack_pending, settings.max_pending) == (1000, 100_000)
    assert settings.replica


def test_flag_over_environment_over_default() -> None:
    """A flag wins; an empty environment value counts as not set."""
    env = {"SCHEDD_HORIZON": "30s", "SCHEDD_LOG_FORMAT": "json", "SCHEDD_MONITOR": ""}
    settings = load(env=env, horizon="1m", monitor=None)
    assert settings.horizon_s == 60.0
    assert settings.log_format == "json"
    assert settings.monitor == Address("", 8080)


@pytest.mark.parametrize(
    ("flags", "env", "expected"),
    [
        ({}, {}, (None, None)),
        ({}, {"NATS_URL": "nats://a:1", "NATS_CONTEXT": "c"}, ("nats://a:1", None)),
        ({}, {"NATS_CONTEXT": "c"}, (None, "c")),
        ({"context": "d"}, {"NATS_URL": "nats://a:1"}, (None, "d")),
        ({"nats": "nats://b:1"}, {"NATS_CONTEXT": "c"}, ("nats://b:1", None)),
        ({"nats": "nats://b:1", "context": "d"}, {}, ("nats://b:1", "d")),
    ],
)
def test_where_nats_is(flags: dict[str, object], env: dict[str, str], expected: tuple[str | None, str | None]) -> None:
    """A named context is not overruled by a server in the environment, nor the other way round."""
    settings = load(env=env, **flags)
    assert (settings.nats, settings.context) == expected


@pytest.mark.parametrize(("replicas", "timings"), [(1, (15, 10, 2)), (3, (30, 20, 3)), (5, (30, 20, 3))])
def test_lease_follows_the_replicas(replicas: int, timings: tuple[float, float, float]) -> None:
    """A cluster that elects needs more patience."""
    settings = load(stream_replicas=replicas)
    assert (settings.lease_s, settings.lease_renew_deadline_s, settings.lease_retry_s) == pytest.approx(timings)


def test_deadline_and_retry_follow_the_lease() -> None:
    """Whoever shortens the lease need not know the other two."""
    settings = load(env={"SCHEDD_LEASE": "3"})
    assert (settings.lease_s, settings.lease_renew_deadline_s, settings.lease_retry_s) == pytest.approx((3, 2, 0.4))


@pytest.mark.parametrize(
    ("field", "env"),
    [
        ("lease_renew_deadline", {"SCHEDD_LEASE_RENEW_DEADLINE": "15s"}),
        ("lease_retry", {"SCHEDD_LEASE_RETRY": "9s"}),
        ("slice", {"SCHEDD_HORIZON": "5s", "SCHEDD_SLICE": "6s"}),
        ("claim_floor", {"SCHEDD_CLAIM_FLOOR": "2m"}),
    ],
)
def test_relations_are_checked(field: str, env: dict[str, str]) -> None:
    """Values that are fine alone and wrong together are refused, with the names to change."""
    error = refusal(env=env)
    assert error.field == field
    assert env_name(field) in error.message


@pytest.mark.parametrize("address", [":8088", "0.0.0.0:8088", "[::]:8088", "10.0.0.1:8088", "example.com:8088"])
def test_admin_stays_on_this_machine(address: str) -> None:
    """Without sign-in no other machine may reach the Admin center."""
    error = refusal(admin=address)
    assert error.exit_code == 2
    assert "no sign-in" in error.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("horizon", "1s"), ("horizon", "2 parsecs"), ("horizon", "nan"), ("horizon", "inf"), ("horizon", "-5s"),
        ("stream_replicas", "2"), ("stream_replicas", "three"), ("monitor", "8080"), ("admin", "localhost"),
        ("namespace", "Team1"), ("replica", "my host"), ("replica", "x" * 64), ("log_format", "xml"),
    ],
)  # fmt: skip
def test_every_refusal_names_flag_and_environment(name: str, text: str) -> None:
    """From a flag and from the environment alike."""
    flag = f"--{name.replace('_', '-')}"
    given: dict[str, Any] = {name: text}
    for error in (refusal(**given), refusal(env={env_name(name): text})):
        assert error.field == name
        assert error.message.endswith(f"(set by {flag} or {env_name(name)})")


def test_a_tunable_names_its_environment_only() -> None:
    """There is no flag to mention."""
    assert refusal(env={"SCHEDD_BATCH": "0"}).message.endswith("use 1 to 256 (set by SCHEDD_BATCH)")
    assert refusal(env={"SCHEDD_LOG_LEVEL": "loud"}).message.endswith("(set by SCHEDD_LOG_LEVEL)")


def test_flags_off_and_typed_values() -> None:
    """`off` closes a port; a command line that has converted a value already may pass it as it is."""
    settings = load(monitor="off", admin="off", stream_replicas=3)
    assert settings.monitor is None
    assert settings.admin is None
    assert settings.stream_replicas == 3


def test_an_unknown_flag_is_our_mistake() -> None:
    """It must not be ignored."""
    assert refusal(horizn="2s").field == "horizn"


def test_a_setting_made_in_code_is_checked_too() -> None:
    """The testing kit builds settings without `load`."""
    with pytest.raises(InvalidArgument, match="horizon"):
        Settings(horizon_s=0.5)


def test_warnings() -> None:
    """A misspelt name and a short horizon are worth a line; service links of Kubernetes are not."""
    env = {"SCHEDD_HORIZN": "5s", "SCHEDD_PORT_8080_TCP": "tcp://10.0.0.1:8080", "SCHEDD_SERVICE_HOST": "10.0.0.1"}
    env["SCHEDD_DEBUG"] = "1"
    assert load().warnings(env) == ["SCHEDD_HORIZN is no setting of schedd; did you mean SCHEDD_HORIZON?"]
    assert "shorter than a take-over" in load(horizon="2s").warnings({})[0]


def test_every_field_has_an_option_and_every_name_is_documented() -> None:
    """No setting without a check, none that the module's docstring does not mention."""
    from scheduler import config

    assert {option.field for option in OPTIONS.values()} == {field.name for field in msgspec.structs.fields(Settings)}
    text = config.__doc__ or ""
    for name in OPTIONS:
        shown = f"--{name.replace('_', '-')}" if name in FLAGS else env_name(name)
        assert shown in text, name
