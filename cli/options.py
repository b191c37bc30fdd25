"""Groups of options that several commands share: declared once, spread into signatures, handed over as one value.

Typer reads a command from its signature. `expand` returns a function whose signature has a group's options in place of
one parameter, so that a command can say `connection` or `flags` and `--help` still lists every option.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer

Command = Callable[..., Any]


def option(name: str, kind: Any, *declarations: str, text: str, default: Any = None, **more: Any) -> inspect.Parameter:
    """One option as a parameter of a signature; `kind` is its type as typer understands it, `text` its help."""
    more.setdefault("show_default", default not in (None, False, []))
    if kind is bool:
        more.setdefault("metavar", "")  # a switch takes no value
    annotation = Annotated[kind, typer.Option(*declarations, help=text, **more)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def expand(
    function: Command, name: str, parameters: Iterable[inspect.Parameter], collect: Callable[[Mapping[str, Any]], Any]
) -> Command:
    """`function` with `parameters` in place of its parameter `name`, which gets what `collect` makes of them."""
    group = list(parameters)
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def expanded(**given: Any) -> Any:
        values = {parameter.name: given.pop(parameter.name) for parameter in group}
        return function(**given, **{name: collect(values)})

    kept = [parameter for parameter in signature.parameters.values() if parameter.name != name]
    merged = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*kept, *group)]
    return _described(expanded, signature.replace(parameters=merged))


def _described(function: Command, signature: inspect.Signature) -> Command:
    """Give a wrapper a signature of its own, in all the places where typer looks."""
    del function.__wrapped__  # type: ignore[attr-defined]  # functools.wraps set it; inspect would follow it
    function.__signature__ = signature  # type: ignore[attr-defined]  # the documented way to override (PEP 362)
    function.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return function
