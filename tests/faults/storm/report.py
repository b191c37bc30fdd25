"""One page of Markdown about a run, and the undisturbed one beside it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tests.acceptance.evidence import KINDS
from tests.faults.page import page, seconds, told_broken
from tests.faults.storm.figures import Figures
from tests.faults.storm.load import MIX

EXPLAINED = """\
The evidence is what plain workers fsynced before they acknowledged; execution ids and instants are computed by the
checker, not by schedd. Late is delivered more than {late_max_s:g} s after its fire time. Unmatched are instants without
a task of their own, surplus are tasks without an instant of their own, whatever the ids say. Lateness is from the fire
time to the worker."""


def report(figures: Figures, beside: Figures | None, *, command: str, where: Sequence[str], picture: str) -> str:
    """`where`: lines about machine and versions. `picture`: the file name of the SVG."""
    plan = figures.plan
    verdict = "**Every guarantee held.**" if not figures.broken else f"**BROKEN: {'; '.join(figures.broken)}**"
    kills = "undisturbed" if plan.undisturbed else f"the leader killed with kill -9 every {plan.kill_every_s:g} s"
    return page(
        f"Storm: {plan.rate} fires a second, {plan.nodes} NATS node{'s' * (plan.nodes > 1)}, {plan.length_s:g} s",
        f"{verdict} {figures.began:%Y-%m-%d %H:%M} UTC, {kills}.",
        command=command,
        facts=[*where, *_conditions(figures)],
        tables=[_table(figures, beside)],
        picture=f"![windows, lateness, leaders]({picture})",
        explained=EXPLAINED.format(late_max_s=plan.late_max_s),
        broken=told_broken(figures.broken, {"": figures.findings}, figures.torn_audits),
    )


def _conditions(figures: Figures) -> list[str]:
    plan = figures.plan
    mix = ", ".join(f"{each.share:.0%} `{_trigger(each.trigger)}`" for each in MIX)
    return [
        f"seed {plan.seed}, lease {plan.lease_s:g} s, horizon {plan.horizon_s:g} s, three replicas",
        f"{figures.audits} schedules: {mix}",
        f"{len(figures.kills)} kills of the leader, {figures.take_overs} take-overs by the epochs that replicas logged",
        f"{len(figures.gave_up)} replicas ended by themselves and were started again, as by a supervisor",
    ]


def _trigger(trigger: object) -> str:
    assert isinstance(trigger, dict)
    return " ".join(f"{key}: {value}" for key, value in trigger.items())


def _table(figures: Figures, beside: Figures | None) -> list[str]:
    columns = [figures] if beside is None else [figures, beside]
    titles = ["this run"] if beside is None else ["this run", f"undisturbed, {beside.plan.length_s:g} s"]
    rows: list[tuple[str, list[str]]] = [
        ("owed", [str(each.findings.expected) for each in columns]),
        ("delivered", [str(each.findings.delivered) for each in columns]),
        *((kind, [str(len(getattr(each.findings, kind))) for each in columns]) for kind in KINDS),
        ("redelivered (legal)", [str(len(each.findings.redelivered)) for each in columns]),
        ("audit", [audit_of(each) for each in columns]),
        (
            "windows red / all",
            [f"{sum(bool(w.faults) for w in each.windows)} / {len(each.windows)}" for each in columns],
        ),
        ("lateness p50", [seconds(each.lateness.p50_s) for each in columns]),
        ("lateness p99", [seconds(each.lateness.p99_s) for each in columns]),
        ("lateness max", [seconds(each.lateness.max_s) for each in columns]),
    ]
    return [
        f"| | {' | '.join(titles)} |",
        f"|---|{'---|' * len(columns)}",
        *(f"| {name} | {' | '.join(values)} |" for name, values in rows),
    ]


def audit_of(figures: Figures) -> str:
    whole = figures.audits - len(figures.torn_audits)
    return f"{whole} of {figures.audits} schedules at 100 %, {figures.audited} occurrences"
