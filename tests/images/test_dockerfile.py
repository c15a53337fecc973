"""What the stages of the Dockerfile install, in a build that makes its models itself."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cluster.shell import ROOT

STAGES = re.compile(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", re.MULTILINE | re.DOTALL)
INSTALLS = re.compile(r"install\.sh \S+ \S+ ((?:[\w.-]+|'[^']+')(?: (?:[\w.-]+|'[^']+'))*)")


def stages(target: str) -> dict[str, str]:
    """The stages that a target is made of, itself included, and their steps."""
    texts = {name: (bottom, steps) for bottom, name, steps in STAGES.findall((ROOT / "Dockerfile").read_text())}
    found: dict[str, str] = {}
    wanted = [target]
    while wanted:
        if (name := wanted.pop()) in texts and name not in found:
            bottom, found[name] = texts[name]
            wanted += [bottom, *re.findall(r"from=([\w-]+)", found[name])]
    return found


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What setup.py requires, with the extras that want it."""
    folder = tmp_path_factory.mktemp("metadata")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    return importlib.metadata.Distribution.at(folder / "tierserve.egg-info").requires or []


def installed(target: str, extras: list[str]) -> set[str]:
    """The names of all packages that these stages install: those that they name, and what those require here."""
    words = [
        word for steps in stages(target).values() for found in INSTALLS.findall(steps) for word in shlex.split(found)
    ]
    wanted = [Requirement(word.replace(".[", "tierserve[")) for word in words]
    found: set[tuple[str, str]] = set()
    while wanted:
        one = wanted.pop()
        for extra in one.extras | {""}:
            if (one.name, extra) not in found:
                found.add((one.name, extra))
                needs = map(Requirement, extras if one.name == "tierserve" else required(one.name))
                wanted += [need for need in needs if not need.marker or need.marker.evaluate({"extra": extra})]
    return {str(canonicalize_name(name)) for name, _ in found}


def required(name: str) -> list[str]:
    """What a package requires; nothing if it is not installed here, as the one package that `make test` removes."""
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


@pytest.mark.parametrize("target", ["server", "worker"])
def test_server_and_worker_and_their_models_are_built_without_torch(target: str, extras: list[str]) -> None:
    assert "model-builder" in stages(target)
    packages = installed(target, extras)
    assert {"onnx", "onnxruntime", "safetensors", "cyclonedx-bom"} <= packages
    assert {name for name in packages if re.match("torch|timm|triton|nvidia|huggingface", name)} == set()


def test_the_image_for_gpus_has_torch_and_models_that_are_built_without_it(extras: list[str]) -> None:
    assert {"torch", "timm"} <= installed("worker-timm", extras)
    assert {"model-builder", "worker-timm-packages"} <= stages("worker-timm").keys()
    assert "worker-timm-packages" not in stages("model-builder")
