"""A page of Markdown about a run, as storms and soaks write it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.acceptance.evidence import Findings

SHOWN = 6
"""Of what is broken, how many are named."""


def page(
    title: str,
    verdict: str,
    *,
    command: str,
    facts: Sequence[str],
    tables: Sequence[Sequence[str]],
    picture: str,
    explained: str,
    broken: Sequence[str],
) -> str:
    """`tables`: each as its lines. `broken`: the lines of `told_broken`."""
    lines = [
        f"# {title}",
        "",
        verdict,
        "",
        "```sh",
        command,
        "```",
        "",
        *(f"- {each}" for each in facts),
        "",
        *(line for table in tables for line in (*table, "")),
        picture,
        "",
        explained,
        *broken,
    ]
    return "\n".join(lines) + "\n"


def told_broken(broken: Sequence[str], found: Mapping[str, Findings], torn_audits: Sequence[str]) -> list[str]:
    """A section on that, with some examples of each kind; nothing if nothing is. `found`: by what they begin with."""
    if not broken:
        return []
    lines = ["", "## What is broken", "", *(f"- {each}" for each in broken)]
    for prefix, findings in found.items():
        for kind, examples in findings.faults.items():
            lines += ["", f"{prefix}{kind}: " + ", ".join(f"`{each}`" for each in examples[:SHOWN])]
    if torn_audits:
        lines += ["", "audits: " + "; ".join(f"`{each}`" for each in torn_audits[:SHOWN])]
    return lines


def seconds(value: float) -> str:
    """In ms below one second."""
    return f"{value * 1000:.0f} ms" if abs(value) < 1 else f"{value:.2f} s"
