"""Judges the texts of settings: turns them into what can be put into force, or says what is wrong with them.

As a program it reads ``Sources`` as JSON and writes what it found as JSON. It limits its own memory and processor time,
and renders each tier in a child of its own, so that a template that does not end stops its own tier only. Its arguments
are the tiers to render, where not all of them are wanted. ``apart`` runs it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from server.settings.blueprints import Blueprint, Blueprints, InForce, Marks, draw
from server.settings.documents import Finding
from server.settings.records import Tier
from server.settings.render import SAMPLE_RUN, SAMPLE_URL, STEPS, Renderer, sample_model
from server.settings.sources import ConfigError, Sources, restored
from server.settings.values import as_settings, complete

MEMORY_BYTES = 128 * 1024 * 1024
VALUES_SECONDS, TIER_SECONDS = 5, 2  # of processor time, which a busy machine does not use up
MOST_FINDINGS, MESSAGE_CHARACTERS = 50, 1000

Answer = dict[str, Any]
Draw = Callable[[], Blueprint]


def judge(sources: Sources, drawn: Callable[[Draw], Blueprint] = lambda draw: draw()) -> InForce:
    """Return what ``sources`` put into force; a tier may be broken in it. Raises ``ConfigError``."""
    return loaded(_judged(sources, drawn))


def loaded(answer: Answer) -> InForce:
    """Return what the program found, from its answer. Raises ``ConfigError``."""
    if "findings" in answer:
        raise ConfigError(_findings(answer))
    tiers = {
        name: Blueprint(one["manifest"], one["passed"], _findings(one), one["text"])
        for name, one in answer["tiers"].items()
    }
    settings = as_settings(answer["values"])
    named = {name: sample_model(tier) for name, tier in settings.tiers.items()}
    return InForce(settings, Blueprints(Marks(**answer["marks"]), tiers, named), answer["values"])


def _findings(answer: Answer) -> tuple[Finding, ...]:
    return tuple(Finding(**finding) for finding in answer["findings"])


def _judged(sources: Sources, drawn: Callable[[Draw], Blueprint], only: Collection[str] = ()) -> Answer:
    try:
        values, templates = complete(sources)
        marks, renderer, tiers = Marks.new(), Renderer(templates), as_settings(values).tiers
    except ConfigError as error:
        return {"findings": _brief(error.findings)}
    wanted = {name: tier for name, tier in tiers.items() if not only or name in only}
    found = {name: drawn(lambda tier=tier: draw(renderer, tier, marks)) for name, tier in wanted.items()}  # type: ignore[misc]
    told = {name: _told(one, tiers[name], marks) for name, one in found.items()}
    return {"values": values, "marks": asdict(marks), "tiers": told}


def _told(one: Blueprint, tier: Tier, marks: Marks) -> Answer:
    said = {"findings": _brief(one.findings), "text": one.text}
    shown: Answer = marks.replaced(said, SAMPLE_RUN, SAMPLE_URL, sample_model(tier))
    return {"manifest": one.manifest, "passed": one.passed, **shown}


def _brief(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
    kept = [asdict(finding) for finding in findings[:MOST_FINDINGS]]
    return [{**one, "message": one["message"][:MESSAGE_CHARACTERS]} for one in kept]


def _in_child(draw: Draw) -> Blueprint:
    """Do it in a forked process with a limit of its own; the end of that process is a finding."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(1)  # who reads our answer must not wait for this process
        resource.setrlimit(resource.RLIMIT_CPU, (TIER_SECONDS, TIER_SECONDS))
        with os.fdopen(sink, "w") as stream:
            try:
                found = draw()
                stream.write(json.dumps([found.manifest, found.passed, _brief(found.findings), found.text]))
            except MemoryError:
                stream.write(json.dumps(_ended("it takes too much memory")))
            except Exception as error:  # noqa: BLE001 (whatever a template does belongs to its tier)
                stream.write(json.dumps(_ended(f"{type(error).__name__}: {error}")))
        os._exit(0)
    os.close(sink)
    with os.fdopen(source) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        answer = _ended(f"rendering took more than {TIER_SECONDS} s of processor time, or too much memory")
    else:
        answer = json.loads(text) if code == 0 and text else _ended(f"rendering ended with exit code {code}")
    manifest, passed, findings, shown = answer
    return Blueprint(manifest, passed, tuple(Finding(**finding) for finding in findings), shown)


def _ended(message: str) -> list[Any]:
    finding = Finding("the Job template", 0, "", "template", message[:MESSAGE_CHARACTERS])
    return [None, STEPS.index("template"), [asdict(finding)], ""]


def main() -> None:
    """Answer one question."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (VALUES_SECONDS, VALUES_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _judged(restored(json.load(sys.stdin)), _in_child, sys.argv[1:])
    except (MemoryError, RecursionError):
        finding = Finding("the values", 0, "", "size", "take too much memory, or are nested too deeply")
        answer = {"findings": [asdict(finding)]}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
