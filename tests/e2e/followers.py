"""Clients that follow predictions by their events, at whichever server the Service leads them to."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence

from tests.e2e.deployment import Deployment
from tests.events import Event
from tests.faults.follower import follow
from tests.faults.history import FINAL

# A stream that tells nothing brings a comment every 15 s. A client that hears nothing for longer opens another one.
QUIET_SECONDS = 20.0
STREAM_SECONDS = 600.0  # longer than any test
RETRY_SECONDS = 0.5


class Follower(threading.Thread):
    """Follows until all predictions have ended, and goes on after its last event when a stream ends before.

    ``breaks`` says how each stream ended.
    """

    def __init__(self, deployment: Deployment, keys: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._deployment, self._keys = deployment, list(keys)
        self._over = threading.Event()
        self.events: list[Event] = []
        self.breaks: list[str] = []

    def run(self) -> None:
        """Called by the thread."""
        last_id = ""
        while not self._over.is_set():
            # The one that it leads to may be away for a moment, so each stream asks for the address anew.
            where = self._deployment.address()
            found = follow(where, self._keys, {}, last_id, STREAM_SECONDS, QUIET_SECONDS, self.events.append)
            last_id = found.last_id
            self.breaks.append(found.how if found.answer.status in (0, 200) else str(found.answer.status))
            if len(self.finals) == len(self._keys) or found.answer.status == 204:
                return
            self._over.wait(RETRY_SECONDS)

    @property
    def finals(self) -> Counter[str]:
        """By prediction, how many final events were told."""
        return Counter(event.data["id"] for event in list(self.events) if event.name in FINAL)

    @property
    def stages(self) -> list[str]:
        """The stages that starting workers were in, in the order in which they were told, each change once."""
        found: list[str] = []
        for event in list(self.events):
            stage = event.data.get("stage")
            if event.name == "starting" and stage and found[-1:] != [stage]:
                found.append(stage)
        return found

    def done(self, seconds: float) -> None:
        """Return when all predictions have ended, as far as the events say."""
        end = time.monotonic() + seconds
        self.join(seconds)
        alive, left = self.is_alive(), end - time.monotonic()
        self._over.set()
        assert not alive, f"not all of {self._keys} were told within {seconds:g} s ({left:.1f} left): {self.account()}"

    def account(self) -> dict[str, object]:
        """What it has seen, in short."""
        return {
            "events": Counter(event.name for event in list(self.events)),
            "last": self.events[-1:],
            "streams": list(self.breaks),
        }
