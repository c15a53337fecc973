"""Draws two days beside each other as an SVG, in light and in dark."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import log10
from statistics import mean
from xml.sax.saxutils import escape

from benchmarks.day.outcome import Outcome, clock
from benchmarks.day.tiers import CAPACITY, DAY, SENDERS
from benchmarks.day.world import Sample

WIDTH, HEIGHT = 960, 660
LEFT, RIGHT = 108, 940
PANELS_Y, PANEL, BETWEEN = 66, 120, 46
TABLE_Y, ROW = 428, 21
BARS_X, BARS = 250, 440
SHORTEST, LONGEST = 0.1, 100_000.0  # seconds, at both ends of a bar
BINS = 144
COLOURS = ["#0969da", "#8250df", "#1a7f37", "#bf3989", "#bc4c00", "#57606a", "#0a7ea4", "#4d9e3f", "#b58800", "#cf222e"]
STYLE = """
svg{font-family:system-ui,sans-serif;--page:#fff;--panel:#f6f8fa;--line:#afb8c1;--ink:#1f2328;--soft:#57606a}
@media(prefers-color-scheme:dark){svg{--page:#0d1117;--panel:#161b22;--line:#484f58;--ink:#e6edf3;--soft:#9198a1}}
text{fill:var(--ink);font-size:13px}.head{font-size:16px;font-weight:600}.soft{fill:var(--soft)}
.page{fill:var(--page)}.panel{fill:var(--panel)}.line{stroke:var(--line);fill:none}.end{text-anchor:end}
.middle{text-anchor:middle}.alone{fill:none;stroke:var(--soft);stroke-width:1.5}
"""


def draw(lending: Outcome, alone: Outcome, title: str) -> str:
    """The text of the SVG: cores at work over the day, and how long predictions waited."""
    rules = "".join(f".t{number}{{fill:{colour}}}" for number, colour in enumerate(COLOURS))
    body = [
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        _text(20, 28, title, "head"),
        *_panel(PANELS_Y, lending, "With lending"),
        *_panel(PANELS_Y + PANEL + BETWEEN, alone, "Quotas alone"),
        *_waits(lending, alone),
    ]
    words = f'<title id="t">{escape(title)}</title><desc id="d">{escape(_description(lending, alone))}</desc>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d">'
    return "\n".join([head, words, f"<style>{STYLE}{rules}</style>", *body, "</svg>", ""])


def _description(lending: Outcome, alone: Outcome) -> str:
    parts = [
        f"{name}: {seconds(told.waits[1])} with lending, {seconds(alone.tiers[name].waits[1])} with quotas alone."
        for name, told in lending.tiers.items()
    ]
    return " ".join(["95 of 100 predictions waited for at most so long.", *parts])


def _panel(y: float, outcome: Outcome, name: str) -> list[str]:
    most = float(CAPACITY["cpu"])
    share = f"{outcome.working_while_waiting:.0%} of the cores work while anything waits"
    parts = [
        _text(20, y - 8, name, "head"),
        _text(RIGHT, y - 8, share, "soft end"),
        f'<rect class="panel" x="{LEFT}" y="{y}" width="{RIGHT - LEFT}" height="{PANEL}"/>',
        _text(LEFT - 8, y + 12, f"{most:g} cores", "soft end"),
        _text(LEFT - 8, y + PANEL, "0", "soft end"),
    ]
    means = _means(outcome.samples)
    tops = [list(accumulate(each)) for each in means]
    for number in reversed(range(len(SENDERS))):  # the lower areas cover the upper ones
        points = [f"{_x(place):.1f} {y + PANEL * (1 - top[number] / most):.1f}" for place, top in enumerate(tops)]
        path = f"M{_x(0):.1f} {y + PANEL}L{' '.join(points)}L{_x(len(tops) - 1):.1f} {y + PANEL}Z"
        parts.append(f'<path class="t{number}" d="{path}"/>')
    for hour in range(0, 25, 3):
        x = LEFT + (RIGHT - LEFT) * hour / 24
        parts.append(_text(x, y + PANEL + 16, f"{clock(hour * 3600):.0f}:00", "soft middle"))
    return parts


def _means(samples: Sequence[Sample]) -> list[list[float]]:
    """The cores at work of each tier, in each part of the day."""
    bins: list[list[Sample]] = [[] for _ in range(BINS)]
    for sample in samples:
        bins[min(BINS - 1, int(sample.at / DAY * BINS))].append(sample)
    names = [sender.name for sender in SENDERS]
    return [[mean(sample.working[name] for sample in each) for name in names] for each in bins if each]


def _x(place: int) -> float:
    return LEFT + (RIGHT - LEFT) * (place + 0.5) / BINS


def _waits(lending: Outcome, alone: Outcome) -> list[str]:
    said = "95 of 100 predictions waited for at most (bars: a logarithmic scale)"
    parts = [
        _text(20, TABLE_Y - 10, said, "head"),
        _text(790, TABLE_Y - 10, "lending", "soft end"),
        _text(RIGHT, TABLE_Y - 10, "quotas alone", "soft end"),
    ]
    for number, sender in enumerate(SENDERS):
        y = TABLE_Y + ROW * number
        with_it, without = lending.tiers[sender.name].waits[1], alone.tiers[sender.name].waits[1]
        parts += [
            f'<rect class="t{number}" x="20" y="{y + 3}" width="12" height="12" rx="3"/>',
            _text(40, y + 14, f"{sender.name}, share {sender.share}"),
            f'<rect class="t{number}" x="{BARS_X}" y="{y + 3}" width="{_bar(with_it):.1f}" height="12"/>',
            f'<rect class="alone" x="{BARS_X}" y="{y + 1}" width="{_bar(without):.1f}" height="16"/>',
            _text(790, y + 14, seconds(with_it), "end"),
            _text(RIGHT, y + 14, seconds(without), "end"),
        ]
    return parts


def _bar(waited: float) -> float:
    return BARS * max(0.0, log10(max(waited, SHORTEST) / SHORTEST) / log10(LONGEST / SHORTEST))


def seconds(value: float) -> str:
    """A time as people say it."""
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _text(x: float, y: float, text: str, style: str = "") -> str:
    attribute = f' class="{style}"' if style else ""
    return f'<text x="{x:g}" y="{y:g}"{attribute}>{escape(text)}</text>'
