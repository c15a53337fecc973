"""The chart as Helm renders it, and the programs that check the result."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from server.shipped import ROOT

CHART = ROOT / "chart"
CASES = {path.name.removesuffix("-values.yaml"): path for path in sorted(CHART.glob("ci/*-values.yaml"))}
RELEASE, NAMESPACE = "tierserve", "tierserve-system"
HELMS = ["helm", "helm3"]
TOOLS = [*HELMS, "kubeconform", "kube-score", "cyclonus", "untt"]
SECONDS = 60

Object = dict[str, Any]


class Refused(Exception):
    """Helm does not render these values. The text is Helm's message."""


@dataclass
class Chart:
    """Renders the chart with the binaries of a folder. Each set of values is rendered only once."""

    binaries: Path
    rendered: dict[tuple[str, ...], str] = field(default_factory=dict)
    parsed: dict[str, list[Object]] = field(default_factory=dict)

    def run(
        self, program: str, *arguments: str | Path, text: str | None = None, folder: Path = CHART
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the binaries in ``folder``, with ``text`` on its standard input."""
        argv = [str(self.binaries / program), *map(str, arguments)]
        return subprocess.run(
            argv, input=text, capture_output=True, text=True, cwd=folder, timeout=SECONDS, check=False
        )

    def text(
        self, *arguments: str | Path, release: str = RELEASE, namespace: str = NAMESPACE, helm: str = "helm"
    ) -> str:
        """What ``helm template`` prints with these arguments: that of Helm 4, or of ``helm3``.

        Helm 3 ends each document with a line break less. Raises ``Refused`` if Helm fails.
        """
        argv = ["template", release, str(CHART), "--namespace", namespace, *map(str, arguments)]
        key = (helm, *argv)
        if key not in self.rendered:
            done = self.run(helm, *argv)
            if done.returncode:
                raise Refused("\n".join(line for line in done.stderr.splitlines() if not line.startswith("level=INFO")))
            self.rendered[key] = done.stdout
        return self.rendered[key]

    def objects(self, *arguments: str | Path, release: str = RELEASE, namespace: str = NAMESPACE) -> list[Object]:
        """The objects of ``text``. Callers share them, so they must not change them."""
        text = self.text(*arguments, release=release, namespace=namespace)
        if text not in self.parsed:
            self.parsed[text] = [document for document in yaml.safe_load_all(text) if document]
        return self.parsed[text]

    def case(self, name: str) -> list[Object]:
        """The objects of a file in ``chart/ci``."""
        return self.objects("--values", CASES[name])


def only(objects: Sequence[Object], kind: str, name: str | None = None, namespace: str | None = None) -> Object:
    """The one object of that kind, name and namespace."""
    found = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    found = [each for each in found if namespace in (None, each["metadata"].get("namespace"))]
    assert len(found) == 1, f"{len(found)} of {kind} {name} in {namespace}"
    return found[0]


def identity(each: Object) -> tuple[str, str, str, str]:
    """The keys by which the API server tells objects apart."""
    metadata = each["metadata"]
    return each["apiVersion"], each["kind"], metadata.get("namespace", ""), metadata["name"]
