"""Quantise an ONNX file to int8, statically: the ranges of all values are measured on pictures."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from model.build.errors import NotQuantizable
from model.build.pictures import Picture
from model.build.progress import Progress

# The first layers stay in float, because they lose most in 8 bits. Measured on 660 crops with lite0 and lite2: without
# this 0.84 and 0.81 of the best classes are timm's own, with it 0.93 and 0.94, for 0.1 ms or less.
FLOAT_CONVOLUTIONS = 6

# CPUs without VNNI add pairs of products in 16 bits. 8-bit weights overflow these: on an emulated Haswell lite0 falls
# from 97 % of timm's sure best classes to 90 %. 7-bit weights cannot overflow, but with VNNI 8 bits are nearer to timm.
# The build takes the first number of bits that passes on its own CPU.
WEIGHT_BITS = (8, 7)

Pixels = Callable[[bytes], NDArray[np.float32]]

# What the quantiser and ONNX Runtime raise for a graph that they cannot handle; no room on the disk is an OSError.
_FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    onnxruntime_errors.Fail,
    onnxruntime_errors.InvalidArgument,
    onnxruntime_errors.InvalidGraph,
    onnxruntime_errors.NotImplemented,
    onnxruntime_errors.RuntimeException,
)


def quantize(
    fp32: Path,
    int8: Path,
    pictures: Sequence[Picture],
    pixels: Pixels,
    weight_bits: int,
    progress: Progress,
    ranges: Path,
) -> None:
    """Quantise the file ``fp32`` into ``int8``: weights per channel, activations by their ranges.

    ``ranges`` is a file of JSON that has them. If it is not there, they are measured on ``pictures``, and kept in it.
    ``pixels`` turns a picture's bytes into an array ``(channels, height, width)``; one picture at a time is in memory.
    ``weight_bits`` is one of ``WEIGHT_BITS``. Activations are unsigned and weights signed, the pair that CPUs with VNNI
    instructions multiply fastest (unsigned weights take 28 ms instead of 2).

    Raises ``NotQuantizable``, and ``OSError`` when the file cannot be written.
    """
    graph = onnx.load(fp32)
    reader = _Reader(graph.graph.input[0].name, pictures, pixels, progress)
    try:
        with _quiet():
            quantize_static(
                graph,
                int8,
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=weight_bits == 7,
                nodes_to_exclude=_first_nodes(graph, FLOAT_CONVOLUTIONS),
                calibration_cache_path=ranges,
            )
    except _FAILURES as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NotQuantizable(f"ONNX Runtime cannot quantise the network: {reason}") from error


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives the calibrator one picture after another, then None."""

    def __init__(self, name: str, pictures: Sequence[Picture], pixels: Pixels, progress: Progress) -> None:
        self._feeds = _feeds(name, pictures, pixels, progress)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


def _feeds(
    name: str, pictures: Sequence[Picture], pixels: Pixels, progress: Progress
) -> Iterator[dict[str, NDArray[np.float32]]]:
    for picture in pictures:
        yield {name: pixels(picture.read())[np.newaxis]}
        progress.advance()


def _first_nodes(graph: onnx.ModelProto, convolutions: int) -> list[str]:
    """Return the names of the graph's nodes before convolution number ``convolutions + 1``."""
    names = []
    seen = 0
    for node in graph.graph.node:
        seen += node.op_type == "Conv"
        if seen > convolutions:
            break
        names.append(node.name)
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser, which advises through the root logger to pre-process a graph that is already optimised."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
