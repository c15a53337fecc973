"""Removes what nobody needs any more: old results, pictures that a crash has left behind, files that no model has."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import islice

from server.blobs import Blobs
from server.leader.answers import answer
from server.leader.paging import pages
from server.leader.term import Term
from server.models import Orphans
from server.queue import Queue, Visited
from server.settings.live import Live

# A younger blob may still get its row.
ORPHAN_SECONDS = 3600.0
PAGE = 500
MOST_SUSPECTS = 200_000  # some 20 MB; what is found beyond them waits for a later sweep


class Sweeping:
    """Works for one thread, for as long as it takes; it stops between two pages once the term is over."""

    def __init__(self, live: Live, queue: Queue, blobs: Blobs, orphans: Orphans) -> None:
        self._live, self._queue, self._blobs, self._orphans = live, queue, blobs, orphans
        self._suspects: set[str] = set()

    def step(self, term: Term) -> None:
        """Sweep once. Raises ``BlobError`` or ``OSError``; the next sweep finds what this one left."""
        kept = {name: tier.waits.results for name, tier in self._live.current.settings.tiers.items()}
        queue = self._queue
        for forget in (queue.forget_jobs, queue.forget_uses, queue.forget_measures, queue.forget_minutes):
            for more in pages(forget, term):
                if not more:
                    break
        for walk in (self._queue.forget_counts, self._queue.forget_shares):
            self._walk(walk, term)
        for gone in pages(lambda: self._queue.purge(kept), term):
            if not gone:
                break
        self._sweep_blobs(term)
        self._orphans.step(lambda: term.over)

    @staticmethod
    def _walk(forget: Callable[[Visited | None], Future[Visited | None]], term: Term) -> None:
        after: Visited | None = None
        for reached in pages(lambda: forget(after), term):  # noqa: B023 (asked before it changes)
            if reached is None:
                break
            after = reached

    def _sweep_blobs(self, term: Term) -> None:
        """Delete the old blobs that neither this sweep nor the one before it found needed.

        A clock that was set ahead since makes a blob look old whose row is about to be written. The second look comes
        a minute later by a clock that is never set.
        """
        suspects: set[str] = set()
        old = self._blobs.older_than(ORPHAN_SECONDS)
        while not term.over and (page := list(islice(old, PAGE))):
            alive = answer(self._queue.alive(page))
            unneeded = {key for key in page if key not in alive}
            gone = unneeded & self._suspects
            if gone:
                self._blobs.delete(sorted(gone))
            suspects |= set(islice(unneeded - gone, MOST_SUSPECTS - len(suspects)))
        self._suspects = suspects
