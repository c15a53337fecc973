"""The settings and Job templates in force: read again when their files change, and replaced only by valid ones."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.settings.manifests import BadManifest, Manifest
from server.settings.records import Settings
from server.settings.render import SAMPLE_RUN, SAMPLE_URL, Renderer, RenderError, check
from server.settings.values import TEMPLATE_SUFFIX, TEMPLATES, ConfigError

log = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class InForce:
    """Settings, and the templates that were read with them."""

    settings: Settings
    renderer: Renderer


class Live:
    """Keeps the settings in force. Raises ``ConfigError`` when the first ``read`` fails.

    ``read`` returns the settings that ``files`` contain now; ``clock`` returns monotonic seconds. ``current`` is
    replaced as a whole: code that needs settings and renderer together reads it once. ``problem`` says why the files
    in their present state are not in force, and is empty when they are. A template that was invalid from the start
    stops its own tier only, and does not prevent a change from coming into force.
    """

    def __init__(
        self,
        read: Callable[[], Settings],
        files: Sequence[Path] = (),
        templates: Path = TEMPLATES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._files, self._templates, self._clock = read, files, templates, clock
        self._seen, self._again_at = self._state(), math.inf
        self.current = InForce(read(), Renderer(templates))
        self._broken = set(check(self.current.settings, self.current.renderer))
        self.problem = ""

    def refresh(self, try_out: Callable[[Manifest], None]) -> bool:
        """Put the files into force if they have changed and are valid; return whether that happened.

        ``try_out`` raises ``BadManifest`` for a Job that could not start. The files are then tried again every
        ``AGAIN_SECONDS``, because the namespace and the rights of a new tier may be created after its values. Any other
        error of ``try_out`` is raised, and the files are tried again at the next call.
        """
        # Taken before the files are read, so that a change in between is noticed at the next call.
        state = self._state()
        if state == self._seen and self._clock() < self._again_at:
            return False
        try:
            changed = InForce(self._read(), Renderer(self._templates))
            broken = self._judge(changed, try_out)
        except (ConfigError, RenderError, BadManifest, OSError) as error:
            if str(error) != self.problem:
                log.error("changed settings or templates are not used, the last good ones are kept: %s", error)
            self._again_at = self._clock() + AGAIN_SECONDS if isinstance(error, BadManifest) else math.inf
            self._seen, self.problem = state, str(error)
            return False
        self._seen, self._again_at, self.problem = state, math.inf, ""
        self.current, self._broken = changed, broken
        log.info("changed settings and templates are in force; tiers: %s", ", ".join(changed.settings.tiers))
        return True

    def _judge(self, changed: InForce, try_out: Callable[[Manifest], None]) -> set[str]:
        """Return the tiers whose Jobs were invalid before and still are. Raises ``RenderError`` for any other one."""
        broken = check(changed.settings, changed.renderer)
        for name, findings in broken.items():
            if name not in self._broken:
                raise RenderError(findings)
        for name, tier in changed.settings.tiers.items():
            if name not in broken:
                try_out(changed.renderer.job(tier, SAMPLE_RUN, SAMPLE_URL))
        return set(broken)

    def _state(self) -> list[tuple[Path, int, int, int]]:
        """Return what differs when any file was edited, replaced, added or removed."""
        found = []
        for path in [*self._files, *sorted(self._templates.glob(f"*{TEMPLATE_SUFFIX}"))]:
            try:
                stat = path.stat()
            except FileNotFoundError:
                found.append((path, 0, 0, 0))
            else:
                # The inode, too: a changed ConfigMap is another file behind the same symbolic link.
                found.append((path, stat.st_mtime_ns, stat.st_ino, stat.st_size))
        return found
