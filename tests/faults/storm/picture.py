"""A run in one picture: windows green and red, lateness per window, and who led when. SVG, written by hand. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from xml.sax.saxutils import escape

from tests.faults.storm.figures import Figures, Lateness, Window
from tests.faults.storm.load import seconds_into

WIDTH, LEFT, RIGHT = 1000, 80, 985
STRIP_TOP, STRIP_HEIGHT = 44, 22
PLOT_TOP, PLOT_HEIGHT = 100, 210
LEADERS_TOP, LEADER_HEIGHT = 356, 18
GREEN, RED, GREY = "#2e9d4f", "#d0342c", "#9aa0a6"
TERM_COLOURS = ("#3b6fb5", "#8fb3dd")  # in turn: two terms side by side are told apart
CURVES: tuple[tuple[str, str, Callable[[Lateness], float]], ...] = (
    ("max", "#c77700", lambda each: each.max_s),
    ("p99", "#7b3fa0", lambda each: each.p99_s),
    ("p50", "#3b6fb5", lambda each: each.p50_s),
)
FLOOR_S, CEILING_S = 0.001, 100.0
DECADES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


class Scale:
    """From an instant to x, from seconds of lateness (in decades) to y."""

    def __init__(self, began: datetime, ended: datetime) -> None:
        self._began, self.length_s = began, max(1.0, seconds_into(began, ended))

    def x(self, at: datetime) -> float:
        return self.x_of(seconds_into(self._began, at))

    def x_of(self, second: float) -> float:
        share = min(1.0, max(0.0, second / self.length_s))
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def y(self, seconds: float) -> float:
        kept = min(CEILING_S, max(FLOOR_S, seconds))
        share = math.log10(kept / FLOOR_S) / math.log10(CEILING_S / FLOOR_S)
        return round(PLOT_TOP + PLOT_HEIGHT * (1 - share), 1)


def picture(figures: Figures, beside: Figures | None = None) -> str:
    """The SVG. `beside`: an undisturbed run, whose p99 is drawn over it."""
    scale = Scale(figures.began, figures.ended)
    replicas = sorted({term.replica for term in figures.terms} | {kill.replica for kill in figures.kills})
    height = LEADERS_TOP + LEADER_HEIGHT * max(1, len(replicas)) + 40
    size = f'viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 20, title_of(figures), size=14),
        *_strip(figures, scale),
        *_axes(scale),
        *_curves(figures.windows, scale),
        *_beside(beside, scale),
        *_leaders(figures, replicas, scale),
        *_seconds(scale, height - 14),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def title_of(figures: Figures) -> str:
    plan = figures.plan
    nodes = "one NATS node" if plan.nodes == 1 else f"{plan.nodes} NATS nodes"
    kills = "undisturbed" if plan.undisturbed else f"leader killed every {plan.kill_every_s:g} s"
    verdict = "every guarantee held" if not figures.broken else "BROKEN: " + "; ".join(figures.broken)
    return f"{plan.rate} fires/s for {plan.length_s:g} s on {nodes}, {kills}: {verdict}"


def _strip(figures: Figures, scale: Scale) -> list[str]:
    cells = [_text(8, STRIP_TOP + 15, "windows")]
    for each in figures.windows:
        colour = RED if each.faults else GREEN if each.owed else GREY
        told = f"{seconds_into(figures.began, each.began):g} s: {each.owed} owed, {each.faults} faults"
        left, right = scale.x(each.began), scale.x(each.ended)
        cells.append(
            f'<rect class="{"red" if each.faults else "green" if each.owed else "empty"}" x="{left}" y="{STRIP_TOP}"'
            f' width="{max(0.5, right - left - 0.5):.1f}" height="{STRIP_HEIGHT}" fill="{colour}">'
            f"<title>{escape(told)}</title></rect>"
        )
    return cells


def _axes(scale: Scale) -> list[str]:
    parts = [_text(8, PLOT_TOP - 8, "lateness")]
    for decade in DECADES:
        y = scale.y(decade)
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}" stroke="#e3e5e8"/>')
        parts.append(_text(28, y + 4, f"{decade:g} s" if decade >= 1 else f"{decade * 1000:g} ms"))
    return parts


def _curves(windows: Sequence[Window], scale: Scale) -> list[str]:
    parts = []
    for number, (name, colour, of) in enumerate(CURVES):
        points = [
            f"{scale.x(each.began + (each.ended - each.began) / 2)},{scale.y(of(each.lateness))}"
            for each in windows
            if each.owed
        ]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        parts.append(_text(LEFT + 60 * number, PLOT_TOP - 8, name, colour=colour))
    return parts


def _beside(beside: Figures | None, scale: Scale) -> list[str]:
    if beside is None:
        return []
    y = scale.y(beside.lateness.p99_s)
    return [
        f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}" stroke="#7b3fa0" stroke-dasharray="4 4"/>',
        _text(LEFT + 60 * len(CURVES), PLOT_TOP - 8, "dashed: p99 of the undisturbed run", colour="#7b3fa0"),
    ]


def _leaders(figures: Figures, replicas: Sequence[str], scale: Scale) -> list[str]:
    parts = [
        _text(8, LEADERS_TOP - 10, f"who leads; {figures.take_overs} take-overs, {len(figures.kills)} kills (red)")
    ]
    rows = {name: LEADERS_TOP + LEADER_HEIGHT * row for row, name in enumerate(replicas)}
    parts += [_text(8, y + 12, name) for name, y in rows.items()]
    for number, term in enumerate(sorted(figures.terms, key=lambda term: term.began)):
        left, right = scale.x(term.began), scale.x(term.ended)
        parts.append(
            f'<rect class="term" x="{left}" y="{rows[term.replica] + 2}" width="{max(0.8, right - left):.1f}"'
            f' height="{LEADER_HEIGHT - 4}" fill="{TERM_COLOURS[number % 2]}"><title>epoch {term.epoch}</title></rect>'
        )
    for kill in figures.kills:
        x, y = scale.x(kill.at), rows[kill.replica]
        ends = f'x1="{x}" x2="{x}" y1="{y}" y2="{y + LEADER_HEIGHT}"'
        parts.append(f'<line class="kill" {ends} stroke="{RED}" stroke-width="1.5"/>')
    return parts


def _seconds(scale: Scale, y: float) -> list[str]:
    step = next(step for step in (1, 5, 10, 30, 60, 300, 600, 3600, 86_400) if scale.length_s / step <= 20)
    return [_text(scale.x_of(at), y, f"{at} s") for at in range(0, int(scale.length_s) + 1, step)]


def _text(x: float, y: float, text: str, *, size: int = 12, colour: str = "#202124") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
