"""Models that tests tell apart: the same network as a built one, with a word before every label."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from model.description import Model, digest_of, read_model, write_model

Change = Callable[[bytes], bytes]


def relabelled(source: Path, folder: Path, name: str, word: str, change: Change = bytes) -> Model:
    """Make ``folder / NAME@VERSION`` of the model in ``source``, with its ONNX files alone, each of them changed.

    Without a change only the labels differ, so all models that are made of one source have the same files.
    """
    old = read_model(source)
    files = {one: change((old.path / one.file).read_bytes()) for one in old.variants if one.runtime == "onnx"}
    variants = tuple(
        replace(one, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for one, data in files.items()
    )
    labels = tuple(f"{word} {label}" for label in old.labels)
    digest = digest_of(old.architecture, old.arguments, labels, old.preprocessing, variants)
    path = folder / f"{name}@{digest[:8]}"
    path.mkdir(parents=True)
    for one, data in files.items():
        (path / one.file).write_bytes(data)
    new = replace(
        old, path=path, name=name, version=digest[:8], digest=digest, labels=labels, variants=variants, warnings=()
    )
    write_model(new)
    return new


def unlike(data: bytes) -> bytes:
    """A graph in another file: with a field at its end that no reader of ONNX knows, and so leaves out."""
    return data + b"\xc2\x3e\x10" + secrets.token_bytes(16)  # field 1000 of a protobuf message: 16 bytes


def broken(data: bytes) -> bytes:
    """A file of the same size that is no graph."""
    return b"\xff" * len(data)
