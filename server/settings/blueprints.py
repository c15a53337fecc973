"""What is in force: the settings, and for each tier the manifest of its Jobs, rendered once and filled in for each Job.

So no template runs when a Job starts. A template may only place ``run``, ``job``, ``server_url``, ``model`` and
``model_digest``, not calculate with them: it is rendered for two different sets of marks, and the two results may
differ in the marks alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.settings import documents
from server.settings.documents import Finding
from server.settings.manifests import Manifest, NamedModel, WhichModel
from server.settings.records import Settings, Tier
from server.settings.render import SAMPLE_RUN, SAMPLE_URL, STEPS, Renderer, RenderError, Verdict

_OTHER_DIGITS = str.maketrans("0123456789abcdef", "fedcba9876543210")


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands in a blueprint for a Job's run, the server's URL and the model.

    None of it occurs in a template by accident.
    """

    run: str
    host: str
    digest: str

    @classmethod
    def new(cls) -> Marks:
        """Random marks of the form that real runs, URLs and models have."""
        return cls(*(os.urandom(count).hex() for count in (5, 8, 32)))

    @property
    def url(self) -> str:
        """What stands for the server's URL."""
        return f"http://{self.host}.invalid:8081"

    @property
    def model(self) -> NamedModel:
        """What stands for the model."""
        return NamedModel(f"{self.host}@{self.digest[:8]}", self.digest)

    def others(self) -> Marks:
        """Marks that differ from these in every digit."""
        run, host, digest = (text.translate(_OTHER_DIGITS) for text in (self.run, self.host, self.digest))
        return Marks(run, host, digest)

    def replaced(self, value: Any, run: str, url: str, model: WhichModel) -> Any:
        """Return a JSON value with ``run``, ``url`` and ``model`` in the place of the marks."""
        mine = self.model
        pairs = {self.run: run, self.url: url, mine.reference: model.reference, mine.digest: model.digest}
        return _replaced(value, pairs)


def _replaced(value: Any, pairs: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for mark, text in pairs.items():
            value = value.replace(mark, text)
        return value
    if isinstance(value, list):
        return [_replaced(item, pairs) for item in value]
    if isinstance(value, dict):
        return {_replaced(key, pairs): _replaced(item, pairs) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The Job of one tier, with marks in it; or, without a ``manifest``, the findings of the step that failed."""

    manifest: Manifest | None
    passed: int
    """How many of ``STEPS`` had no findings."""
    findings: tuple[Finding, ...] = ()
    text: str = ""
    """What was rendered, if the findings refer to its lines."""

    @property
    def verdicts(self) -> list[Verdict]:
        """A verdict for each step of ``STEPS`` up to the first that failed."""
        failed = [Verdict(STEPS[self.passed], self.findings, self.text)] if self.findings else []
        return [*map(Verdict, STEPS[: self.passed]), *failed]


@dataclass(frozen=True, slots=True)
class Blueprints:
    """The blueprint of each tier."""

    marks: Marks
    tiers: Mapping[str, Blueprint]
    named: Mapping[str, WhichModel]
    """Each tier's model by what its settings say, with a digest that no model has."""

    @property
    def broken(self) -> dict[str, tuple[Finding, ...]]:
        """The findings of the tiers whose template gives no Job."""
        return {name: blueprint.findings for name, blueprint in self.tiers.items() if blueprint.manifest is None}

    def job(
        self, tier: str, run: str = SAMPLE_RUN, server_url: str = SAMPLE_URL, model: WhichModel | None = None
    ) -> dict[str, Any]:
        """Return the checked manifest of the Job of one run, which an engine can start. Raises ``RenderError``.

        Without a ``model``, it is that of ``named``.
        """
        blueprint = self.tiers[tier]
        if blueprint.manifest is None:
            raise RenderError(blueprint.findings, blueprint.text)
        rule = documents.schema("job-parameters")["properties"]["server_url"]["pattern"]
        if not re.search(rule, server_url):
            message = f"{server_url} is not a URL such as {SAMPLE_URL}"
            raise RenderError([Finding("--internal-url", 0, "", "pattern", message)])
        filled: dict[str, Any] = self.marks.replaced(blueprint.manifest, run, server_url, model or self.named[tier])
        return filled


@dataclass(frozen=True, slots=True)
class InForce:
    """Settings, and the Jobs that the templates give with them."""

    settings: Settings
    blueprints: Blueprints
    values: Mapping[str, Any]
    """The complete values, of which the settings are made."""

    def values_of(self, tier: str) -> dict[str, Any]:
        """Return the values that are in force for ``tier``: its own and those of all, however they were written."""
        record, own = self.settings.tiers[tier], self.values["tiers"][tier]
        sizes = {"cpu": record.job.cpu, "memory": record.job.memory, "modelStorage": record.job.model_storage}
        full = {**own, "quota": dict(record.quota), "job": {**own["job"], **sizes}}
        of_all = {"server": self.values["server"], "capacity": dict(self.settings.capacity)}
        written: dict[str, Any] = _as_integers({**of_all, "tiers": {tier: full}})
        return written


def _as_integers(value: Any) -> Any:
    """Return a JSON value with 30 instead of 30.0, which is the same number."""
    if isinstance(value, dict):
        return {key: _as_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_integers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def draw(renderer: Renderer, tier: Tier, marks: Marks) -> Blueprint:
    """Render the tier's template."""
    verdicts, manifest, text = renderer.attempt(tier, marks.run, marks.url, marks.model)
    if manifest is None:
        return Blueprint(None, len(verdicts) - 1, verdicts[-1].findings, verdicts[-1].text)
    others = marks.others()
    new = others.run, others.url, others.model
    # Two texts that differ in the marks alone give manifests that do; other texts may still do so.
    if marks.replaced(text, *new) != renderer.text(tier, *new) and (
        marks.replaced(manifest, *new) != renderer.job(tier, *new)
    ):
        message = "calculates with run, job, server_url or the model: a template may only put them in their place"
        finding = Finding(renderer.file(tier), 0, "", "template", message)
        return Blueprint(None, STEPS.index("template"), (finding,))
    return Blueprint(manifest, len(STEPS))
