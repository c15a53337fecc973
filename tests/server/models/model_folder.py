"""Folders with the records of models, as a build leaves them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LABELS = ["daisy", "Löwenzahn 🌼", "[red]rose[/]"]
MEASURED = {"agreement": 0.99, "sure_agreement": None, "top1": 0.75, "top5": None, "ms": 7.5, "memory_mb": 90.0}


def record(
    reference: str, variants: Sequence[str | Mapping[str, Any]] = ("onnx/fp32", "timm/fp32"), **changes: Any
) -> dict[str, Any]:
    """What is in a ``model.json``. Its digest begins with its version."""
    name, _, version = reference.partition("@")
    return {
        "name": name,
        "version": version,
        "digest": version + hashlib.sha256(reference.encode()).hexdigest()[len(version) :],
        "architecture": "tf_efficientnet_lite0",
        "preprocessing": {"width": 224, "height": 224, "mean": [0.5, 0.5, 0.5]},
        "labels": LABELS,
        "variants": [variant(*one.split("/", 1)) if isinstance(one, str) else one for one in variants],
        **changes,
    }


def variant(runtime: str, name: str, *, size: int = 1000) -> dict[str, Any]:
    """A variant of a record."""
    sha256 = hashlib.sha256(f"{runtime}/{name}".encode()).hexdigest()
    return {
        "runtime": runtime,
        "name": name,
        "file": f"{runtime}-{name}",
        "bytes": size,
        "sha256": sha256,
        "measured": MEASURED,
    }


def write(folder: Path, reference: str = "flowers@3f9a2c81", link: str = "", **changes: Any) -> Path:
    """A folder with a record, as a build leaves it, and a link to it."""
    made = folder / reference
    made.mkdir(parents=True, exist_ok=True)
    (made / "model.json").write_text(json.dumps(record(reference, **changes), ensure_ascii=False), "utf-8")
    if link:
        new = folder / f".{link}"
        new.symlink_to(reference)
        new.replace(folder / link)
    return made
