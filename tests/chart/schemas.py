"""JSON Schemas of Kubernetes objects for kubeconform, which would otherwise download them.

The schemas of Kubernetes come with the package ``kubernetes-validate``, and those of custom resources with their
makers' Go modules.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

BUNDLED = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
VERSIONS = ("1.29.0", "1.34.0", "1.37.0")
LAYOUT = "{{.NormalizedKubernetesVersion}}/{{.ResourceKind}}{{.KindSuffix}}.json"
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
CUSTOM = [
    ("sigs.k8s.io/gateway-api@v1.4.0", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    (OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
    (OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
]
DOWNLOAD_SECONDS = 110

Schema = dict[str, Any]


def write(folder: Path, kinds: Iterable[tuple[str, str]]) -> str:
    """Write the schemas of these (apiVersion, kind) into a folder, and return kubeconform's ``-schema-location``."""
    custom = _custom()
    for version in VERSIONS:
        source, target = BUNDLED / f"v{version}-local-strict", folder / f"v{version}"
        target.mkdir()
        definitions = json.loads((source / "_definitions.json").read_text())["$defs"]
        for api_version, kind in kinds:
            group, _, number = api_version.rpartition("/")
            name = "-".join(filter(None, (kind.lower(), group.split(".")[0], number))) + ".json"
            schema = custom.get((api_version, kind)) or _standalone(
                json.loads((source / name).read_text()), definitions
            )
            (target / name).write_text(json.dumps(schema))
    return f"{folder}/{LAYOUT}"


def _standalone(schema: Schema, definitions: Schema) -> Schema:
    """The schema in one document, with all definitions that it refers to."""
    text = json.dumps({key: value for key, value in schema.items() if key != "$id"})
    needed: Schema = {}
    todo = _referred(text)
    while todo:
        name = todo.pop()
        needed[name] = definitions[name]
        todo |= _referred(json.dumps(definitions[name])) - needed.keys()
    return {**json.loads(text.replace("/api/_definitions.json#", "#")), "$defs": needed}


def _referred(text: str) -> set[str]:
    return set(re.findall(r'#/\$defs/([^"]+)"', text))


def _custom() -> dict[tuple[str, str], Schema]:
    """The schemas of custom resources, by apiVersion and kind."""
    found = {}
    for module, path in CUSTOM:
        argv = ["go", "mod", "download", "-json", module]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        definition = yaml.safe_load((Path(json.loads(done.stdout)["Dir"]) / path).read_text())["spec"]
        for version in definition["versions"]:
            key = f"{definition['group']}/{version['name']}", definition["names"]["kind"]
            found[key] = _closed(version["schema"]["openAPIV3Schema"])
    return found


def _closed(part: Any) -> Any:
    """The schema, with unknown keys forbidden in every object whose keys are known: the API server drops them."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(value) for key, value in part.items()}
    return {"additionalProperties": False, **closed} if isinstance(part.get("properties"), dict) else closed
