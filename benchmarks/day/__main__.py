"""``python -m benchmarks.day``: a day of ten tiers that lend each other what they do not use, and with quotas alone.

The planner is the server's, and the rules of time are; clients and workers are simulated. Both days have the same
predictions. What lending promises is checked at each look of the leader, and the command ends with 1 if it is broken.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.day.drawing import draw, seconds
from benchmarks.day.outcome import Outcome, day
from benchmarks.day.promises import Promises
from benchmarks.day.tiers import DAY, SENDERS
from tests.running import ROOT

PICTURE = ROOT / "docs" / "pictures" / "day.svg"
SHOWN = 20
WIDTH = 110


def main() -> int:
    """Simulate both days, print what was seen, and draw it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.day", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of what comes (default: %(default)s)")
    parser.add_argument("--hours", type=float, default=24.0, help="how much of the day (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the picture [default: docs/pictures/day.svg]")
    given = parser.parse_args()
    length = min(DAY, given.hours * 3600)
    with ProcessPoolExecutor(2) as pool:
        days = [pool.submit(day, given.seed, lending, length) for lending in (True, False)]
        lending, alone = (each.result() for each in days)
    assert lending.promises is not None
    report(Console(width=WIDTH), lending, alone, lending.promises)
    if lending.promises.broken:
        return 1
    predictions = sum(told.predictions for told in lending.tiers.values())
    title = f"A simulated day of ten tiers, {predictions:,} predictions"
    given.output.write_text(draw(lending, alone, title), "utf-8")
    return 0


def report(console: Console, lending: Outcome, alone: Outcome, promises: Promises) -> None:
    """Print the waits of each tier, with lending and with quotas alone, and how the promises were kept."""
    table = Table("tier", "share", "sent", "p50", "p95", "worst", "starts", "recalls", box=SIMPLE, padding=(0, 1, 0, 0))
    for sender in SENDERS:
        one, other = lending.tiers[sender.name], alone.tiers[sender.name]
        waits = [
            f"{seconds(with_it)} ({seconds(without)})" for with_it, without in zip(one.waits, other.waits, strict=True)
        ]
        starts = f"{one.starts} ({other.starts})"
        table.add_row(sender.name, str(sender.share), str(one.predictions), *waits, starts, str(one.recalls))
    console.print(table, "p50, p95 and worst are of the waits; in brackets: with quotas alone\n")
    for name, outcome in (("with lending", lending), ("quotas alone", alone)):
        console.print(
            f"{name}: {outcome.working:.1%} of the cores work on average, "
            f"{outcome.working_while_waiting:.1%} while anything waits; all is done after {outcome.ended / 3600:.1f} h"
        )
    recalls = sum(told.recalls for told in lending.tiers.values())
    handed_back = sum(told.handed_back for told in lending.tiers.values())
    console.print(
        f"{recalls:,} recalls, {promises.fresh} of them of workers that had been given nothing yet; the room of "
        f"{promises.spared} was not needed any more when it came, and that of {promises.passed} went to another tier "
        f"on a lower level; {handed_back} predictions were begun and handed back; nothing was lost"
    )
    console.print(
        f"promises at {promises.looks:,} looks: {len(promises.broken)} broken; a tier waited at most "
        f"{promises.longest_owed:.1f} s for a Job within its part beside others above theirs"
    )
    for text in promises.broken[:SHOWN]:
        console.print(text, style="red")


if __name__ == "__main__":
    sys.exit(main())
