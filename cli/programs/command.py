"""`schedctl worker exec`: the options, and a worker of the SDK around the program."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from cli.connecting import Connection, placed
from cli.programs.exits import NO_RETRY, read_codes
from scheduler.core.errors import InvalidArgument


@placed
def exec_program(
    connection: Connection,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The program and its arguments.", show_default=False)
    ],
    queues: Annotated[
        list[str], typer.Option("--queue", metavar="QUEUE", help="Queue to serve; may be repeated.", show_default=False)
    ],
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only tasks of this type; may be repeated; default: every type."),
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", metavar="N", min=1, help="Programs at once.")] = 1,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="SPAN", help="For one run; the schedule's may be shorter.")
    ] = None,
    max_tries: Annotated[
        int | None, typer.Option("--max-tries", metavar="N", help="The schedule's may be smaller.")
    ] = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="SPAN", help="From SIGTERM to SIGKILL, after a timeout.")
    ] = "10s",
    stop_grace: Annotated[
        str, typer.Option("--stop-grace", metavar="SPAN", help="What runs may end when the worker stops.")
    ] = "30s",
    no_retry: Annotated[
        str, typer.Option("--no-retry", metavar="CODES", help="Exit codes after which no try follows.")
    ] = NO_RETRY,
    log_format: Annotated[str, typer.Option("--log-format", metavar="text|json", help="Of the log.")] = "text",
) -> None:
    """Serve a queue with a program: run it for each task, the payload on its input. Exit code 0: succeeded.

    The ids are in SCHEDD_EXECUTION_ID and so on, what it prints is the execution's log, what it writes into the file
    $SCHEDD_RESULT is the result. Exit codes 64 and 65 fail for good, any other one is tried again while tries are left.
    """
    from cli.programs.guarding import Guard
    from cli.programs.program import Program
    from scheduler.telemetry.logging import configure_logging
    from scheduler.worker import ANY, Worker

    codes = read_codes(no_retry)
    worker = Worker(
        *queues, concurrency=concurrency, stop_grace=stop_grace, nats=connection.nats, context=connection.context,
        namespace=connection.namespace,
    )  # fmt: skip
    if not shutil.which(command[0]):
        raise InvalidArgument(f"there is no command {command[0]!r:.80} here that can be executed", field="command")
    configure_logging(log_format)
    with Guard() as guard:
        program = Program(command, guard=guard, no_retry=codes)
        for name in types or [ANY]:
            worker.task(name, max_tries=max_tries, timeout=timeout, grace=grace)(program)
        worker.run()
