"""The whole durable queue: the parts that callers, workers, the leader and readers use, over one database."""

from __future__ import annotations

from collections.abc import Callable

from server.queue.facts.news import Listener
from server.queue.facts.states import Ids
from server.queue.operations.arrivals import Arrivals
from server.queue.operations.figures import Figures
from server.queue.operations.intake import Intake
from server.queue.operations.jobs import Jobs
from server.queue.operations.keys import Keys
from server.queue.operations.leases import Leases
from server.queue.operations.listing import Listing
from server.queue.operations.measures import Measures
from server.queue.operations.minutes import Minutes
from server.queue.operations.models import Models
from server.queue.operations.sweeps import Sweeps
from server.queue.operations.upkeep import Upkeep
from server.queue.operations.uses import Uses


class Queue(Intake, Arrivals, Leases, Upkeep, Sweeps, Jobs, Figures, Keys, Listing, Uses, Models, Measures, Minutes):
    """Every operation returns a future. A write is on disk when it resolves; a read sees all writes resolved before."""

    def listen(self, listener: Listener, *, own: bool = False) -> None:
        """Call ``listener`` with the news of each commit, on a thread of the database, which waits for it to return.

        ``own``: only of the commits of this process, not of other servers on the same database.
        """
        self._database.listen(listener, own=own)

    def when_committed(self, told: Callable[[float], None]) -> None:
        """Call ``told`` with the seconds that each transaction took which writes, on the thread that writes."""
        self._database.when_committed(told)

    @property
    def ids(self) -> Ids:
        """What makes and knows the ids of this installation."""
        return self._database.ids

    def take_doubt(self) -> bool:
        """Whether the storage of the queue has failed since the last call: then ``try_out`` tells how it is now."""
        return self._database.take_doubt()

    def leads(self) -> bool:
        """Whether this process is the one that leads now; blocks for as long as asking takes."""
        return self._database.leads()
