"""The settings and Job templates in force: read again when their files change, and replaced only by valid ones."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path

from server.settings import apart
from server.settings.blueprints import InForce
from server.settings.documents import DocumentError
from server.settings.kept import Kept
from server.settings.manifests import BadManifest, Manifest
from server.settings.records import Settings
from server.settings.render import RenderError
from server.settings.sources import ConfigError, Files, Sources

log = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0
PATIENCE_SECONDS = 1.0  # a change takes a third of it, if nothing is wrong

Judged = tuple[Sources, InForce]
State = list[tuple[Path, int, int, int]]


class Unusable(Exception):
    """Settings name something that is not there yet; the message says what to do. They are tried again."""


class Live:
    """Keeps the settings in force. Raises ``ConfigError`` when neither the files nor the ``kept`` texts can be used.

    ``judge`` says what texts put into force; ``clock`` returns monotonic seconds. ``current`` is replaced as a whole:
    code that needs settings and blueprints together reads it once. ``problem`` says why the files in their present
    state are not in force, and is empty when they are. A template that was invalid from the start stops its own tier
    only, and does not prevent a change from coming into force.
    """

    def __init__(
        self,
        files: Files,
        kept: Kept | None = None,
        judge: Callable[[Sources], InForce] = apart.judge,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._files, self._kept, self._judge, self._clock, self._patience = files, kept, judge, clock, patience
        self._seen, self._again_at = files.state(), math.inf
        self._judging: tuple[State, Future[Judged | None]] | None = None
        self.problem, self._unkept_because, self._keep_at = "", "", -math.inf
        self._unkept: Sources | None
        self._unkept, self.current = self._first()

    def refresh(
        self, try_out: Callable[[Manifest], None], check: Callable[[Settings, Settings], None] = lambda *_: None
    ) -> bool:
        """Put the files into force if they have changed and are valid; return whether that happened.

        It waits for a judgement for ``patience`` seconds at most; a later call takes it up. ``try_out`` raises
        ``BadManifest`` for a Job that could not start, and ``check`` raises ``Unusable`` for changed settings that
        cannot come after the present ones. The files are then tried again every ``AGAIN_SECONDS``, because the
        namespace and the rights of a new tier may be created after its values, and its model pushed after them. Any
        other error of both is raised, and the files are tried again at the next call.
        """
        self._keep()
        patience = 0.0
        if self._judging is None:
            # Taken before the files are read, so that a change in between is noticed at the next call.
            state = self._files.state()
            if state == self._seen and self._clock() < self._again_at:
                return False
            self._judging, patience = (state, self._begin(state)), self._patience
        state, future = self._judging
        if not wait([future], patience).done:
            self.problem = "the changed settings and templates are still being checked"
            return False
        self._judging = None
        try:
            found = future.result()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is wrong with these files)
            return self._refuse(state, error)
        if found is None:
            return False
        sources, changed = found
        try:
            self._try_out(changed, try_out)
            check(changed.settings, self.current.settings)
        except (RenderError, BadManifest, Unusable) as error:
            return self._refuse(state, error)
        self._seen, self._again_at, self.problem = state, math.inf, ""
        self._unkept, self.current = sources, changed
        log.info("changed settings and templates are in force; tiers: %s", ", ".join(changed.settings.tiers))
        self._keep()
        return True

    def _first(self) -> Judged:
        """What to begin with: the files, or the kept texts if the files have something wrong that those have not."""
        try:
            sources = self._files.read()
            found = self._judge(sources)
        except ConfigError as error:
            if (last := self._last_good()) is None:
                raise
            return self._go_on_with(last, error)
        wrong = found.blueprints.broken
        if wrong and (last := self._last_good()) is not None and wrong.keys() - last[1].blueprints.broken.keys():
            return self._go_on_with(last, RenderError([one for findings in wrong.values() for one in findings]))
        return sources, found

    def _go_on_with(self, last: Judged, error: DocumentError) -> Judged:
        self.problem = str(error)
        log.error("wrong settings or templates are not used, the last good ones are kept: %s", error)
        return last

    def _last_good(self) -> Judged | None:
        sources = self._kept.read() if self._kept else None
        try:
            return (sources, self._judge(sources)) if sources else None
        except ConfigError:  # this server or its flags have changed since
            return None

    def _begin(self, state: State) -> Future[Judged | None]:
        """Judge the files on a thread of its own; the result is None when they changed meanwhile."""
        future: Future[Judged | None] = Future()

        def judge() -> None:
            try:
                judged = (sources := self._files.read()), self._judge(sources)
                # Looked at last: an editor empties a file before it writes it, and an empty one is valid.
                future.set_result(judged if self._files.state() == state else None)
            except BaseException as error:  # noqa: BLE001 (whoever waits for the result gets it)
                future.set_exception(error)

        threading.Thread(target=judge, name="judging settings", daemon=True).start()
        return future

    def _try_out(self, changed: InForce, try_out: Callable[[Manifest], None]) -> None:
        """Raises ``RenderError`` for a tier whose Jobs are invalid and were not before."""
        broken = changed.blueprints.broken
        for name, findings in broken.items():
            if name not in self.current.blueprints.broken:
                raise RenderError(findings)
        for name in changed.settings.tiers:
            if name not in broken:
                try_out(changed.blueprints.job(name))

    def _refuse(self, state: State, error: Exception) -> bool:
        if str(error) != self.problem:
            log.error("changed settings or templates are not used, the last good ones are kept: %s", error)
        again = not isinstance(error, DocumentError) or isinstance(error, apart.NotJudged)
        self._again_at = self._clock() + AGAIN_SECONDS if again else math.inf
        self._seen, self.problem = state, str(error)
        return False

    def _keep(self) -> None:
        """Keep what is in force; not before the first ``refresh``, as until then another server may own the file."""
        if self._kept is None or self._unkept is None or self._clock() < self._keep_at:
            return
        try:
            self._kept.write(self._unkept)
        except OSError as error:
            if str(error) != self._unkept_because:
                log.warning("the settings in force cannot be kept for a restart: %s", error)
            self._unkept_because, self._keep_at = str(error), self._clock() + AGAIN_SECONDS
        else:
            self._unkept, self._unkept_because, self._keep_at = None, "", -math.inf
