"""Where to connect: flags, environment, contexts of the NATS tool, in the order of the contract, part 8."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.jetstream.connection import DEFAULT_SERVER, ConnectionSettings, parse_servers
from scheduler.jetstream.contexts import load_context, selected_context


class Home:
    """A home directory with contexts in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / ".config" / "nats"
        (self.folder / "context").mkdir(parents=True)
        self.env = {"HOME": str(folder)}

    def context(self, name: str, **values: object) -> None:
        (self.folder / "context" / f"{name}.json").write_text(json.dumps(values))

    def select(self, name: str) -> None:
        (self.folder / "context.txt").write_text(name + "\n")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def _settings(
    env: dict[str, str], nats: str | None = None, context: str | None = None, namespace: str | None = None
) -> ConnectionSettings:
    return ConnectionSettings.from_environment(nats, context, namespace, env)


def test_nothing_given(home: Home) -> None:
    """Without any hint it is the local server and the default namespace."""
    settings = _settings(home.env)
    assert settings == ConnectionSettings(servers=(DEFAULT_SERVER,), namespace="schedd")


def test_order_of_sources(home: Home) -> None:
    """--nats, --context, NATS_URL, NATS_CONTEXT, the selected context, the default: the first that is there decides."""
    for name in ("flag", "variable", "selected"):
        home.context(name, url=f"nats://{name}:1")
    env = dict(home.env)
    assert _settings(env).servers == (DEFAULT_SERVER,)
    home.select("selected")
    assert _settings(env).servers == ("nats://selected:1",)
    env["NATS_CONTEXT"] = "variable"
    assert _settings(env).servers == ("nats://variable:1",)
    env["NATS_URL"] = "nats://url:1"
    assert _settings(env).servers == ("nats://url:1",)
    assert _settings(env, context="flag").servers == ("nats://flag:1",)
    assert _settings(env, nats="nats://given:1").servers == ("nats://given:1",)


def test_an_url_leaves_the_credentials_of_contexts_alone(home: Home) -> None:
    """A server named by --nats or NATS_URL never gets the password of a context that nobody named with it."""
    home.context("selected", url="nats://selected:1", user="u", password="p")
    home.select("selected")
    assert _settings(home.env).password == "p"
    assert _settings(home.env, nats="nats://other:1").password is None
    assert _settings({**home.env, "NATS_URL": "nats://other:1"}).password is None
    both = _settings(home.env, nats="nats://other:1", context="selected")
    assert (both.servers, both.user, both.password) == (("nats://other:1",), "u", "p")


def test_empty_values_count_as_not_given(home: Home) -> None:
    """An empty flag or variable, as Compose and Helm write them, changes nothing."""
    env = {**home.env, "NATS_URL": "", "NATS_CONTEXT": "", "SCHEDD_NAMESPACE": "", "NATS_CREDS": "", "NATS_CA": ""}
    assert _settings(env, nats="", context="", namespace="") == ConnectionSettings()


def test_namespace(home: Home) -> None:
    """--namespace wins over SCHEDD_NAMESPACE, and an impossible one is refused."""
    env = {**home.env, "SCHEDD_NAMESPACE": "team1"}
    assert _settings(env).namespace == "team1"
    assert _settings(env, namespace="team2").namespace == "team2"
    with pytest.raises(InvalidArgument, match="namespace"):
        _settings(env, namespace="Team 2")


def test_all_of_a_context(home: Home) -> None:
    """Credentials, TLS and inbox prefix come along; `~` and variables in paths are resolved, unknown keys ignored."""
    home.context(
        "full",
        url="tls://a:1,tls://b:2",
        creds="~/u.creds",
        ca="$PKI/ca.pem",
        cert="${PKI}/c.pem",
        key="/k.pem",
        tls_first=True,
        inbox_prefix="_INBOX_me",
        color_scheme="yellow",
        something_new={"x": 1},
    )
    settings = _settings({**home.env, "PKI": "/pki"}, context="full")
    assert settings.servers == ("tls://a:1", "tls://b:2")
    assert settings.creds == f"{home.env['HOME']}/u.creds"
    assert (settings.ca, settings.cert, settings.key) == ("/pki/ca.pem", "/pki/c.pem", "/k.pem")
    assert settings.tls_first
    assert settings.inbox_prefix == "_INBOX_me"


def test_a_context_without_url(home: Home) -> None:
    """It means the default server, as in the tool."""
    home.context("bare", user="u", password="p")
    assert _settings(home.env, context="bare").servers == (DEFAULT_SERVER,)


def test_xdg_config_home(home: Home, tmp_path: Path) -> None:
    """XDG_CONFIG_HOME moves the folder of contexts."""
    other = tmp_path / "xdg"
    (other / "nats" / "context").mkdir(parents=True)
    (other / "nats" / "context" / "x.json").write_text('{"url": "nats://xdg:1"}')
    assert _settings({**home.env, "XDG_CONFIG_HOME": str(other)}, context="x").servers == ("nats://xdg:1",)


def test_credentials_of_the_environment(home: Home) -> None:
    """They replace those of a context as a whole; a user without password is a token, as in the NATS tool."""
    home.context("c", url="nats://c:1", token="of-context", ca="/ca.pem")
    env = {**home.env, "NATS_USER": "u", "NATS_PASSWORD": "p"}
    settings = _settings(env, context="c")
    assert (settings.user, settings.password, settings.token, settings.ca) == ("u", "p", None, "/ca.pem")
    settings = _settings({**home.env, "NATS_USER": "t"}, context="c")
    assert (settings.user, settings.token) == (None, "t")
    settings = _settings({**home.env, "NATS_CREDS": "~/x.creds", "NATS_CA": "/other.pem"}, context="c")
    assert (settings.creds, settings.token) == (f"{home.env['HOME']}/x.creds", None)
    assert settings.ca == "/other.pem"
    settings = _settings({**home.env, "NATS_NKEY": "/n.nk", "NATS_CERT": "/c.pem", "NATS_KEY": "/k.pem"})
    assert (settings.nkey, settings.cert, settings.key) == ("/n.nk", "/c.pem", "/k.pem")


def test_a_missing_context(home: Home) -> None:
    """One sentence that names it and those there are, whether it was named or selected."""
    home.context("prod", url="nats://p:1")
    with pytest.raises(InvalidArgument, match=r"no NATS context 'prd' in .*: there are prod"):
        _settings(home.env, context="prd")
    home.select("gone")
    with pytest.raises(InvalidArgument, match="no NATS context 'gone'"):
        _settings(home.env)


@pytest.mark.parametrize("text", ["{", "[]", '{"url": 4}', "\xff", ""])
def test_an_unreadable_context(home: Home, text: str) -> None:
    """Garbage in the file is one sentence with its path."""
    (home.folder / "context" / "bad.json").write_text(text, encoding="latin-1")
    with pytest.raises(InvalidArgument, match=r"cannot read NATS context 'bad' in .*bad\.json"):
        load_context("bad", home.env)


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", ".", "..", ".hidden"])
def test_a_context_is_no_path(home: Home, name: str) -> None:
    """The name of a context leads nowhere but to the folder of contexts."""
    with pytest.raises(InvalidArgument, match="not the name of a NATS context"):
        load_context(name, home.env)


@pytest.mark.parametrize("word", ["nsc", "socks_proxy", "jetstream_domain", "jetstream_api_prefix"])
def test_what_we_cannot_do_is_refused(home: Home, word: str) -> None:
    """A key that would lead to another system than the one we would reach is refused by name."""
    home.context("c", url="nats://c:1", **{word: "x"})
    with pytest.raises(InvalidArgument, match=f"'c' sets {word}, which schedd does not support"):
        load_context("c", home.env)


def test_creds_that_are_no_file(home: Home) -> None:
    """Newer tools keep credentials elsewhere (`nsc://...`); that is refused."""
    home.context("c", creds="nsc://operator/account/user")
    with pytest.raises(InvalidArgument, match="creds has to be the path of a file"):
        load_context("c", home.env)


def test_nothing_selected(home: Home) -> None:
    """No context.txt, or an empty one, selects nothing."""
    assert selected_context(home.env) is None
    home.select("")
    assert selected_context(home.env) is None


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nats://a:4222", ("nats://a:4222",)),
        ("a", ("nats://a",)),
        ("a:1, b:2,", ("nats://a:1", "nats://b:2")),
        ("tls://a", ("tls://a",)),
        ("ws://a:80,wss://b", ("ws://a:80", "wss://b")),
        ("nats://u:p@a:1", ("nats://u:p@a:1",)),
        ("nats://[::1]:4222", ("nats://[::1]:4222",)),
    ],
)
def test_servers(text: str, servers: tuple[str, ...]) -> None:
    """Scheme and port may be left out, several are separated by commas."""
    assert parse_servers(text) == servers


@pytest.mark.parametrize(
    "text", ["", ",", "http://a", "nats://", "nats://a:99999", "nats://a:x", "nats://[::1", "ws://a,b"]
)
def test_no_servers(text: str) -> None:
    """Anything else is refused and named."""
    with pytest.raises(InvalidArgument, match="NATS server"):
        parse_servers(text)


def test_secrets_are_not_shown(home: Home) -> None:
    """Neither settings nor contexts nor errors about a URL show a password."""
    home.context("c", url="nats://u:secret@c:1", password="secret", token="secret", user_seed="secret")
    settings = _settings(home.env, context="c")
    assert settings.password == "secret"
    assert "secret" not in repr(settings) + settings.where + repr(load_context("c", home.env))
    with pytest.raises(InvalidArgument) as caught:
        parse_servers("http://u:secret@host")
    assert "secret" not in str(caught.value)
