"""Every command's help ends with an example, and every example is one."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer

from cli.examples import EXAMPLES, commands_of, give
from cli.schedctl import app as schedctl
from cli.schedd import app as schedd

COMMANDS = {**dict(commands_of(schedctl, "schedctl")), **dict(commands_of(schedd, "schedd"))}


def test_the_commands_are_found() -> None:
    """Those of groups too, by the names that one types."""
    assert {"schedctl list", "schedctl executions list", "schedctl worker exec", "schedd run"} <= COMMANDS.keys()


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_each_command_has_an_example(path: str) -> None:
    """One line in cli/examples.py."""
    assert path in EXAMPLES, f"give {path} a line in cli/examples.py"


@pytest.mark.parametrize("path", sorted(COMMANDS.keys() & EXAMPLES.keys()))
def test_each_example_can_be_typed(path: str) -> None:
    """It is about its command, and the command understands its options."""
    line = EXAMPLES[path].removeprefix("source <(").removesuffix(")")
    words = shlex.split(line)
    name, *arguments = words
    command: Any = typer.main.get_command(schedctl if name == "schedctl" else schedd)
    context = None
    for word in path.split()[1:]:
        assert arguments.pop(0) == word
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
        name, command = word, command.commands[word]
    command.make_context(name, arguments, parent=context)


def test_the_help_ends_with_it() -> None:
    """As its last lines."""
    give(schedctl, "schedctl")
    assert COMMANDS["schedctl status"].epilog == "Example: schedctl status --detailed"
