"""A storm in one picture: windows green and red, lateness per window, and who led when. SVG. Pure."""

from __future__ import annotations

from tests.faults.drawing import (
    GREEN,
    LEFT,
    RED,
    REPLICA_COLOURS,
    RIGHT,
    STRIP_HEIGHT,
    Across,
    Up,
    lateness,
    leaders,
    page,
    strip,
    text,
    time_axis,
)
from tests.faults.storm.figures import Figures

__all__ = ["GREEN", "RED", "REPLICA_COLOURS", "picture"]
STRIP_TOP = 78
PLOT_TOP, PLOT_HEIGHT = STRIP_TOP + STRIP_HEIGHT + 40, 230
LEADERS_TOP = PLOT_TOP + PLOT_HEIGHT + 40
BESIDE = "#7b3fa0"


def picture(figures: Figures, beside: Figures | None = None) -> str:
    """The SVG. `beside`: an undisturbed run, whose p99 is drawn over it."""
    across = Across(figures.began, figures.ended)
    kills = [(kill.replica, kill.at) for kill in figures.kills]
    told = f"who led, by the epochs that replicas logged: {figures.take_overs} take-overs; red: {len(kills)} kill -9"
    rows, rows_height = leaders(figures.terms, kills, across, LEADERS_TOP, told=told)
    bottom = LEADERS_TOP + rows_height + 26
    title, subtitle = titles_of(figures)
    parts = [
        *strip(figures.windows, across, STRIP_TOP),
        *lateness(figures.windows, across, PLOT_TOP, PLOT_HEIGHT),
        *_beside(beside),
        *rows,
        *time_axis(across, bottom),
    ]
    return page(bottom + 14, title, subtitle, parts)


def titles_of(figures: Figures) -> tuple[str, str]:
    """What was done, and what came of it."""
    plan = figures.plan
    nodes = "one NATS node" if plan.nodes == 1 else f"{plan.nodes} NATS nodes"
    kills = "undisturbed" if plan.undisturbed else f"leader killed every {plan.kill_every_s:g} s"
    verdict = "every guarantee held" if not figures.broken else "BROKEN: " + "; ".join(figures.broken)
    owed = (
        f"{figures.findings.expected} owed, {len(figures.findings.lost)} lost, {len(figures.findings.doubled)} doubled"
    )
    title = f"{plan.rate} fires/s for {plan.length_s:g} s on {nodes}, {kills}: {verdict}"
    return title, f"{figures.began:%Y-%m-%d %H:%M:%S} UTC, seed {plan.seed}: {owed}"


def _beside(beside: Figures | None) -> list[str]:
    if beside is None:
        return []
    y = Up(PLOT_TOP, PLOT_HEIGHT, 0.001, 100.0, logarithmic=True).y(beside.lateness.p99_s)
    return [
        f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}" stroke="{BESIDE}" stroke-dasharray="4 4"/>',
        text(560, PLOT_TOP - 10, "dashed: p99 of the undisturbed run", colour=BESIDE),
    ]
