"""Simplify a torch network for serving, and write it as an ONNX file."""

import contextlib
import copy
import io
import warnings
from pathlib import Path

import onnx
import torch

from model.build.errors import NotExportable
from model.runtimes.timm import simplify

INPUT, OUTPUT = "image", "logits"
MOST_BYTES = 2**31 - 2**24  # an ONNX file that holds its own weights has at most 2 GiB
# The exporter notes where in the source code each node comes from, with the paths of this machine.
_NOTES = ("doc_string", "metadata_props")


def simplified(network: torch.nn.Module, shape: tuple[int, int, int]) -> torch.nn.Module:
    """Return a copy of the network as the timm runtime runs it; ``shape`` is its input: channels, height, width.

    ``network`` is in evaluation mode.
    """
    copied = copy.deepcopy(network)
    simplify(copied, shape)
    return copied


def export(network: torch.nn.Module, shape: tuple[int, int, int], file: Path) -> None:
    """Write the network as ONNX: one picture ``(1, *shape)`` in, logits ``(1, classes)`` out.

    The file holds the same bytes on every machine with the same libraries. Raises ``NotExportable``, and ``OSError``
    when the file cannot be written.
    """
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size > MOST_BYTES:
        raise NotExportable(f"The network has {size} bytes of weights; an ONNX file holds at most {MOST_BYTES}.")
    network.to(memory_format=torch.contiguous_format)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch's remarks about its own deprecations
        try:
            exported = torch.onnx.export(
                network,
                (torch.zeros(1, *shape),),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
            graph = exported.model_proto
            _remove_notes(graph)
            data = graph.SerializeToString(deterministic=True)
        except torch.onnx.errors.OnnxExporterError as error:
            raise NotExportable(f"torch cannot export the network to ONNX: {_reason(error)}") from error
    file.write_bytes(data)


def _remove_notes(message: onnx.ModelProto) -> None:
    """Remove them from a graph, from its nodes, and from the graphs inside these."""
    for field, value in message.ListFields():
        if field.name in _NOTES:
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                _remove_notes(part)


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost error: the exporter wraps it in advice for programmers."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
