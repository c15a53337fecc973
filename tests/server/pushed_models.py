"""Models of few bytes, which an operator pushes: their files hold anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model.description import Variant, digest_of
from model.geometry import Preprocessing
from tests.running import Answer, Client

MEASURED = {
    "agreement": 1.0,
    "sure_agreement": None,
    "largest_difference": 2e-05,
    "top1": None,
    "top5": None,
    "ms": 7.5,
    "images_per_second": 130.0,
    "memory_mb": 90.0,
}
PREPROCESSING = {
    "width": 224,
    "height": 224,
    "channels": 3,
    "crop_pct": 0.875,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "faithful": False,
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def variant(data: bytes, runtime: str = "onnx", name: str = "int8", **changes: Any) -> dict[str, Any]:
    """A variant whose file has these bytes, as a record tells it."""
    described = {"runtime": runtime, "name": name, "file": f"{name}.{runtime}", "bytes": len(data)}
    return {**described, "sha256": sha256(data), "measured": MEASURED, **changes}


def record(name: str, *files: bytes, labels: Sequence[str] = ("cat", "dog"), **changes: Any) -> dict[str, Any]:
    """The record of a model with one or two variants; its digest and version fit whatever was changed."""
    pairs = zip(files, (("onnx", "int8"), ("onnx", "fp32"), ("timm", "fp32")), strict=False)
    made: dict[str, Any] = {
        "name": name,
        "architecture": "tiny",
        "arguments": {"num_classes": len(labels)},
        "labels": list(labels),
        "preprocessing": PREPROCESSING,
        "variants": [variant(data, *pair) for data, pair in pairs],
        "judged": {"data": "own pictures"},
        "warnings": [],
        "build": {"builder": 2},
        **changes,
    }
    digest = digest_as_built(made)
    return {"version": digest[:8], "digest": digest, **made}


def digest_as_built(made: dict[str, Any]) -> str:
    """The digest that a build gives this record."""
    named = made["preprocessing"]
    preprocessing = Preprocessing(**{**named, "mean": tuple(named["mean"]), "std": tuple(named["std"])})
    variants = [Variant(**one) for one in made["variants"]]
    return digest_of(made["architecture"], made["arguments"], made["labels"], preprocessing, variants)


@dataclass(frozen=True, slots=True)
class Pusher:
    """An operator at the internal port."""

    client: Client
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Make a request; ``body`` is bytes, or becomes JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.ask(method, f"/v1/{path}", data, self.headers)

    def send(self, *files: bytes) -> None:
        """Bring the files of a model."""
        for data in files:
            answer = self.ask("PUT", f"model-files/{sha256(data)}", data)
            assert answer.status in (200, 201), answer.body

    def push(self, name: str, *files: bytes, tags: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
        """Push a model with these files; returns what the server tells of it."""
        self.send(*files)
        answer = self.ask("POST", "models", {"record": record(name, *files, **changes), "tags": list(tags)})
        assert answer.status in (200, 201), answer.body
        told: dict[str, Any] = answer.json
        return told
