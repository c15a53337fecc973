"""Removes what nobody needs any more: old results with their pictures, and pictures without a prediction."""

from __future__ import annotations

from itertools import islice

from server.blobs import Blobs
from server.leader.answers import answer
from server.leader.paging import pages
from server.leader.term import Term
from server.queue import Queue
from server.settings.live import Live

# A younger blob may still get its row. An hour is also more than the 15 minutes that a bucket's clock may differ.
ORPHAN_SECONDS = 3600.0
PAGE = 500


class Sweeping:
    """Works for one thread, for as long as it takes; it stops between two pages once the term is over."""

    def __init__(self, live: Live, queue: Queue, blobs: Blobs) -> None:
        self._live, self._queue, self._blobs = live, queue, blobs

    def step(self, term: Term) -> None:
        """Sweep once. Raises ``BlobError`` or ``OSError``; the next sweep finds what this one left."""
        kept = {name: tier.waits.results for name, tier in self._live.current.settings.tiers.items()}
        # Rows first: the blobs of rows that are gone are orphans, so that after a crash they are found below.
        for gone in pages(lambda: self._queue.purge(kept), term):
            if not gone:
                break
            self._blobs.delete(gone)
        old = self._blobs.older_than(ORPHAN_SECONDS)
        while not term.over and (page := list(islice(old, PAGE))):
            known = answer(self._queue.known(page))
            self._blobs.delete(key for key in page if key not in known)
