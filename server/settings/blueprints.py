"""What is in force: the settings, and for each tier the manifest of its Jobs, rendered once and filled in for each Job.

So no template runs when a Job starts. A template may only place ``run``, ``job`` and ``server_url``, not calculate with
them: it is rendered for two different sets of marks, and the two results may differ in the marks alone.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.settings import documents
from server.settings.documents import Finding
from server.settings.manifests import Manifest
from server.settings.records import Settings, Tier
from server.settings.render import SAMPLE_RUN, SAMPLE_URL, STEPS, Renderer, RenderError, Verdict

_OTHER_DIGITS = str.maketrans("0123456789abcdef", "fedcba9876543210")


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands in a blueprint for a Job's run and for the server's URL; it occurs in no template by accident."""

    run: str
    host: str

    @classmethod
    def new(cls) -> Marks:
        """Random marks of the form that real runs and URLs have."""
        return cls(secrets.token_hex(5), secrets.token_hex(8))

    @property
    def url(self) -> str:
        """What stands for the server's URL."""
        return f"http://{self.host}.invalid:8081"

    def others(self) -> Marks:
        """Marks that differ from these in every digit."""
        return Marks(self.run.translate(_OTHER_DIGITS), self.host.translate(_OTHER_DIGITS))

    def replaced(self, value: Any, run: str, url: str) -> Any:
        """Return a JSON value with ``run`` and ``url`` in the place of the marks."""
        if isinstance(value, str):
            return value.replace(self.run, run).replace(self.url, url)
        if isinstance(value, list):
            return [self.replaced(item, run, url) for item in value]
        if isinstance(value, dict):
            return {self.replaced(key, run, url): self.replaced(item, run, url) for key, item in value.items()}
        return value


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The Job of one tier, with marks in it; or, without a ``manifest``, the findings of the step that failed."""

    manifest: Manifest | None
    passed: int
    """How many of ``STEPS`` had no findings."""
    findings: tuple[Finding, ...] = ()

    @property
    def verdicts(self) -> list[Verdict]:
        """A verdict for each step of ``STEPS`` up to the first that failed."""
        failed = [Verdict(STEPS[self.passed], self.findings)] if self.findings else []
        return [*map(Verdict, STEPS[: self.passed]), *failed]


@dataclass(frozen=True, slots=True)
class Blueprints:
    """The blueprint of each tier."""

    marks: Marks
    tiers: Mapping[str, Blueprint]

    @property
    def broken(self) -> dict[str, tuple[Finding, ...]]:
        """The findings of the tiers whose template gives no Job."""
        return {name: blueprint.findings for name, blueprint in self.tiers.items() if blueprint.manifest is None}

    def job(self, tier: str, run: str = SAMPLE_RUN, server_url: str = SAMPLE_URL) -> dict[str, Any]:
        """Return the checked manifest of the Job of one run, which an engine can start. Raises ``RenderError``."""
        blueprint = self.tiers[tier]
        if blueprint.manifest is None:
            raise RenderError(blueprint.findings)
        rule = documents.schema("job-parameters")["properties"]["server_url"]["pattern"]
        if not re.search(rule, server_url):
            message = f"{server_url} is not a URL such as {SAMPLE_URL}"
            raise RenderError([Finding("--internal-url", 0, "", "pattern", message)])
        filled: dict[str, Any] = self.marks.replaced(blueprint.manifest, run, server_url)
        return filled


@dataclass(frozen=True, slots=True)
class InForce:
    """Settings, and the Jobs that the templates give with them."""

    settings: Settings
    blueprints: Blueprints


def draw(renderer: Renderer, tier: Tier, marks: Marks) -> Blueprint:
    """Render the tier's template."""
    verdicts = renderer.validate(tier, marks.run, marks.url)
    if verdicts[-1].findings:
        return Blueprint(None, len(verdicts) - 1, verdicts[-1].findings)
    others = marks.others()
    manifest = renderer.job(tier, marks.run, marks.url)
    if marks.replaced(manifest, others.run, others.url) != renderer.job(tier, others.run, others.url):
        message = "calculates with run, job or server_url: a template may only put them in their place"
        finding = Finding(renderer.file(tier), 0, "", "template", message)
        return Blueprint(None, STEPS.index("template"), (finding,))
    return Blueprint(manifest, len(STEPS))
