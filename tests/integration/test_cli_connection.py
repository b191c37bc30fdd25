"""How `schedctl` finds its daemon, and what it says of one that is not there: a real process, a real NATS server."""

from __future__ import annotations

import asyncio

from scheduler.core.errors import Unavailable
from tests.integration.cli_process import HELLO, Cli, run
from tests.integration.fake_daemon import FakeDaemon


async def test_connection_options_before_and_after(url: str, daemon: FakeDaemon) -> None:
    """--nats and --namespace work before or after the subcommand, at a noun too, and beat the environment."""
    elsewhere = {"NATS_URL": "nats://127.0.0.1:1", "SCHEDD_NAMESPACE": "other"}
    options = ("--nats", url, "--namespace", "schedd")
    for arguments in (
        (*options, "list"),
        ("list", *options),
        (*options, "executions", "list"),
        ("executions", *options, "list"),
        ("executions", "list", *options),
        ("--nats", "nats://127.0.0.1:1", "executions", "list", *options),
    ):
        result = await run(*arguments, "--json", **elsewhere)
        assert result.code == 0, (arguments, result.err)


async def test_nats_away_is_5_in_one_sentence() -> None:
    """Without a server: one sentence that names the URL, exit 5, soon (five seconds, and what the machine adds)."""
    start_at = asyncio.get_running_loop().time()
    result = await run("list", "--nats", "nats://127.0.0.1:1")
    assert result.code == 5
    assert result.err.count("\n") == 1
    assert "127.0.0.1:1" in result.err
    assert asyncio.get_running_loop().time() - start_at < 20


async def test_no_daemon_is_5_in_one_sentence(url: str) -> None:
    """With a server and nobody on it: one sentence that says what to start, exit 5."""
    result = await run("status", "--nats", url)
    assert result.code == 5
    assert result.err.count("\n") == 1
    assert "schedd run" in result.err
    assert "'schedd'" in result.err


async def test_other_namespace_is_another_daemon(url: str, daemon: FakeDaemon) -> None:
    """--namespace decides whom is asked."""
    assert (await run("list", "--nats", url, "--namespace", "team1")).code == 5


async def test_unavailable_reads_are_repeated(cli: Cli, daemon: FakeDaemon) -> None:
    """A daemon that is busy electing is asked again; the user notices nothing."""
    daemon.put("hello", HELLO)
    daemon.faults = [lambda: Unavailable("electing"), lambda: Unavailable("electing")]
    assert (await cli("get", "hello", "--json")).code == 0
