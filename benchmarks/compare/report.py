"""The table: the medians of all rounds, each figure beside the bare loops that were measured beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from benchmarks.compare.measuring import Round
from benchmarks.compare.serving import KEPT

FASTAPI = ("fastapi", "fastapi-threads")
HEADINGS = (
    "server",
    "pictures/s, 32 clients",
    "of two loops",
    "of FastAPI",
    "p50 ms, 1 client",
    "over the loop",
    "256 clients of 32",
    "CPU ms: all",
    "CPU ms: server, 32 clients",
    "CPU ms: server, 1 client",
    "durable",
)
NOTES = (
    '"of two loops" has the median, the least and the most of all rounds. "of FastAPI" compares with the faster of its '
    'two kinds of the same round. "CPU ms" is processor time a picture: "all" is that of all processes, the network '
    'included, at 32 clients; "server" is that of the processes that do not classify, where there are such, and beside '
    f'it its share of the time of one loop. "durable" is how many of {KEPT} answers a server still has after a kill '
    "(SIGKILL) and a new start."
)


def render(rounds: Sequence[Round], left_out: Mapping[str, str]) -> str:
    """A table in Markdown for each tier, and one line for each server that was left out and why."""
    parts = []
    for tier in dict.fromkeys(each.tier for each in rounds):
        here = [each for each in rounds if each.tier == tier]
        rate, loop = median(each.bare.rate for each in here), median(each.bare.seconds for each in here)
        count = len({each.number for each in here})
        limit = f"two bare loops do {rate:.0f} pictures/s, one takes {1000 * loop:.1f} ms a picture"
        parts.append(f"{tier}, medians of {count} round{'s'[: count > 1]}: {limit}")
        parts.append(_table([HEADINGS, *(_row(name, here) for name in dict.fromkeys(each.name for each in here))]))
    if rounds:
        parts.append(NOTES)
    parts += [f"{name} is left out: it {why}" for name, why in left_out.items()]
    parts += _refusals(rounds)
    return "\n\n".join(parts)


def _row(name: str, rounds: Sequence[Round]) -> tuple[str, ...]:
    mine = [each for each in rounds if each.name == name]
    shares = _each(mine, lambda each: each.loads[32].rate / each.bare.rate)
    return (
        name,
        _middle(_each(mine, lambda each: each.loads[32].rate), "{:.0f}"),
        _middle(shares, "{:.2f}") + (f" ({min(shares):.2f} to {max(shares):.2f})" if len(shares) > 1 else ""),
        _middle(_of_fastapi(mine, rounds), "{:.2f}"),
        _middle(_each(mine, lambda each: 1000 * each.loads[1].p50), "{:.1f}"),
        _over(mine),
        _middle(_each(mine, lambda each: each.loads[256].rate / each.loads[32].rate), "{:.2f}"),
        _middle(_each(mine, lambda each: 1000 * each.loads[32].cpu), "{:.1f}"),
        _server_cpu(mine, 32),
        _server_cpu(mine, 1),
        _durable(mine),
    )


def _each(rounds: Iterable[Round], figure: Callable[[Round], float]) -> list[float]:
    """The figure of every round that has the loads for it."""
    found = []
    for each in rounds:
        try:
            found.append(figure(each))
        except KeyError:
            continue
    return found


def _middle(figures: Sequence[float], shape: str) -> str:
    return shape.format(median(figures)) if figures else ""


def _of_fastapi(mine: Sequence[Round], rounds: Sequence[Round]) -> list[float]:
    best: dict[int, float] = {}
    for each in rounds:
        if each.name in FASTAPI and 32 in each.loads:
            best[each.number] = max(best.get(each.number, 0.0), each.loads[32].rate / each.bare.rate)
    compared = [each for each in mine if each.number in best]
    return _each(compared, lambda each: each.loads[32].rate / each.bare.rate / best[each.number])


def _over(mine: Sequence[Round]) -> str:
    over = _each(mine, lambda each: 1000 * (each.loads[1].p50 - each.bare.seconds))
    times = _each(mine, lambda each: each.loads[1].p50 / each.bare.seconds)
    return f"{median(over):+.1f} ms, x {median(times):.2f}" if over else ""


def _server_cpu(mine: Sequence[Round], clients: int) -> str:
    found = [
        (one.server_cpu, each.bare.seconds)
        for each in mine
        if (one := each.loads.get(clients)) and one.server_cpu is not None
    ]
    if not found:
        return ""
    return f"{1000 * median(used for used, _ in found):.1f} ({median(used / loop for used, loop in found):.2f})"


def _durable(mine: Sequence[Round]) -> str:
    counts = [each.kept for each in mine if each.kept is not None]
    return f"{min(counts)} of {KEPT}" if counts else "no"


def _refusals(rounds: Sequence[Round]) -> list[str]:
    """One line for each server and number of clients with answers that were no 2xx."""
    counts: dict[tuple[str, str, int], int] = {}
    for each in rounds:
        for clients, seen in each.loads.items():
            if seen.refused:
                key = (each.name, each.tier, clients)
                counts[key] = counts.get(key, 0) + seen.refused
    return [
        f"{name}, {tier}, {clients} clients: {count} answers were no 2xx"
        for (name, tier, clients), count in counts.items()
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, without the columns that are empty in all rows but the first."""
    shown = [index for index in range(len(rows[0])) if any(row[index] for row in rows[1:])]
    widths = [max(len(row[index]) for row in rows) for index in shown]
    lines = [
        f"| {' | '.join(row[index].ljust(width) for index, width in zip(shown, widths, strict=True))} |" for row in rows
    ]
    return "\n".join([lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]])
