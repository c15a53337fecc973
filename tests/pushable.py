"""Models of a test's own: copies of a built one with other labels, or other weights, and the digest that these give."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from model.description import Model, Variant, digest_of, read_model, write_model

INT8 = ("onnx", "int8")


def pushable(
    source: Path,
    folder: Path,
    name: str = "flowers",
    *,
    label: str = "class",
    variants: Sequence[tuple[str, str]] = (INT8,),
    change: Callable[[bytes], bytes] | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Write ``folder/NAME@VERSION`` and return it: the model at ``source`` with labels ``LABEL 0``, ``LABEL 1``, ...

    It has only these variants (runtime and name), whose files are links unless ``change`` makes other bytes of them.
    """
    old = read_model(source)
    made = folder / "new"
    made.mkdir(parents=True)
    kept = [_written(old, old.variant(*pair), made, change) for pair in variants]
    named = tuple(labels or (f"{label} {number}" for number in range(len(old.labels))))
    fields: dict[str, Any] = {"name": name, "labels": named, "variants": tuple(kept), "path": made}
    digest = digest_of(old.architecture, old.arguments, named, old.preprocessing, kept)
    model = dataclasses.replace(old, **fields, digest=digest, version=digest[:8])
    write_model(model)
    return made.rename(folder / model.reference)


def _written(model: Model, variant: Variant, made: Path, change: Callable[[bytes], bytes] | None) -> Variant:
    source = (model.path / variant.file).resolve()
    if change is None:
        (made / variant.file).symlink_to(source)
        return variant
    data = change(source.read_bytes())
    (made / variant.file).write_bytes(data)
    return dataclasses.replace(variant, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def giving_nan(graph: bytes) -> bytes:
    """The ONNX graph, whose answer is NaN for every class."""
    import numpy as np
    import onnx

    model = onnx.load_from_string(graph)
    (output,) = model.graph.output
    (last,) = (node for node in model.graph.node if output.name in node.output)
    last.output[:] = ["sound"]
    nan = onnx.numpy_helper.from_array(np.array(np.nan, np.float32), "nan")
    model.graph.initializer.append(nan)
    model.graph.node.append(onnx.helper.make_node("Add", ["sound", "nan"], [output.name]))
    changed: bytes = model.SerializeToString()
    return changed
