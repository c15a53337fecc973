"""A model directory around a small network, as a build makes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from model.build.export import export, simplified
from model.description import Measured, Model, Variant, write_model
from model.images import Preprocessing

GREY = Preprocessing(
    width=96,
    height=64,
    channels=1,
    crop_pct=0.875,
    crop_mode="center",
    interpolation="bilinear",
    mean=(0.5,),
    std=(0.25,),
)
MEASURED = Measured(
    agreement=0.975,
    sure_agreement=0.99,
    largest_difference=0.0001,
    top1=0.875,
    top5=1.0,
    ms=8.04,
    images_per_second=121.4,
    memory_mb=110.2,
)


def variant(folder: Path, runtime: str, name: str, file: str, measured: Measured = MEASURED) -> Variant:
    """A variant whose file lies in the folder."""
    data = (folder / file).read_bytes()
    return Variant(
        runtime=runtime,
        name=name,
        file=file,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        measured=measured,
    )


def described(
    folder: Path,
    variants: Sequence[Variant],
    *,
    labels: Sequence[str] = ("rose", "tulip", "daisy"),
    how: Preprocessing = GREY,
    judged: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> Model:
    """The description of a model with three classes unless there are other labels."""
    return Model(
        path=folder,
        name="flowers",
        version="3f9a2c81",
        digest="3f9a2c81" * 8,
        architecture="test_resnet",
        arguments={"num_classes": len(labels), "in_chans": how.channels},
        labels=tuple(labels),
        preprocessing=how,
        variants=tuple(variants),
        judged=judged or {},
        warnings=tuple(warnings),
        build={"weights": "best.pth.tar", "licence": "unknown: given as a file", "versions": {"timm": "1.0"}},
    )


def made(folder: Path, network: torch.nn.Module) -> Model:
    """Write a model directory of timm's ``test_resnet`` for grey pictures with three classes."""
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    export(simplified(network, GREY.shape), GREY.shape, folder / "model.onnx")
    files = (("onnx", "fp32", "model.onnx"), ("timm", "fp32", "model.safetensors"))
    model = described(folder, [variant(folder, *file) for file in files])
    write_model(model)
    return model
