"""What pictures of runs are drawn with: a time axis, bands with a scale of their own, legends. SVG by hand. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from xml.sax.saxutils import escape

from msgspec import Struct

from tests.faults.storm.figures import Lateness, Term, Window
from tests.faults.storm.load import seconds_into

WIDTH, LEFT, RIGHT = 1100, 96, 1080
GREEN, RED, GREY, INK, FAINT, RULE = "#2e9d4f", "#d0342c", "#c3c7cc", "#202124", "#5f6368", "#e3e5e8"
REPLICA_COLOURS = ("#3b6fb5", "#c77700", "#4d8f8b", "#8a5fb0", "#7a6a53", "#b04a6a", "#5f6368", "#9aa32f")
CURVES: tuple[tuple[str, str, Callable[[Lateness], float]], ...] = (
    ("max", "#c77700", lambda each: each.max_s),
    ("p99", "#7b3fa0", lambda each: each.p99_s),
    ("p50", "#3b6fb5", lambda each: each.p50_s),
)
STRIP_HEIGHT, ROW_HEIGHT = 22, 18
FONTS = "DejaVu Sans, Verdana, sans-serif"
TITLE_LENGTH = 125
TIME_STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)


class Across:
    """From an instant to x."""

    def __init__(self, began: datetime, ended: datetime) -> None:
        self.began, self.length_s = began, max(1.0, seconds_into(began, ended))

    def x(self, at: datetime) -> float:
        return self.x_of(seconds_into(self.began, at))

    def x_of(self, second: float) -> float:
        share = min(1.0, max(0.0, second / self.length_s))
        return round(LEFT + share * (RIGHT - LEFT), 1)


class Up(Struct, frozen=True):
    """From a value to y in a band; `logarithmic` in decades from `low` to `high`."""

    top: float
    height: float
    low: float
    high: float
    logarithmic: bool = False

    def y(self, value: float) -> float:
        kept = min(self.high, max(self.low, value))
        if self.logarithmic:
            share = math.log10(kept / self.low) / math.log10(self.high / self.low)
        else:
            share = (kept - self.low) / (self.high - self.low or 1.0)
        return round(self.top + self.height * (1 - share), 1)


def page(height: float, title: str, subtitle: str, parts: Iterable[str]) -> str:
    """A whole picture."""
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONTS}" font-size="12">',
            f'<rect width="{WIDTH}" height="{height:g}" fill="white"/>',
            text(12, 24, shortened(title), size=15),
            text(12, 43, shortened(subtitle), colour=FAINT),
            *parts,
            "</svg>\n",
        ]
    )


def shortened(told: str) -> str:
    return told if len(told) <= TITLE_LENGTH else told[: TITLE_LENGTH - 1] + "…"


def text(x: float, y: float, told: str, *, size: int = 12, colour: str = INK, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{anchor}>{escape(told)}</text>'


def heading(y: float, told: str) -> str:
    return text(12, y, told, size=12)


def legend(x: float, y: float, marks: Iterable[tuple[str, str]]) -> list[str]:
    """Small squares with a word each, from x to the right."""
    parts = []
    for word, colour in marks:
        parts += [f'<rect x="{x:g}" y="{y - 9:g}" width="10" height="10" fill="{colour}"/>', text(x + 14, y, word)]
        x += 30 + 7.0 * len(word)
    return parts


def strip(windows: Sequence[Window], across: Across, top: float) -> list[str]:
    """Windows of time, red where something that was due in them is at fault."""
    counts = [sum(bool(each.faults) for each in windows), sum(each.owed > 0 and not each.faults for each in windows)]
    parts = [heading(top - 8, f"windows of {_width_s(windows):g} s by when it was due")]
    marks = [(f"{counts[1]} without a fault", GREEN), (f"{counts[0]} with one", RED), ("nothing due", GREY)]
    parts += legend(330, top - 8, marks)
    for each in windows:
        kind, colour = ("red", RED) if each.faults else ("green", GREEN) if each.owed else ("empty", GREY)
        told = f"{seconds_into(across.began, each.began):g} s: {each.owed} owed, {each.faults} faults"
        left, right = across.x(each.began), across.x(each.ended)
        parts.append(
            f'<rect class="{kind}" x="{left}" y="{top:g}" width="{max(0.5, right - left - 0.5):.1f}"'
            f' height="{STRIP_HEIGHT}" fill="{colour}"><title>{escape(told)}</title></rect>'
        )
    return parts


def _width_s(windows: Sequence[Window]) -> float:
    return (windows[0].ended - windows[0].began).total_seconds() if windows else 0.0


def lateness(windows: Sequence[Window], across: Across, top: float, height: float) -> list[str]:
    """Percentiles of each window over time, in decades."""
    up = Up(top, height, 0.001, 100.0, logarithmic=True)
    parts = [heading(top - 10, "lateness per window: from fire time to worker")]
    parts += legend(330, top - 10, ((name, colour) for name, colour, _ in CURVES))
    for decade in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0):
        parts += rule(up, decade, f"{decade:g} s" if decade >= 1 else f"{decade * 1000:g} ms")
    for _, colour, of in CURVES:
        for run in _runs(windows):
            parts.append(curve([(_middle(each, across), up.y(of(each.lateness))) for each in run], colour))
    return parts


def _runs(windows: Iterable[Window]) -> list[list[Window]]:
    """Windows side by side of which something came: where nothing did there is no lateness, and no line."""
    together = groupby(windows, key=lambda each: each.owed > 0 and each.lateness != Lateness())
    return [list(run) for came, run in together if came]


def _middle(window: Window, across: Across) -> float:
    return (across.x(window.began) + across.x(window.ended)) / 2


def rule(up: Up, value: float, told: str) -> list[str]:
    """A line across at that value, and what it stands for."""
    y = up.y(value)
    return [
        f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}" stroke="{RULE}"/>',
        text(LEFT - 8, y + 4, told, size=11, colour=FAINT, end=True),
    ]


def curve(points: Iterable[tuple[float, float]], colour: str, *, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    told = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{told}" fill="none" stroke="{colour}" stroke-width="1.3"{dashed}/>'


def leaders(
    terms: Sequence[Term], kills: Iterable[tuple[str, datetime]], across: Across, top: float, *, told: str
) -> tuple[list[str], float]:
    """A row a replica: when it led, in its colour, and a tick where it was killed; and how high all that is."""
    kills = list(kills)
    names = sorted({term.replica for term in terms} | {replica for replica, _ in kills})
    rows = {name: top + ROW_HEIGHT * row for row, name in enumerate(names)}
    parts = [heading(top - 8, told)]
    for number, (name, y) in enumerate(rows.items()):
        parts.append(text(LEFT - 8, y + 13, f"replica {name}", size=11, colour=FAINT, end=True))
        colour = REPLICA_COLOURS[number % len(REPLICA_COLOURS)]
        parts += [_term(term, across, y, colour) for term in terms if term.replica == name]
    for replica, at in kills:
        x, y = across.x(at), rows[replica]
        ends = f'x1="{x}" x2="{x}" y1="{y:g}" y2="{y + ROW_HEIGHT:g}"'
        parts.append(f'<line class="kill" {ends} stroke="{RED}" stroke-width="1.5"/>')
    return parts, ROW_HEIGHT * max(1, len(rows))


def _term(term: Term, across: Across, y: float, colour: str) -> str:
    left, right = across.x(term.began), across.x(term.ended)
    return (
        f'<rect class="term" x="{left}" y="{y + 2:g}" width="{max(0.8, right - left):.1f}" height="{ROW_HEIGHT - 4}"'
        f' fill="{colour}"><title>epoch {term.epoch}</title></rect>'
    )


def time_axis(across: Across, y: float) -> list[str]:
    """Seconds, or minutes of a long run, since its beginning."""
    step = next(step for step in TIME_STEPS_S if across.length_s / step <= 20)
    in_minutes = across.length_s > 300
    parts = [f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y - 14:g}" y2="{y - 14:g}" stroke="{INK}"/>']
    for at in range(0, int(across.length_s) + 1, step):
        x = across.x_of(at)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{y - 14:g}" y2="{y - 10:g}" stroke="{INK}"/>')
        parts.append(text(x - 3, y + 2, f"{at / 60:g}" if in_minutes else str(at), size=11, colour=FAINT))
    parts.append(text(12, y + 2, "minutes" if in_minutes else "seconds", size=11, colour=FAINT))
    return parts
