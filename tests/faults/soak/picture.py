"""A soak in one picture: windows, lateness, faults, leaders, and what was taken up from warm-up to rest. SVG. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import cycle

from tests.faults.drawing import (
    REPLICA_COLOURS,
    ROW_HEIGHT,
    STRIP_HEIGHT,
    Across,
    Up,
    curve,
    heading,
    lateness,
    leaders,
    legend,
    page,
    rule,
    strip,
    text,
    time_axis,
)
from tests.faults.soak.history import Rest, Sample
from tests.faults.soak.judging import Verdict
from tests.faults.soak.levels import KEPT_BY_AGE

STRIP_TOP = 78
PLOT_TOP, PLOT_HEIGHT = STRIP_TOP + STRIP_HEIGHT + 40, 150
FAULT_COLOURS = {"kill": "#d0342c", "restart": "#c77700", "stop": "#7b3fa0", "cut": "#4d8f8b", "silence": "#3b6fb5"}
QUIET = "#dfe3e8"
BAND_HEIGHT = 90
REST = "#f1f3f4"
MB = 2.0**20


def picture(verdict: Verdict, samples: Sequence[Sample], rests: Sequence[Rest]) -> str:
    """The SVG. The axis goes from the first rest to the end of the last one."""
    across = Across(rests[0].began, rests[-1].ended)
    top = PLOT_TOP + PLOT_HEIGHT + 44
    parts = [*strip(verdict.windows, across, STRIP_TOP), *lateness(verdict.windows, across, PLOT_TOP, PLOT_HEIGHT)]
    rows, height = _faults(verdict, across, top)
    parts += rows
    top += height + 34
    told = f"who led, by the epochs that replicas logged: {verdict.take_overs} take-overs"
    rows, height = leaders(verdict.terms, [], across, top, told=told)
    parts += rows
    top += height + 34
    for title, unit, series in _bands(samples):
        parts += _band(title, unit, series, rests, across, top)
        top += BAND_HEIGHT + 34
    bottom = top - 6
    title, subtitle = titles_of(verdict)
    return page(bottom + 14, title, subtitle, [*parts, *time_axis(across, bottom)])


def titles_of(verdict: Verdict) -> tuple[str, str]:
    """What was done, and what came of it."""
    plan = verdict.plan
    nodes = "one NATS node" if plan.nodes == 1 else f"{plan.nodes} NATS nodes"
    told = "everything held and came back" if not verdict.broken else "BROKEN: " + "; ".join(verdict.broken)
    faults = "no faults" if plan.calm else f"{sum(each.name != 'quiet' for each in verdict.strikes)} faults"
    owed = (
        f"{verdict.findings.expected} owed, {len(verdict.findings.lost)} lost, {len(verdict.findings.doubled)} doubled"
    )
    title = f"Soak: {plan.length_s / 60:.3g} minutes, {plan.rate} fires/s, {nodes}, {faults}: {told}"
    return title, f"{verdict.began:%Y-%m-%d %H:%M:%S} UTC, seed {plan.seed}: {owed}"


def _faults(verdict: Verdict, across: Across, top: float) -> tuple[list[str], float]:
    """A row a kind of fault, a bar each time."""
    names = [*sorted({each.name for each in verdict.strikes} - {"quiet"}), "quiet"]
    rows = {name: top + ROW_HEIGHT * row for row, name in enumerate(names)}
    parts = [heading(top - 8, f"faults, as long as each lasted; {verdict.quiet_share:.0%} of the time none")]
    parts += [text(88, y + 13, name.replace("_", " ")[:15], size=10, end=True) for name, y in rows.items()]
    for each in verdict.strikes:
        left, right = across.x(each.began), across.x(each.ended)
        colour = FAULT_COLOURS.get(each.name.partition("_")[0], QUIET)
        parts.append(
            f'<rect class="strike" x="{left}" y="{rows[each.name] + 3}" width="{max(1.2, right - left):.1f}"'
            f' height="{ROW_HEIGHT - 6}" fill="{colour}"/>'
        )
    return parts, ROW_HEIGHT * len(rows)


Series = Mapping[str, Sequence[tuple[datetime, float]]]


def _bands(samples: Sequence[Sample]) -> list[tuple[str, str, Series]]:
    servers = {each.who for each in samples if "consumers" in each.levels}
    replicas = {each.who for each in samples} - servers
    return [
        ("resident memory of replicas", "MB", _series(samples, replicas, lambda each: each.get("rss_mb"))),
        ("resident memory of nats-server", "MB", _series(samples, servers, lambda each: each.get("rss_mb"))),
        ("open files", "", _series(samples, replicas | servers, lambda each: each.get("files"))),
        ("consumers", "", _series(samples, servers, lambda each: each.get("consumers"))),
        ("stored bytes that are to return (buckets, timeline, tasks)", "MB", _series(samples, servers, returning)),
        ("stored bytes that are kept by age (reports, events, ...)", "MB", _series(samples, servers, kept)),
    ]


def returning(levels: Mapping[str, float]) -> float | None:
    return _bytes(levels, of_kept=False)


def kept(levels: Mapping[str, float]) -> float | None:
    return _bytes(levels, of_kept=True)


def _bytes(levels: Mapping[str, float], *, of_kept: bool) -> float | None:
    found = [
        value
        for name, value in levels.items()
        if name.startswith("bytes.") and (name.partition(".")[2] in KEPT_BY_AGE) == of_kept
    ]
    return sum(found) / MB if found else None


def _series(samples: Sequence[Sample], who: set[str], of: Callable[[Mapping[str, float]], float | None]) -> Series:
    found: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
    for each in samples:
        value = of(each.levels) if each.who in who else None
        if value is not None:
            found[each.who].append((each.at, value))
    return dict(sorted(found.items()))


def _band(title: str, unit: str, series: Series, rests: Sequence[Rest], across: Across, top: float) -> list[str]:
    """Curves on one scale from zero; the rests that are compared are shaded."""
    highest = max((value for points in series.values() for _, value in points), default=1.0) or 1.0
    up = Up(top, BAND_HEIGHT, 0.0, highest * 1.05)
    parts = [heading(top - 8, f"{title}, {unit}" if unit else title)]
    colours = dict(zip(series, cycle(REPLICA_COLOURS), strict=False))
    parts += legend(470, top - 8, colours.items())
    for rest in rests:
        left, right = across.x(rest.began), across.x(rest.ended)
        parts.append(
            f'<rect x="{left}" y="{top:g}" width="{max(1, right - left):.1f}" height="{BAND_HEIGHT}" fill="{REST}"/>'
        )
    for value in (0.0, highest / 2, highest):
        parts += rule(up, value, f"{value:.3g}" if highest < 10 else f"{value:.0f}")
    for who, points in series.items():
        seen = [(across.x(at), up.y(value)) for at, value in points if at >= across.began]
        parts.append(curve(seen, colours[who]))
    return parts
