"""The settings and the Job templates in force: read anew when their files change, the last good ones kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from server.config import TEMPLATE_SUFFIX, TEMPLATES, ConfigError, Settings
from server.engines.base import BadManifest, Manifest
from server.render import SAMPLE_RUN, SAMPLE_URL, Renderer, RenderError, check

log = logging.getLogger(__name__)


class Live:
    """``read`` gives the settings that ``files`` hold now. Raises ``ConfigError`` when the first reading fails.

    ``settings`` and ``renderer`` always belong together. ``problem`` says why the files as they are now are not in
    force, and is empty when they are. A template that was wrong from the start concerns its tier alone: it keeps no
    change from being taken up.
    """

    def __init__(self, read: Callable[[], Settings], files: Sequence[Path] = (), templates: Path = TEMPLATES) -> None:
        self._read, self._files, self._templates = read, files, templates
        self._seen = self._state()
        self.settings, self.renderer = read(), Renderer(templates)
        self._broken = set(check(self.settings, self.renderer))
        self.problem = ""

    def refresh(self, try_out: Callable[[Manifest], None]) -> bool:
        """Take the files up if they have changed and are right; whether they were.

        ``try_out`` raises ``BadManifest`` for a Job that could never start; any other ``EngineError`` of its goes to
        the caller, and the files are looked at again next time.
        """
        state = self._state()
        if state == self._seen:
            return False
        try:
            settings, renderer = self._read(), Renderer(self._templates)
            broken = self._judge(settings, renderer, try_out)
        except (ConfigError, RenderError, BadManifest, OSError) as error:
            self._seen, self.problem = state, str(error)
            log.error("changed settings or templates are not used, the last good ones are kept: %s", error)
            return False
        self._seen, self.problem = state, ""
        self.settings, self.renderer, self._broken = settings, renderer, broken
        log.info("changed settings and templates are in force; tiers: %s", ", ".join(settings.tiers))
        return True

    def _judge(self, settings: Settings, renderer: Renderer, try_out: Callable[[Manifest], None]) -> set[str]:
        """The tiers whose Jobs are wrong and were wrong before. Raises for any other one that is wrong."""
        broken = check(settings, renderer)
        for name, findings in broken.items():
            if name not in self._broken:
                raise RenderError(findings)
        for name, tier in settings.tiers.items():
            if name not in broken:
                try_out(renderer.job(tier, SAMPLE_RUN, SAMPLE_URL))
        return set(broken)

    def _state(self) -> list[tuple[Path, int, int, int]]:
        """What tells whether any file was edited, replaced, added or removed."""
        found = []
        for path in [*self._files, *sorted(self._templates.glob(f"*{TEMPLATE_SUFFIX}"))]:
            try:
                stat = path.stat()
            except FileNotFoundError:
                found.append((path, 0, 0, 0))
            else:
                found.append((path, stat.st_mtime_ns, stat.st_ino, stat.st_size))
        return found
