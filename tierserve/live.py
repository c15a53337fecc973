"""One line a picture, while pictures are classified: where each stands now."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tierserve.client import problem_of
from tierserve.shown import cell

REFRESH_SECONDS = 0.2
NAME_CHARACTERS = 40


class Board:
    """Where the pictures stand that were sent to ``tier``. It never has more lines than the terminal."""

    def __init__(self, tier: str, total: int, console: Console) -> None:
        self._tier, self._total, self._console = tier, total, console
        self._done = self._failed = 0
        self._active: dict[Path, str] = {}
        self._ended: deque[tuple[str, str, str]] = deque(maxlen=200)  # the latest first

    def tell(self, picture: Path, event: str, data: Mapping[str, Any]) -> None:
        """The picture is sent (``sending``), or an event of its prediction has come."""
        if (state := _state(event, data, self._tier)) is not None:
            self._active[picture] = state

    def end(self, picture: Path, answer: Mapping[str, Any]) -> None:
        """The picture has its answer."""
        self._active.pop(picture, None)
        problem = problem_of(answer)
        self._done += 1
        self._failed += problem is not None
        self._ended.appendleft((str(picture), problem or _label(answer), "" if problem is None else "red"))

    def table(self) -> Table:
        """The latest pictures that have ended, those under way, as far as there is room, and a summary."""
        room = max(1, self._console.size.height - 2)  # a line for the summary, and one for the cursor
        active = [(str(picture), state, "") for picture, state in self._active.items()][:room]
        ended = list(self._ended)[: room - len(active)]
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=NAME_CHARACTERS)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for name, state, style in [*reversed(ended), *active]:
            shown = name if len(name) <= NAME_CHARACTERS else f"…{name[1 - NAME_CHARACTERS :]}"
            table.add_row(cell(shown), cell(state), style=style)
        failed = f", {self._failed} of them failed" if self._failed else ""
        waiting = self._total - self._done - len(self._active)
        table.add_row(
            f"{self._done} of {self._total} done{failed}",
            f"{len(self._active)} under way, {waiting} not sent yet",
            style="bold",
        )
        return table


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


def _state(event: str, data: Mapping[str, Any], tier: str) -> str | None:
    """In words; None for an event that says nothing about the prediction."""
    if event == "sending":
        return "sending"
    if event == "leased":
        return "working" if data["attempts"] <= 1 else f"working, attempt {data['attempts']}"
    if event not in ("queued", "starting"):
        return None
    eta, reason = data["eta_seconds"], data["reason"]
    said = [f"waiting at {data['position']} of {tier}"]
    if eta is not None:
        said.append(f"about {eta:.0f} s")
    if event == "starting":
        said.append(f"a worker is starting: {data['stage']}" if data["stage"] else "a worker is starting")
    return ", ".join(said) + (f": {reason}" if reason else "")


def _label(answer: Mapping[str, Any]) -> str:
    """The best label of a picture, its score, and the time that it took."""
    best = answer["results"][0]["labels"][0]
    return f"{best['label']} {best['score']:.3f} {answer['metrics']['predict_ms']:.0f} ms"
