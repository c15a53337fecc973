"""Renders the manifest of a Job from a tier's template.

The steps are parameters, Jinja, YAML, schema and invariants, each checked before the next. In the last one the server
sets the fields that it alone decides; a template can neither leave them out nor contradict them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from server.settings import documents
from server.settings.documents import Document, DocumentError, Finding
from server.settings.manifests import Manifest, NamedModel, WhichModel, job_name
from server.settings.misspellings import advised, oversights
from server.settings.policy import stamped
from server.settings.quantity import sum_of_bytes
from server.settings.records import Tier
from server.settings.sources import Templates, read_templates

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_BYTES = 1 << 16
STEPS = ("parameters", "template", "yaml", "schema", "invariants")

TMP_STORAGE, LOG_STORAGE = "64Mi", "64Mi"  # for pictures that a worker decodes, and for what it prints

SAMPLE_RUN = "sample"
SAMPLE_URL = "http://127.0.0.1:8081"
SAMPLE_DIGEST = "0" * 64


class RenderError(DocumentError):
    """A tier's template gives no valid Job; ``findings`` refer to lines of the template or of the rendered ``text``."""

    def __init__(self, findings: Sequence[Finding], text: str = "") -> None:
        super().__init__(findings)
        self.text = text[:MAX_BYTES]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one step of rendering. There is no verdict for the steps after one that failed."""

    step: str
    findings: tuple[Finding, ...] = ()
    text: str = ""
    """What was rendered, if the findings refer to its lines."""

    @property
    def ok(self) -> bool:
        """Whether the step has no findings."""
        return not self.findings


class Renderer:
    """Renders Job templates, without a limit on time and memory: ``apart`` sets them.

    Without a ``model``, a Job gets what the tier's settings name, with a digest that no model has.
    """

    def __init__(self, templates: Templates | None = None) -> None:
        self._templates = templates or read_templates()
        self._folder = Path(self._templates.folder)
        self._environment = _environment(self._templates)
        self._overseen: dict[str, list[Finding]] = {}

    def text(self, tier: Tier, run: str, server_url: str, model: WhichModel | None = None) -> str:
        """Return the YAML text of the tier's template, before the server sets its fields. Raises ``RenderError``."""
        return self._text(tier, _parameters(tier, run, server_url, model or sample_model(tier)))

    def job(self, tier: Tier, run: str, server_url: str, model: WhichModel | None = None) -> dict[str, Any]:
        """Return the checked manifest of the Job of one run, which an engine can start. Raises ``RenderError``."""
        return self._steps(tier, run, server_url, model or sample_model(tier), lambda *_: None)[0]

    def validate(
        self, tier: Tier, run: str = SAMPLE_RUN, server_url: str = SAMPLE_URL, model: WhichModel | None = None
    ) -> list[Verdict]:
        """Return a verdict for each step of ``STEPS`` up to the first that fails."""
        return self.attempt(tier, run, server_url, model or sample_model(tier))[0]

    def attempt(
        self, tier: Tier, run: str, server_url: str, model: WhichModel
    ) -> tuple[list[Verdict], dict[str, Any] | None, str]:
        """Return what ``validate`` returns, the manifest or None if a step fails, and then also its text."""
        passed: list[str] = []
        try:
            manifest, text = self._steps(tier, run, server_url, model, passed.append)
        except RenderError as error:
            return [*map(Verdict, passed), Verdict(STEPS[len(passed)], error.findings, error.text)], None, error.text
        return [Verdict(step) for step in passed], manifest, text

    def _steps(
        self, tier: Tier, run: str, server_url: str, model: WhichModel, passed: Callable[[str], None]
    ) -> tuple[dict[str, Any], str]:
        parameters = _parameters(tier, run, server_url, model)
        passed("parameters")
        text = self._text(tier, parameters)
        passed("template")
        try:
            document = documents.parse(text, f"{self.file(tier)} (rendered)", MAX_BYTES)
        except DocumentError as error:
            raise RenderError(error.findings, text) from error
        passed("yaml")
        if findings := documents.validate(document, "job"):
            raise RenderError(findings, text)
        passed("schema")
        manifest, findings = stamped(document, tier, run)
        if findings:
            raise RenderError(findings, text)
        passed("invariants")
        return manifest, text

    def file(self, tier: Tier) -> str:
        """Return the name of the tier's template, as people are shown it."""
        return self._shown(self._folder / tier.template)

    def _shown(self, path: Path) -> str:
        return self._templates.places.get(path.name) or documents.shown(path)

    def _text(self, tier: Tier, parameters: Mapping[str, Any]) -> str:
        from jinja2 import TemplateError, TemplateNotFound, TemplateSyntaxError

        texts = self._templates.texts
        try:
            if tier.template not in self._overseen:
                found = oversights(tier.template, self._environment, texts.get, parameters)
                self._overseen[tier.template] = [self._finding(one.template, one.line, one.message) for one in found]
            if findings := self._overseen[tier.template]:
                raise RenderError(findings)
            return self._environment.get_template(tier.template).render(parameters)
        except TemplateSyntaxError as error:
            # Jinja's lexer puts the file name into the error's `name`, its parser into `filename`.
            file, line = error.filename or error.name or "", error.lineno
            message = advised(error.message or "bad syntax", self._environment)
        except TemplateNotFound as error:
            missing = f'there is no template "{error.name}"; there are {", ".join(sorted(texts)) or "none"}'
            message = self._templates.unusable.get(str(error.name), missing)
            file, line = self._raised_at(error)
        except (TemplateError, ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
            (file, line), message = self._raised_at(error), advised(str(error), self._environment)
        except RecursionError:
            file, line, message = "", 0, "a template extends or includes itself"
        except SyntaxError as error:  # of the Python that Jinja makes of the template: too many blocks in blocks
            file, line, message = "", 0, str(error.msg)
        except MemoryError:
            file, line, message = "", 0, "takes too much memory"
        raise RenderError([self._finding(file or tier.template, line, message)])

    def _finding(self, file: str, line: int, message: str) -> Finding:
        shown = self._shown(self._folder / Path(file).name)
        return Finding(file=shown, line=line, pointer="", rule="template", message=message)

    def _raised_at(self, error: Exception) -> tuple[str, int]:
        """Return file and line of the innermost template that raised ``error``; Jinja puts them into the traceback."""
        import traceback  # here, as it is needed only where something is wrong

        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if Path(frame.filename).is_relative_to(self._folder)]
        return (inside[-1].filename, inside[-1].lineno or 0) if inside else ("", 0)


def dump(manifest: Manifest) -> str:
    """Return ``manifest`` as YAML for people to read."""
    return str(yaml.dump(dict(manifest), Dumper=_Dumper, sort_keys=False, width=1000))


class _Dumper(yaml.SafeDumper):
    """Quotes all text that starts like a number, as other YAML parsers know more kinds of numbers than PyYAML does."""

    def ignore_aliases(self, data: Any) -> bool:
        return True  # a value that occurs twice is printed twice, not as an anchor and an alias


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+.0-9].*", re.DOTALL), list("-+.0123456789"))


def diff(old: Manifest, new: Manifest, old_name: str = "old", new_name: str = "new") -> str:
    """Return a unified diff from ``old`` to ``new``, which is empty when they are equal."""
    import difflib  # here, as no other use of this module needs it

    lines = dump(old).splitlines(keepends=True), dump(new).splitlines(keepends=True)
    return "".join(difflib.unified_diff(*lines, old_name, new_name))


def sample_model(tier: Tier) -> NamedModel:
    """Return what the tier's settings name, with a digest that no model has."""
    return NamedModel(tier.model.name, SAMPLE_DIGEST)


def _parameters(tier: Tier, run: str, server_url: str, model: WhichModel) -> dict[str, Any]:
    idle = tier.waits.idle
    parameters = {
        "tier": tier.name,
        "run": run,
        "job": job_name(tier.name, run),
        "namespace": tier.namespace,
        "image": tier.job.image,
        "cpu": tier.job.cpu,
        "memory": tier.job.memory,
        "model": model.reference,
        "model_digest": model.digest,
        "variant": tier.model.variant,
        "runtime": tier.model.runtime,
        "idle_seconds": int(idle) if idle == int(idle) else idle,
        "max_predictions": tier.job.max_predictions,
        "max_pixels": tier.limits.image_pixels,
        "image_pull_policy": tier.job.image_pull_policy,
        "node_selector": dict(tier.job.node_selector),
        "tolerations": [dict(toleration) for toleration in tier.job.tolerations],
        "affinity": dict(tier.job.affinity),
        "priority_class_name": tier.job.priority_class_name,
        "runtime_class_name": tier.job.runtime_class_name,
        "labels": dict(tier.job.labels),
        "annotations": dict(tier.job.annotations),
        "env": dict(tier.job.env),
        "tmp_storage": sum_of_bytes(TMP_STORAGE, tier.job.model_storage),
        "ephemeral_storage": sum_of_bytes(TMP_STORAGE, LOG_STORAGE, tier.job.model_storage),
        "server_url": server_url,
        "gpus": tier.job.gpus,
        "gpu_resource": tier.job.gpu_resource,
        "batch": tier.job.batch,
        "user": tier.job.user,
    }
    findings = documents.validate(Document(parameters, f"parameters of the tier {tier.name!r}", {}), "job-parameters")
    if findings:
        raise RenderError(findings)
    return parameters


def _environment(templates: Templates) -> Environment:
    """Return a Jinja environment without access to Python; values must be defined and written with ``tojson``."""
    from jinja2 import FunctionLoader, StrictUndefined, TemplateRuntimeError, Undefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup

    def tojson(value: Any) -> Markup:
        if isinstance(value, Undefined):
            str(value)  # raises, naming what is undefined
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        # json.dumps escapes beyond the first 65536 characters in pairs, which YAML does not know: one escape for each.
        return Markup(re.sub(r"[^ -~]", lambda character: f"\\U{ord(character[0]):08x}", text))  # noqa: S704

    def only_json(value: Any) -> Any:
        if not isinstance(value, Markup):
            raise TemplateRuntimeError(f'"{value}" must be written with the filter tojson')
        return value

    def load(name: str) -> tuple[str, str, Callable[[], bool]] | None:
        text = templates.texts.get(name)
        return None if text is None else (text, str(Path(templates.folder) / name), lambda: True)

    environment = ImmutableSandboxedEnvironment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        finalize=only_json,
        autoescape=True,  # with it Jinja marks its own text (super(), macros) as Markup, and values not
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tojson"] = tojson
    return environment
