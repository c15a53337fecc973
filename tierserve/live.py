"""One line a picture, while pictures are classified: where each stands now."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from rich.console import Console, OverflowMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tierserve.mapping import Outcome
from tierserve.pictures import Picture, name_of
from tierserve.predictions import Event
from tierserve.shown import cell, visible

REFRESH_SECONDS = 0.2
NAME_CHARACTERS = 40


class Board:
    """Where the pictures stand that were sent to ``tier``. It never has more lines than the terminal."""

    def __init__(self, tier: str, total: int, console: Console) -> None:
        self._tier, self._total, self._console = tier, total, console
        self._done = self._failed = 0
        self._active: dict[str, str] = {}
        self._ended: deque[tuple[str, str, str]] = deque(maxlen=200)  # the latest first

    def tell(self, picture: Picture, event: Event | None) -> None:
        """The picture is sent (None), or an event of its prediction has come."""
        self._active[name_of(picture)] = _state(event, self._tier)

    def end(self, outcome: Outcome) -> None:
        """The picture has its answer."""
        self._active.pop(name_of(outcome.picture), None)
        self._done += 1
        self._failed += outcome.error is not None
        shown = _label(outcome) if outcome.error is None else str(outcome.error)
        self._ended.appendleft((name_of(outcome.picture), shown, "" if outcome.error is None else "red"))

    def table(self) -> Table:
        """The latest pictures that have ended, those under way, as far as there is room, and a summary."""
        room = max(1, self._console.size.height - 2)  # a line for the summary, and one for the cursor
        active = [(picture, state, "") for picture, state in self._active.items()][:room]
        ended = list(self._ended)[: room - len(active)]
        table = Table.grid(padding=(0, 2), expand=True)
        overflow: OverflowMethod = "crop" if self._console.options.ascii_only else "ellipsis"
        table.add_column(no_wrap=True, overflow=overflow, max_width=NAME_CHARACTERS)
        table.add_column(no_wrap=True, overflow=overflow, ratio=1)
        for name, state, style in [*reversed(ended), *active]:
            table.add_row(self._cell(self._short(visible(name, self._console.file))), self._cell(state), style=style)
        failed = f", {self._failed} of them failed" if self._failed else ""
        waiting = self._total - self._done - len(self._active)
        table.add_row(
            f"{self._done} of {self._total} done{failed}",
            f"{len(self._active)} under way, {waiting} not sent yet",
            style="bold",
        )
        return table

    def _cell(self, text: str) -> Text:
        return cell(text, stream=self._console.file)

    def _short(self, name: str) -> str:
        """The end of a name, which mostly tells more than its beginning."""
        cut = "..." if self._console.options.ascii_only else "…"
        return name if len(name) <= NAME_CHARACTERS else cut + name[len(cut) - NAME_CHARACTERS :]


@asynccontextmanager
async def board(tier: str, total: int) -> AsyncIterator[Board]:
    """Show a board on standard error while the block lasts, if that is a terminal; afterwards nothing of it is left."""
    console = Console(stderr=True)
    shown = Board(tier, total, console)
    if not sys.stderr.isatty():
        yield shown
        return
    # It is drawn on the event loop, which changes it, and by no thread.
    with Live(console=console, get_renderable=shown.table, auto_refresh=False, transient=True) as live:
        task = asyncio.create_task(_refresh(live))
        try:
            yield shown
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _refresh(live: Live) -> None:
    while True:
        live.refresh()
        await asyncio.sleep(REFRESH_SECONDS)


def _state(event: Event | None, tier: str) -> str:
    """Where a picture stands, in words."""
    if event is None:
        return "sending"
    if event.place is None:
        return "working" if (event.attempts or 0) <= 1 else f"working, attempt {event.attempts}"
    eta, reason = event.place.eta_seconds, event.place.reason
    said = [f"waiting at {event.place.position} of {tier}"]
    if eta is not None:
        said.append(f"about {eta:.0f} s")
    if event.name == "starting":
        said.append(f"a worker is starting: {event.stage}" if event.stage else "a worker is starting")
    return ", ".join(said) + (f": {reason}" if reason else "")


def _label(outcome: Outcome) -> str:
    """The best label of a picture, its score, and the time that it took."""
    assert outcome.prediction is not None
    best = outcome.labels[0]
    return f"{best.label} {best.score:.3f} {outcome.prediction.metrics.predict_ms or 0:.0f} ms"
