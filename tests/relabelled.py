"""Models that tests tell apart: the same network as a built one, with a word before every label."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from model.description import Model, Variant, digest_of, read_model, write_model


def relabelled(source: Path, folder: Path, name: str, word: str, *, runtime: str = "onnx") -> Model:
    """Make ``folder / NAME@VERSION`` of the model in ``source``, with its variants of one runtime alone.

    Only its labels differ, so all models that are made of one source have the same files.
    """
    old = read_model(source)
    variants = tuple(variant for variant in old.variants if variant.runtime == runtime)
    labels = tuple(f"{word} {label}" for label in old.labels)
    return _written(old, folder, name, labels, variants)


def _written(old: Model, folder: Path, name: str, labels: tuple[str, ...], variants: tuple[Variant, ...]) -> Model:
    digest = digest_of(old.architecture, old.arguments, labels, old.preprocessing, variants)
    path = folder / f"{name}@{digest[:8]}"
    path.mkdir(parents=True)
    for variant in variants:
        shutil.copyfile(old.path / variant.file, path / variant.file)
    new = replace(
        old, path=path, name=name, version=digest[:8], digest=digest, labels=labels, variants=variants, warnings=()
    )
    write_model(new)
    return new
