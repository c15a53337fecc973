"""Writes labels and scores as tensors of the Open Inference Protocol, in JSON or behind it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from server.intake.outputs import LABELS, SCORES, Output

Labels = Sequence[Sequence[Mapping[str, Any]]]  # of each picture, best first

UNKNOWN_CLASS = -1
FP32_MOST = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


def written(labels: Labels, outputs: Sequence[Output], classes: Sequence[str]) -> tuple[list[dict[str, Any]], bytes]:
    """The tensors as JSON, and the bytes that follow it. ``classes`` are the model's, as far as they are known."""
    told, tail = [], bytearray()
    width = min(map(len, labels), default=0)
    numbers = {label: number for number, label in enumerate(classes)} if any(one.classes for one in outputs) else {}
    for output in outputs:
        most = width if output.classes is None else min(width, output.classes)
        elements = [_element(one, output, numbers) for of_one in labels for one in of_one[:most]]
        datatype = "FP32" if output.name == SCORES and output.classes is None else "BYTES"
        tensor = {"name": output.name, "datatype": datatype, "shape": [len(labels), most]}
        if output.binary:
            data = PACKED[datatype](elements)
            tail += data
            told.append({**tensor, "parameters": {"binary_data_size": len(data)}})
        else:
            told.append({**tensor, "data": elements})
    return told, bytes(tail)


def _element(label: Mapping[str, Any], output: Output, numbers: Mapping[str, int]) -> str | float:
    name, score = str(label["label"]), float(label["score"])
    if output.name == LABELS:
        return name
    return score if output.classes is None else f"{score:f}:{numbers.get(name, UNKNOWN_CLASS)}:{name}"


def _texts(elements: Sequence[Any]) -> bytes:
    """Each with its length before it, the least byte first."""
    encoded = [str(one).encode() for one in elements]
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)


def _numbers(elements: Sequence[Any]) -> bytes:
    """Four bytes each, the least first. A score without a function may be larger than such a number can be."""
    return struct.pack(f"<{len(elements)}f", *(max(-FP32_MOST, min(FP32_MOST, one)) for one in elements))


PACKED = {"BYTES": _texts, "FP32": _numbers}
