"""`--version`, the same for both commands."""

from __future__ import annotations

from collections.abc import Callable

import typer


def show_version(name: str) -> Callable[[bool], None]:
    """A callback that prints `NAME VERSION` and ends the command, if the option was given."""

    def show(wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version

            print(f"{name} {version('schedd')}")
            raise typer.Exit

    return show
