"""Draws a run as an SVG that moves by CSS alone, so that it moves as an image too, in light and in dark."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.moving_picture.frames import ABSENT, BUSY, IDLE, PLACE, STARTING, Frame, Lane
from benchmarks.moving_picture.timeline import Timeline, told

WIDTH, HEIGHT = 960, 456
HOLD = 2.0  # seconds for which the last moment stays
ROWS, COLUMNS, PITCH = 6, 36, 12
QUEUE_X, DOTS_Y, SLOTS_X, SLOT = 160, 34, 634, 40
LANE_HEIGHT, LANES_Y = 128, (62, 200)
CHART_Y, CHART_HEIGHT = 346, 52
LEGEND_Y = 440
STILL_SHARE = 0.45
FILLS = {
    ABSENT: "fill:transparent;stroke:transparent",
    PLACE: "fill:transparent;stroke:var(--line)",
    STARTING: "fill:var(--start);stroke:var(--start)",
    BUSY: "fill:var(--busy);stroke:var(--busy)",
    IDLE: "fill:transparent;stroke:var(--busy)",
}
SIGNS = (
    (340, PLACE, "room in the quota for a worker"),
    (580, STARTING, "a worker starts"),
    (730, BUSY, "works"),
    (820, IDLE, "has no work"),
)
STYLE = """
svg{font-family:system-ui,sans-serif;--page:#fff;--lane:#f6f8fa;--line:#afb8c1;--ink:#1f2328;--soft:#57606a;
--free:#0969da;--premium:#8250df;--busy:#1a7f37;--start:#bf8700}
@media(prefers-color-scheme:dark){svg{--page:#0d1117;--lane:#161b22;--line:#484f58;--ink:#e6edf3;--soft:#9198a1;
--free:#4493f8;--premium:#ab7df8;--busy:#3fb950;--start:#d29922}}
text{fill:var(--ink);font-size:14px}.act text{font-size:17px;font-weight:600}
.soft,.soft text{fill:var(--soft);font-size:13px}.name{font-size:20px;font-weight:600}
.done text{font-size:26px;font-weight:600}.page{fill:var(--page)}.lane,.cover{fill:var(--lane)}
.free,text.free{fill:var(--free)}.premium,text.premium{fill:var(--premium)}.slot rect{stroke-width:2}
.chart{fill:none;stroke-width:2}.chart.free{stroke:var(--free)}.chart.premium{stroke:var(--premium)}.axis{stroke:var(--line)}.now{stroke:var(--ink);stroke-width:1.5}
.flow{fill:none;stroke:var(--soft);stroke-width:8;stroke-linecap:round;stroke-dasharray:0 14;
animation:flow .5s linear infinite}
@keyframes flow{to{stroke-dashoffset:-14px}}
"""


def draw(seen: Sequence[Frame], title: str, description: str) -> str:
    """The text of the SVG."""
    times = [frame.at for frame in seen]
    line = Timeline(times[-1] + HOLD, times[-1] * STILL_SHARE)
    tiers = list(seen[0].lanes)
    most = max(frame.lanes[tier].queued for frame in seen for tier in tiers)
    dot = -(-most // (ROWS * COLUMNS)) or 1  # requests
    body = [
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        line.text(20, 18, WIDTH - 40, told(times, (frame.act for frame in seen), str), "act"),
    ]
    for tier, y in zip(tiers, LANES_Y, strict=True):
        body += _lane(line, tier, y, times, [frame.lanes[tier] for frame in seen], dot)
    body += _chart(line, tiers, times, seen, most)
    body += _legend(tiers[0], dot)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d">'
    words = f'<title id="t">{escape(title)}</title><desc id="d">{escape(description)}</desc>'
    dots = "".join(
        f'<pattern id="{tier}" width="{PITCH}" height="{PITCH}" patternUnits="userSpaceOnUse">'
        f'<circle class="{tier}" cx="6" cy="6" r="4.2"/></pattern>'
        for tier in tiers
    )
    style = f"<style>{STYLE}{line.css()}</style>"
    return "\n".join([head, words, style, f"<defs>{dots}</defs>", *body, "</svg>", ""])


def _lane(line: Timeline, tier: str, y: int, times: list[float], lanes: list[Lane], dot: int) -> list[str]:
    width = COLUMNS * PITCH
    parts = [
        f'<g transform="translate(0 {y})">',
        f'<rect class="lane" x="12" width="{WIDTH - 24}" height="{LANE_HEIGHT}" rx="8"/>',
        f'<text class="name {tier}" x="28" y="36">{tier}</text>',
        line.text(28, 42, 120, told(times, lanes, _quota), "soft"),
        line.text(QUEUE_X, 4, width + 30, told(times, lanes, _waiting), "waiting"),
        f'<svg x="{QUEUE_X}" y="{DOTS_Y}" width="{width}" height="{ROWS * PITCH}">',
        f'<rect width="{width}" height="{ROWS * PITCH}" fill="url(#{tier})"/>',
    ]
    for row in range(ROWS):
        # The dots stand still, and a cover hides those to the left of the last in line.
        shown = [-(-max(-(-lane.queued // dot) - row, 0) // ROWS) for lane in lanes]
        name = line.animate(told(times, shown, lambda count: f"transform:translateX({-count * PITCH}px)"))
        parts.append(f'<rect class="cover {name}" y="{row * PITCH}" width="{width}" height="{PITCH}"/>')
    reasons = line.text(QUEUE_X, 102, 640, told(times, lanes, lambda lane: lane.reason), "soft")
    parts += ["</svg>", reasons, '<g class="slot">']
    for number in range(len(lanes[0].slots)):
        name = line.animate(told(times, (lane.slots[number] for lane in lanes), FILLS.__getitem__))
        x = SLOTS_X + number * (SLOT + 8)
        parts.append(f'<rect class="{name}" x="{x}" y="46" width="{SLOT}" height="{SLOT}" rx="6"/>')
    flowing = line.animate(told(times, lanes, lambda lane: f"opacity:{int(lane.predicting > 0)}"))
    right = SLOTS_X + len(lanes[0].slots) * (SLOT + 8)
    parts += [
        f'</g><g class="{flowing}"><path class="flow" d="M{QUEUE_X + width + 8} 66H{SLOTS_X - 8}"/>',
        f'<path class="flow" d="M{right + 6} 66H836"/></g>',
        line.text(840, 42, 104, told(times, lanes, lambda lane: str(lane.done)), "done middle"),
        _soft(892, "have labels", 88, "middle"),
        "</g>",
    ]
    return parts


def _quota(lane: Lane) -> str:
    return f"quota: {lane.quota} worker{'' if lane.quota == 1 else 's'}"


def _waiting(lane: Lane) -> str:
    if lane.oldest is None:
        return "nobody waits"
    verb = "waits" if lane.queued == 1 else "wait"
    return f"{lane.queued} {verb}, the first of them for {lane.oldest:.1f} s"


def _chart(line: Timeline, tiers: list[str], times: list[float], seen: Sequence[Frame], most: int) -> list[str]:
    left, right, bottom = QUEUE_X, WIDTH - 28, CHART_Y + CHART_HEIGHT
    scale = (right - left) / times[-1]
    parts = [
        _soft(28, "requests that wait", CHART_Y + 22),
        _soft(28, f"at most {most}", CHART_Y + 40),
        f'<path class="axis" d="M{left} {bottom}H{right}"/>',
    ]
    for tier in tiers:
        heights = [frame.lanes[tier].queued / (most or 1) * CHART_HEIGHT for frame in seen]
        points = [f"{left + at * scale:.1f},{bottom - height:.1f}" for at, height in zip(times, heights, strict=True)]
        parts.append(f'<polyline class="chart {tier}" points="{" ".join(points)}"/>')
    seconds = range(0, int(times[-1]) + 1, 5)
    parts += [_soft(left + second * scale, f"{second} s", bottom + 18, "middle") for second in seconds]
    end = f"transform:translateX({times[-1] * scale:.1f}px)"
    name = line.animate([(0, "transform:translateX(0)"), (times[-1], end), (times[-1] + HOLD, end)], jump=False)
    parts.append(f'<path class="now {name}" d="M{left} {CHART_Y - 4}V{bottom + 4}"/>')
    return parts


def _legend(tier: str, dot: int) -> list[str]:
    requests = "a request" if dot == 1 else f"{dot} requests"
    parts = [f'<circle class="{tier}" cx="{QUEUE_X + 5}" cy="{LEGEND_Y - 5}" r="4.2"/>', _soft(QUEUE_X + 16, requests)]
    for x, state, text in SIGNS:
        square = f'<rect x="{x}" y="{LEGEND_Y - 12}" width="13" height="13" rx="3" style="{FILLS[state]}"/>'
        parts.append(f'<g class="slot">{square}</g>{_soft(x + 20, text)}')
    return parts


def _soft(x: float, text: str, y: float = LEGEND_Y, anchor: str = "start") -> str:
    return f'<text class="soft" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
