"""Whose turn it is: start-time fair queueing (Goyal, Vin and Cheng, 1996) of what this server takes into its lobby.

The table does the same for what comes to it. Each learns from the other, so that a caller has one share of a tier.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from server.queue import Submission

CALLERS = 10_000  # the least recently seen are forgotten, and begin anew
KNOWN_SECONDS = 1.0  # for so long the server relies on what the table said of a caller


@dataclass(slots=True)
class Share:
    """What a caller has had of a tier.

    ``finish``: where its next prediction starts, unless that turn is past. ``used``: the finish of its last one that
    was given to a worker or to the table. ``told``: the finish up to which the table counts what was in this lobby.
    """

    finish: float = 0.0
    used: float = 0.0
    told: float = 0.0
    answered_at: float = -math.inf
    """When the table last said where the caller stands."""


class Shares:
    """The shares of the latest 10,000 callers, by tier. ``clock`` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turns: defaultdict[str, int] = defaultdict(int)
        self._shares: OrderedDict[tuple[str, str], Share] = OrderedDict()

    def turn(self, tier: str) -> int:
        """The latest turn of a tier of which anything was given to a worker."""
        return self._turns[tier]

    def served(self, tier: str, turn: int) -> None:
        """Something of this turn was given to a worker, by whatever server."""
        if turn > self._turns[tier]:
            self._turns[tier] = turn

    def knows(self, submission: Submission) -> bool:
        """Whether the table said within the last second where its caller stands."""
        share = self._shares.get((submission.tier, submission.caller))
        return share is not None and self._clock() - share.answered_at < KNOWN_SECONDS

    def start(self, submission: Submission) -> float:
        """The start of a prediction that enters the lobby. Its turn is the whole part of that."""
        share = self._of(submission)
        start = self._next(submission.tier, share)
        share.finish = start + submission.cost
        return start

    def handed(self, submission: Submission, start: float, *, reaches: bool = True) -> None:
        """An entry of the lobby was given to a worker. ``reaches``: its tier has then reached its turn."""
        if reaches:
            self.served(submission.tier, math.floor(start))
        share = self._of(submission)
        share.used = max(share.used, start + submission.cost)

    def withdrawn(self, submission: Submission) -> None:
        """Its caller took back the last of its entries that waited: it need not wait for what it did not have."""
        share = self._of(submission)
        share.finish = share.used

    def floor(self, submission: Submission) -> float:
        """Where a prediction that takes the table may start, as far as this server knows."""
        return self._next(submission.tier, self._shares.get((submission.tier, submission.caller)))

    def submitted(self, submission: Submission, floor: float, finish: float) -> None:
        """The table took a prediction with this floor; it ends at ``finish``."""
        share = self._of(submission)
        share.told = max(share.told, floor)
        # Entries that came meanwhile have the same start. They count beside it.
        self._learn(share, max(share.finish + submission.cost, finish))

    def is_paid(self, submission: Submission, start: float) -> bool:
        """Whether the table counts an entry already that begins to be kept now; it does from now on."""
        share = self._of(submission)
        paid = start < share.told
        share.told = max(share.told, start + submission.cost)
        share.used = max(share.used, share.told)
        return paid

    def kept(self, submission: Submission, finish: float) -> None:
        """The table took an entry, and its caller's next prediction starts at ``finish`` there."""
        share = self._of(submission)
        self._learn(share, max(share.finish, finish))

    def _next(self, tier: str, share: Share | None) -> float:
        # A caller without a start in the turn that is served waits for the next one: else an endless row of new callers
        # would join that turn, and whoever has its place in the next one would wait for ever.
        turn = self._turns[tier]
        return share.finish if share and share.finish > turn else turn + 1.0

    def _learn(self, share: Share, finish: float) -> None:
        share.finish = finish
        share.used = max(share.used, finish)
        share.answered_at = self._clock()

    def _of(self, submission: Submission) -> Share:
        key = submission.tier, submission.caller
        if (share := self._shares.get(key)) is None:
            share = self._shares[key] = Share()
            if len(self._shares) > CALLERS:
                self._shares.popitem(last=False)
        else:
            self._shares.move_to_end(key)
        return share
