"""README.md says what is so: every link, name, default, flag and snippet in it is held against the code."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.programs.environment import NAMES as PROGRAM_NAMES
from cli.schedctl import app as schedctl
from cli.schedd import app as schedd
from scheduler.config import FLAGS, OPTIONS, Settings, env_name
from scheduler.core.lifecycle import diagram
from scheduler.jetstream.connection import _AUTH_ENV, _TLS_ENV
from scheduler.jetstream.topology import topology
from scheduler.services.api.endpoint import names_of
from scheduler.services.api.nouns import NOUNS
from scheduler.telemetry.metrics import PrometheusTelemetry
from scheduler.wire import headers
from scheduler.wire.event_data import EVENT_DATA
from scheduler.wire.events import Kind
from scheduler.wire.names import Names
from scheduler.wire.schedule import FIELDS, parse_schedule
from scheduler.wire.schedule_unbuilt import NOT_BUILT
from tests.faults.registry import FAULTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text under a heading of the second level."""
    [found] = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return str(found)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def words(text: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, text))


# --- links


LINKS = re.findall(r"\[[^\]]+\]\(([^)\s]+)\)", README)


def test_there_are_links() -> None:
    """The pattern that finds links finds them; each guarantee has one at least."""
    assert len(LINKS) > 40
    guarantees = re.split(r"^\d\. ", section("What we promise"), flags=re.MULTILINE)[1:]
    assert len(guarantees) == 7
    assert all("](tests/" in guarantee for guarantee in guarantees)


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_links_lead_somewhere(link: str) -> None:
    """A file that is there, a test in it that CI runs, or a heading of this page."""
    place, _, name = link.partition("#")
    if not place:
        headings = re.findall(r"^##+ (.+)$", README, re.MULTILINE)
        assert name in {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        return
    assert (ROOT / place).exists()
    if name:
        nodes = ast.walk(ast.parse((ROOT / place).read_text()))
        functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions
        marks = [ast.unparse(mark) for mark in functions[name].decorator_list]
        assert not any("slow" in mark.lower() for mark in marks if "parametrize" not in mark), "CI does not run it"


def test_every_fault_of_the_registry_has_its_row() -> None:
    """In its words, with a link to a test of it that CI runs, if there is one."""
    rows = re.findall(
        r"^\| \[(F\d+)\]\(([^)]+)\) \| (.+?) \| (.+?) \| (.+) \|$", section("What we promise"), re.MULTILINE
    )
    assert [(id_, broken, expected) for id_, _, broken, expected, _ in rows] == [
        (fault.id, fault.broken, fault.expected) for fault in FAULTS
    ]
    for fault, (_, link, *_) in zip(FAULTS, rows, strict=True):
        assert link.replace("#", "::") in fault.tests or link in {test.partition("::")[0] for test in fault.tests}


# --- names


def test_the_diagram_is_the_one_of_the_code() -> None:
    """What an execution can become is generated, not drawn."""
    assert blocks("mermaid") == [diagram() + "\n"]


def test_every_setting_is_told_and_no_other() -> None:
    """Each environment name exists, and each setting has its row."""
    known = {env_name(name) for name in OPTIONS}
    streams = {stream.name for stream in topology(Names()).streams} | {Names().tasks, Names().reports, Names().events}
    assert words(README, r"\bSCHEDD_[A-Z_]+\b") <= known | {"SCHEDD_DEBUG"} | streams | set(PROGRAM_NAMES)
    assert known <= words(section("Configuration"), r"`((?:SCHEDD|NATS)_[A-Z_]+)`")
    assert words(section("Configuration"), r"`--([a-z-]+)") == {flag.replace("_", "-") for flag in FLAGS}


def test_every_name_in_a_program_s_environment_is_told() -> None:
    """The row of `worker exec` has them all, and no other."""
    [row] = [line for line in section("Workers").splitlines() if line.startswith("| environment |")]
    told = {"SCHEDD_" + name for name in re.findall(r"`([A-Z_]+)`", row)} - {"SCHEDD_SCHEDD_", "SCHEDD_TRACEPARENT"}
    assert told | {"SCHEDD_RESULT"} == set(PROGRAM_NAMES)


def test_every_name_of_nats_is_read() -> None:
    """The environment names of credentials are those that the connection reads."""
    told = words(section("Running it"), r"`(NATS_[A-Z_]+)`")
    assert told == {*_AUTH_ENV, *_TLS_ENV.values()}


def defaults() -> list[tuple[str, str]]:
    return re.findall(r"^\| `(SCHEDD_[A-Z_]+)` \| `([^`]+)`", section("Configuration"), re.MULTILINE)


@pytest.mark.parametrize(("name", "default"), defaults())
def test_defaults_are_those_of_the_code(name: str, default: str) -> None:
    """A default in the table is the value that a replica without any setting has."""
    option = next(option for key, option in OPTIONS.items() if env_name(key) == name)
    assert option.kind.read(default) == getattr(Settings(), option.field)


def test_every_metric_is_told_and_no_other() -> None:
    """The table has each metric with its labels, and each name in it is exposed."""
    telemetry = PrometheusTelemetry(version="1", replica="a", namespace="schedd")
    exposed = set(re.findall(r"^# TYPE (\w+) ", telemetry.render()[0].decode(), re.MULTILINE))
    told = words(section("Metrics"), r"`(schedd_\w+)")
    assert told == exposed
    for name, labels in re.findall(r"`(schedd_\w+)\{([^}]+)\}`", section("Metrics")):
        assert _labels(telemetry, name) == labels.split(",")


def _labels(telemetry: PrometheusTelemetry, name: str) -> list[str]:
    metric: Any = telemetry.registry._names_to_collectors[name]
    if metric._labelnames:
        return list(metric._labelnames)
    [family] = metric.collect()
    return list(family.samples[0].labels)


def test_every_header_exists() -> None:
    """Headers of tasks: each of ours that is sent is told, and nothing else."""
    ours = {value for value in vars(headers).values() if isinstance(value, str) and value.startswith("Schedd-")}
    not_sent_yet = {headers.DEADLINE, headers.CLIENT}
    assert words(section("Workers"), r"`(Schedd-[A-Za-z-]+)`") == ours - not_sent_yet


def test_every_endpoint_is_told() -> None:
    """The list of the API is that of the service."""
    told = {
        f"{noun}.{verb}"
        for noun, verbs in re.findall(r"`(\w+)\.\{?([\w,]+)\}?`", section("API").partition("Bodies")[0])
        for verb in verbs.split(",")
    }
    assert told == {name for noun in NOUNS for name in names_of(noun)}


def test_every_kind_of_event_is_told() -> None:
    """The table of events has each kind, with each field that its struct has."""
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\| .* \| (.*) \|$", section("Events"), re.MULTILINE)
    told = {kind: set(re.findall(r"`(\w+)`", fields)) for kinds, fields in rows for kind in re.findall(r"\w+", kinds)}
    assert told == {kind: set(shape.__struct_encode_fields__) for kind, shape in EVENT_DATA.items()}
    assert set(told) == set(Kind)


def test_every_field_is_told() -> None:
    """The table of the schedule has each field, and marks those that are not built."""
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", section("Schedules"), re.MULTILINE)
    told = {field: rest for names, rest in rows for field in re.findall(r"`(\w+)`", names)}
    assert set(told) == FIELDS
    marked = {field for field, rest in told.items() if re.search(r"\*[nN]ot supported yet\*", rest)}
    assert marked == set(NOT_BUILT)
    unbuilt = words(section("Not built yet"), r"`([a-z_]+)`") & FIELDS
    assert unbuilt == set(NOT_BUILT)


# --- snippets


def test_json_is_a_schedule() -> None:
    """What is shown as a schedule is valid."""
    for text in blocks("json"):
        json.loads(text)
        parse_schedule("x", text.encode())


def test_python_compiles() -> None:
    """Programs have no typo that the compiler would find; `tests/integration/test_tutorial.py` runs them."""
    assert len(blocks("python")) >= 4
    for text in blocks("python"):
        compile(text, "README.md", "exec")


def commands() -> list[str]:
    typed = [line for text in blocks("sh") for line in text.splitlines()]
    shown = [line[2:] for text in blocks("console") for line in text.splitlines() if line.startswith("$ ")]
    return [line for line in typed + shown if line.strip()]


@pytest.mark.parametrize("line", commands())
def test_shell_parses(line: str) -> None:
    """Each command line is one for sh; each schedd and schedctl command in it exists, with its options."""
    subprocess.run(["sh", "-n", "-c", line], check=True)
    for command in re.split(r"&&|; ", line):
        program, *arguments = shlex.split(command)
        app = {"schedctl": schedctl, "schedd": schedd}.get(Path(program).name)
        if app is not None:
            _check_arguments(typer.main.get_command(app), arguments)


def _check_arguments(command: Any, arguments: list[str]) -> None:
    while arguments and hasattr(command, "commands"):
        assert arguments[0] in command.commands, arguments[0]
        command = command.commands[arguments.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_commands_in_the_table_exist() -> None:
    """Each `schedd x` and `schedctl x y` of the table is a command, and none is missing."""
    rows = [row.split(" | ")[0] for row in section("Commands").splitlines() if row.startswith("| `sched")]
    told = set()
    for row in rows:
        first, *others = re.findall(r"`([^`]+)`", row)
        path = [word for word in first.split() if re.fullmatch("[a-z]+", word)]
        told |= {" ".join(path), *(" ".join([*path[:-1], other]) for other in others)}
    assert told == set(_all_commands("schedd", schedd)) | set(_all_commands("schedctl", schedctl))


def _all_commands(name: str, app: typer.Typer) -> Iterator[str]:
    def walk(path: str, command: Any) -> Iterator[str]:
        children = getattr(command, "commands", {})
        if not children:
            yield path
        for word, child in children.items():
            yield from walk(f"{path} {word}", child)

    return walk(name, typer.main.get_command(app))
