"""Export a torch network to two ONNX files: fp32, and int8 by static quantisation."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

INPUT, OUTPUT = "image", "logits"

# The first layers stay in float, because they lose most in 8 bits. Measured on 660 crops with lite0 and lite2: without
# this 0.84 and 0.81 of the best classes are timm's own, with it 0.93 and 0.94, for 0.1 ms or less.
FLOAT_CONVOLUTIONS = 6

# CPUs without VNNI add pairs of products in 16 bits. 8-bit weights overflow these: on an emulated Haswell lite0 falls
# from 97 % of timm's sure best classes to 90 %. 7-bit weights cannot overflow, but with VNNI 8 bits are nearer to timm.
# The build takes the first number of bits that passes on its own CPU.
WEIGHT_BITS = (8, 7)


def export(network: torch.nn.Module, shape: tuple[int, int, int], file: Path) -> None:
    """Write the network as ONNX: one picture ``(1, *shape)`` in, logits ``(1, classes)`` out."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch's remarks about its own deprecations
        torch.onnx.export(
            network,
            (torch.zeros(1, *shape),),
            file,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )


def quantize(fp32: Path, int8: Path, pictures: NDArray[np.float32], weight_bits: int) -> None:
    """Quantise the file ``fp32`` into ``int8``: weights per channel, activations by their ranges on ``pictures``.

    ``pictures`` has the shape ``(n, channels, height, width)``; ``weight_bits`` is one of ``WEIGHT_BITS``. Activations are
    unsigned and weights signed, the pair that CPUs with VNNI instructions multiply fastest (unsigned weights take 28 ms
    instead of 2).
    """
    with _quiet():
        quantize_static(
            fp32,
            int8,
            _Reader(pictures),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=weight_bits == 7,
            nodes_to_exclude=_first_nodes(fp32, FLOAT_CONVOLUTIONS),
        )


def onnx_logits(file: Path, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run an ONNX file over ``pictures`` ``(n, channels, height, width)``; returns logits ``(n, classes)``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return _spread(lambda picture: session.run(None, {INPUT: picture[np.newaxis]})[0], pictures)


def torch_logits(network: torch.nn.Module, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run timm's own network over ``pictures`` ``(n, channels, height, width)``; returns logits ``(n, classes)``."""
    # Channels last, four pictures at a time, is three times as fast as timm's default order; logits differ by 1e-5.
    network.to(memory_format=torch.channels_last)

    def run(batch: torch.Tensor) -> NDArray[np.float32]:
        with torch.no_grad():
            logits: NDArray[np.float32] = network(batch.to(memory_format=torch.channels_last)).numpy()
        return logits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _spread(run, torch.from_numpy(pictures).split(4))
    finally:
        torch.set_num_threads(threads)


def _spread(run: Callable[[Any], NDArray[np.float32]], inputs: Iterable[Any]) -> NDArray[np.float32]:
    """Run the inputs in parallel, each on one thread, and join the results."""
    # torch's own threads wait for each other at every layer: on a busy machine that is up to 15 times as slow.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        return np.concatenate(list(pool.map(run, inputs)))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives the calibrator one picture after another, then None."""

    def __init__(self, pictures: NDArray[np.float32]) -> None:
        self._feeds: Iterator[dict[str, NDArray[np.float32]]] = ({INPUT: picture[np.newaxis]} for picture in pictures)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


def _first_nodes(file: Path, convolutions: int) -> list[str]:
    """Return the names of the graph's nodes before convolution number ``convolutions + 1``."""
    names = []
    seen = 0
    for node in onnx.load(file).graph.node:
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
