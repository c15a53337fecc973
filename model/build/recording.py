"""Record the networks of the default models from timm: ``python -m model.build.recording`` needs torch and timm.

It writes the files that ``model.build.recorded`` reads. A build with those files is right if its logits are timm's.
"""

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch

from model.build import checkpoints, judge, labels, quantize, samples
from model.build.builder import DEFAULT_MODELS
from model.build.loaded import Loaded
from model.build.packages import PACKAGES, weights_of
from model.build.pictures import MOST_PIXELS, Picture
from model.build.recorded import DEFAULTS, GRAPH, LOGITS, NETWORK, RANGES, Fold, digest_of_pictures, fill
from model.build.request import Request
from model.description import Measured, file_digest
from model.images import Preprocessing, load
from model.runtimes.timm import foldable

_PACKAGES = ("timm", "torch", "onnx", "pillow")


class _Silent:
    """Says nothing of the steps of a recording, which takes seconds."""

    def step(self, sentence: str, total: int | None = None) -> None:
        """Begin a step."""

    def advance(self, count: int = 1) -> None:
        """Go on."""

    def warn(self, sentence: str) -> None:
        """Raise: a recording has nothing to warn of."""
        raise RuntimeError(sentence)


def record(name: str, folder: Path, pictures: Sequence[Picture], calibration: Sequence[Picture]) -> None:
    """Write the files of the default model ``name`` into ``folder``.

    Timm's logits are those for ``pictures``, and the ranges of all values those on ``calibration``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loaded = Loaded(Request(name), _Silent())
    facts, how = loaded.facts, loaded.preprocessing
    named_by = {module: name for name, module in loaded.network.named_modules()}
    folds = [Fold(named_by[before], named_by[norm], norm.eps) for before, norm in foldable(loaded.network, how.shape)]
    logits = loaded.logits(pictures)
    served = loaded.timm(pictures, lambda data: load(data, how, MOST_PIXELS))
    exact = judge.judge(logits, loaded.timm(pictures, loaded.pixels))
    like = judge.judge(logits, served)
    file, called = weights_of(name)
    state = loaded.network.state_dict()
    named = labels.choose(
        facts.arguments["num_classes"],
        given=None,
        names=facts.label_names,
        descriptions=facts.label_descriptions,
        folder=None,
    )
    network = {
        "architecture": facts.architecture,
        "arguments": facts.arguments,
        "preprocessing": how.fields(),
        "labels": named.labels,
        "weights": {
            "version": importlib.metadata.version(PACKAGES[name]),
            "sha256": file_digest(file),
            "tensors": _places(file, called, state),
        },
        "folds": [astuple(each) for each in folds],
        "timm": asdict(
            Measured(like.agreement, like.sure_agreement, exact.largest_difference, None, None, None, None, None)
        ),
        "pictures": digest_of_pictures(pictures),
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
    }
    loaded.export(folder / GRAPH)
    _empty(folder / GRAPH, set(state) | {f"{each.convolution}.bias" for each in folds})
    with TemporaryDirectory() as scratch:  # as a build makes it, whose values differ from torch's in the last digits
        built = Path(scratch, "model.onnx")
        fill(folder / GRAPH, {key: tensor.numpy() for key, tensor in state.items()}, folds, built)
        _measure_ranges(built, calibration, how, folder / RANGES)
    np.savez_compressed(folder / LOGITS, logits=logits)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in network.items())
    (folder / NETWORK).write_text("{\n" + lines + "\n}\n", "utf-8")


def _measure_ranges(fp32: Path, pictures: Sequence[Picture], how: Preprocessing, file: Path) -> None:
    int8, measured, bits = fp32.with_name("int8"), fp32.with_name("measured"), quantize.WEIGHT_BITS[0]
    quantize.quantize(fp32, int8, pictures, lambda data: load(data, how, MOST_PIXELS), bits, _Silent(), measured)
    told = json.loads(measured.read_bytes())
    told["data"] = dict(sorted(told["data"].items()))  # ONNX Runtime writes them in another order each time
    file.write_text(json.dumps(told).replace('"TensorData"}, ', '"TensorData"},\n') + "\n", "utf-8")


def _places(file: Path, called: str, state: Mapping[str, torch.Tensor]) -> dict[str, tuple[object, ...]]:
    """Return where the tensors of the network lie in the file, whose tensors have other names and the same order.

    Of each it tells the offset in bytes, the type, the shape as it is stored, and the order of the axes that gives the
    network's shape: some are stored as TensorFlow has them.
    """
    data, stored = file.read_bytes(), checkpoints.read(file, where=called).state.values()
    places: dict[str, tuple[object, ...]] = {}
    for (name, tensor), in_file in zip(state.items(), stored, strict=True):
        order = sorted(range(in_file.dim()), key=lambda axis: -in_file.stride(axis))
        array = in_file.permute(order).numpy()
        offset = data.find(array.tobytes())
        if offset < 0 or not torch.equal(tensor, in_file):
            raise RuntimeError(f"{called} does not have {name} as it is in the network.")
        places[name] = (offset, array.dtype.str, array.shape, np.argsort(order).tolist())
    return places


def _empty(graph: Path, weights: set[str]) -> None:
    """Remove the numbers of the weights from an ONNX file; their names and shapes stay."""
    model = onnx.load(graph)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.ClearField("raw_data")
    graph.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    """Record the default models that are named, or all, into a folder."""
    parser = argparse.ArgumentParser(prog="python -m model.build.recording", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a default model (default: all)")
    parser.add_argument("--output", type=Path, default=DEFAULTS, metavar="DIR", help="default: %(default)s")
    options = parser.parse_args()
    for name in options.names or DEFAULT_MODELS:
        record(name, options.output / name, samples.held_out(), samples.calibration())
        sys.stdout.write(f"recorded {name} in {options.output / name}\n")


if __name__ == "__main__":
    main()
