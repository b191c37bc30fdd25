"""`schedd dev`: a NATS server of one's own and one replica; ready when `NATS_URL=...` is printed.

The ports are the usual ones, on this machine only; where one is taken, any other, so that two may run side by side.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.connecting import Connection
from cli.output import say
from scheduler.core.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from scheduler.config import Settings

PORTS = {"monitor": 8080, "admin": 8088}


def develop(data: Path | None, connection: Connection, flags: Mapping[str, Any], env: Mapping[str, str]) -> int:
    """Run until a signal; the exit code. Raises ScheddError with one sentence."""
    from scheduler.config import Settings
    from scheduler.telemetry.logging import configure_logging

    if connection.nats or connection.context:
        raise InvalidArgument("dev brings its own NATS server; for another one use `schedd run`", field="nats")
    flags = {**addresses(flags, env), **connection.given(), **flags}
    settings = Settings.load(flags, env)  # refuses bad input before anything is started
    configure_logging(settings.log_format, settings.log_level)
    return asyncio.run(_develop(data, settings, flags, env))


async def _develop(data: Path | None, settings: Settings, flags: Mapping[str, Any], env: Mapping[str, str]) -> int:
    from scheduler.testing import LocalSchedd

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LocalSchedd(data=data, namespace=settings.namespace, env=env, flags=flags) as local:
        say(f"NATS_URL={local.nats_url}")
        sys.stdout.flush()
        ended = asyncio.create_task(local.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, stopping):
            task.cancel()
        (reason, _) = await asyncio.gather(ended, stopping, return_exceptions=True)
    if not stop.is_set():
        raise Unavailable(f"dev cannot go on: {reason}")
    return 0


def addresses(flags: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """Addresses for what neither flags nor environment say."""
    wanted = {name: port for name, port in PORTS.items() if name not in flags and not env.get(f"SCHEDD_{name.upper()}")}
    return {name: f"127.0.0.1:{port}?" for name, port in wanted.items()}
