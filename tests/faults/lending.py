"""Two tiers that lend each other quota all the time, because one of them asks in waves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.faults.clients import PAUSE_SECONDS, Client, Habits

TIERS = ("free", "premium")
WORKERS = 2
SETTINGS = (
    f"capacity.pods={WORKERS}",
    "server.lease.seconds=5",  # no busy machine shall let a lease run out, as that counts an attempt
    f"tiers.free.quota.pods={WORKERS}",
    "tiers.free.waits.idleSeconds=1",
    f"tiers.premium.quota.pods={WORKERS}",
    "tiers.premium.waits.idleSeconds=1",
    "tiers.premium.access.perSecond=0",
    "tiers.premium.limits.attempts=5",
    "tiers.premium.waits.syncSeconds=0.3",
    # One model, so that the judge knows the labels and scores of both tiers.
    "tiers.premium.model.name=tf_efficientnet_lite0",
    "tiers.premium.model.variant=int8",
)
TERMS: Mapping[str, Any] = {"capacity": WORKERS, "quota": {"free": WORKERS, "premium": WORKERS}}
"""What the judge must know of it."""
FLOOD = Habits(waits=5, strange=5, follows=5, slower=100)
WAVES = Habits(slow=5)
ALONE_SECONDS = 0.5  # for so long a new worker is not recalled: recalls shall be many in a short run
BUSY_SECONDS, PERIOD_SECONDS = 1.5, 6.0
BETWEEN_FAULTS = (5.0, 9.0)  # the least and the most seconds: a recall needs a while without faults


class Waves(Client):
    """A client that asks for a while, then only waits for what it has asked for. All such clients keep time."""

    def step(self) -> None:
        """As a client's, while there is a wave."""
        if time.monotonic() % PERIOD_SECONDS < BUSY_SECONDS:
            super().step()
        elif self.pending:
            self.look(next(iter(self.pending)), 0.5)
        else:
            self.over.wait(PAUSE_SECONDS)


def crowd() -> Sequence[tuple[type[Client], str, Habits]]:
    """The kind, the tier and the habits of each client: free is asked all the time, and premium in waves."""
    free, premium = TIERS
    return [*3 * [(Client, free, FLOOD)], *2 * [(Waves, premium, WAVES)]]
