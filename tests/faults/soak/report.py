"""One page of Markdown about a soak. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tests.acceptance.evidence import KINDS
from tests.faults.page import page, seconds, told_broken
from tests.faults.soak.judging import Verdict
from tests.faults.soak.levels import Level

EXPLAINED = """\
The evidence is what plain workers fsynced before they acknowledged, and the history of what clients asked for and were
answered; ids and instants are computed by the checker, not by schedd. Late is more than {late_max_s:g} s after the
fire time. Unmatched are instants without a task of their own, surplus are tasks without an instant of their own,
whatever the ids say. Unexplained was allowed to be skipped, was not delivered, and has no verdict on record. Parked is
what waited in a queue without a worker, until the end; half of it was cancelled.

Levels are medians over 30 s of rest: before, after a warm-up with the same load; after, when records, nonces, claims
and markers of the run have expired. The replica `far` was stopped and cut off, and never killed."""


def report(verdict: Verdict, *, command: str, where: Sequence[str], picture: str) -> str:
    """`where`: lines about machine and versions. `picture`: the file name of the SVG."""
    plan = verdict.plan
    told = f"**BROKEN: {'; '.join(verdict.broken)}**" if verdict.broken else "**Everything held and came back.**"
    nodes = f"{plan.nodes} NATS node{'s' * (plan.nodes > 1)}"
    return page(
        f"Soak: {plan.length_s / 60:.3g} minutes, {plan.rate} fires a second, {nodes}{', no faults' * plan.calm}",
        f"{told} {verdict.began:%Y-%m-%d %H:%M} UTC, seed {plan.seed}.",
        command=command,
        facts=[*where, *_done(verdict)],
        tables=[_found(verdict), _levels(verdict.levels)],
        picture=f"![windows, lateness, faults, leaders, levels]({picture})",
        explained=EXPLAINED.format(late_max_s=plan.late_max_s),
        broken=told_broken(verdict.broken, {"": verdict.findings, "parked, ": verdict.parked}, verdict.torn_audits),
    )


def _done(verdict: Verdict) -> list[str]:
    """What was done to it, and how often."""
    struck: dict[str, list[bool]] = defaultdict(list)
    for each in verdict.strikes:
        struck[each.name].append(each.happened)
    faults = [f"{sum(seen)} {name.replace('_', ' ')}" for name, seen in sorted(struck.items()) if name != "quiet"]
    missed = sum(not each for seen in struck.values() for each in seen)
    clients = [
        f"{told['done']} {kind} ({told['unknown']} unknown)" for kind, told in sorted(verdict.operations.items())
    ]
    rest = f"{missed} did not come about; {verdict.quiet_share:.0%} of the time quiet; {verdict.take_overs} take-overs"
    return [
        f"faults seen to happen: {', '.join(faults) or 'none'}; {rest}",
        f"clients: {', '.join(clients)}",
    ]


def _found(verdict: Verdict) -> list[str]:
    findings, parked = verdict.findings, verdict.parked
    red = sum(bool(each.faults) for each in verdict.windows)
    audit = ", ".join(f"{name} {count}" for name, count in sorted(verdict.verdicts.items()))
    told = f"{verdict.audits} audits of parts of the run, {verdict.audited} occurrences: {audit};"
    rows = [
        ("owed", findings.expected, parked.expected),
        ("delivered", findings.delivered, parked.delivered),
        *((kind, len(getattr(findings, kind)), len(getattr(parked, kind))) for kind in KINDS),
        ("redelivered (legal)", len(findings.redelivered), len(parked.redelivered)),
        ("lateness p50, p99, max", ", ".join(map(seconds, _late(verdict))), "-"),
        ("windows red / all", f"{red} / {len(verdict.windows)}", "-"),
    ]
    return [
        "| | on time | parked |",
        "|---|---|---|",
        *(f"| {name} | {here} | {there} |" for name, here, there in rows),
        "",
        f"{told} {len(verdict.torn_audits)} with something unexplained.",
    ]


def _late(verdict: Verdict) -> tuple[float, float, float]:
    return verdict.lateness.p50_s, verdict.lateness.p99_s, verdict.lateness.max_s


def _levels(levels: Sequence[Level]) -> list[str]:
    """What is judged, and what is kept by age; what is judged and zero at both rests is left out."""
    shown = [each for each in levels if (each.base or each.end) and not each.name.startswith("messages.")]
    return [
        "| who | level | before | after | at most | |",
        "|---|---|---|---|---|---|",
        *(
            f"| {each.who} | {each.name} | {_number(each.base)} | {_number(each.end)}"
            f" | {'-' if each.limit is None else _number(each.limit)} | {_word(each)} |"
            for each in shown
        ),
    ]


def _word(level: Level) -> str:
    return "kept by age" if level.limit is None else "back" if level.is_back else "**NOT BACK**"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
