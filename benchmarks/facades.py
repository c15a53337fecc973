"""How much longer one client waits at a route in another service's shape than at our own route.

Run: python -m benchmarks.facades [--models FOLDER] [--pairs 500]

A pair is one request to each of the two, in random order, on two connections to a real server with one worker. Both
send the same picture in the same encoding. The figure of a route is the median of the differences of its pairs. Its
error is what chance adds to that median, from the middle half of the differences.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import math
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.picture import picture
from tests.running import Service, service

OWN = "/img-classification/free"
PAIRS, WARM_PAIRS = 500, 20
MOST_MS = 0.3
JSON = {"Content-Type": "application/json"}
TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A request with a picture, and how the best label is found in its answer."""

    path: str
    body: bytes
    best: Callable[[Any], str]
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "image/jpeg"})


def facades(data: bytes) -> dict[str, tuple[Sent, Sent]]:
    """For each route in another service's shape our own and it, with this picture."""
    own = Sent(OWN, data, _own_best)
    text = base64.b64encode(data).decode()
    own_json = Sent(OWN, json.dumps({"inputs": text}).encode(), _own_best, headers=JSON)
    instances = json.dumps({"instances": [{"b64": text}]}).encode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    tensors = json.dumps({"inputs": [tensor | {"data": [text]}]}).encode()
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(data) + 4}}]}).encode()
    binary = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    infer = "/v2/models/free/infer"
    return {
        "Hugging Face": (own, Sent("/hf/free", data, lambda answer: answer[0]["label"])),
        "TorchServe": (own, Sent("/predictions/free", data, lambda answer: next(iter(answer)), "PUT")),
        "TensorFlow Serving, KServe v1": (
            own_json,
            Sent(
                "/v1/models/free:predict", instances, lambda answer: answer["predictions"][0]["labels"][0], headers=JSON
            ),
        ),
        "Open Inference, JSON": (own_json, Sent(infer, tensors, _best_of_tensors, headers=JSON)),
        "Open Inference, binary": (
            own,
            Sent(infer, head + struct.pack("<I", len(data)) + data, _best_of_tensors, headers=binary),
        ),
    }


def _own_best(answer: Any) -> str:
    return str(answer["results"][0]["labels"][0]["label"])


def _best_of_tensors(answer: Any) -> str:
    (labels,) = [output["data"] for output in answer["outputs"] if output["name"] == "labels"]
    return str(labels[0])


class Asked:
    """A connection on which one request is made again and again."""

    def __init__(self, server: Service, sent: Sent) -> None:
        self._sent = sent
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)

    def once(self) -> tuple[float, str]:
        """The seconds until the answer, and its best label. Raises ``RuntimeError`` when it is none with 200."""
        sent = self._sent
        began = time.perf_counter()
        self._connection.request(sent.method, sent.path, sent.body, dict(sent.headers))
        answer = self._connection.getresponse()
        said = answer.read()
        took = time.perf_counter() - began
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{sent.method} {sent.path} was answered with {answer.status}: {said[:200]!r}")
        return took, sent.best(json.loads(said))


def differences(server: Service, own: Sent, facade: Sent, pairs: int) -> list[float]:
    """How many seconds longer each pair's request to the facade took. Raises ``RuntimeError`` when labels differ."""
    both = Asked(server, own), Asked(server, facade)
    found = []
    for _ in range(pairs + WARM_PAIRS):
        took, labels = [0.0, 0.0], ["", ""]
        for which in random.sample((0, 1), 2):
            took[which], labels[which] = both[which].once()
        if labels[0] != labels[1]:
            raise RuntimeError(f"{own.path} says {labels[0]}, {facade.path} says {labels[1]}")
        found.append(took[1] - took[0])
    return found[WARM_PAIRS:]


def report(what: str, seconds: list[float]) -> bool:
    """Print the figure of a route; returns whether it is within its target."""
    first, _, third = quantiles(seconds, n=4)
    middle, error = 1000 * median(seconds), 1000 * 1.25 * (third - first) / 1.35 / math.sqrt(len(seconds))
    met = middle <= MOST_MS
    verdict = "met" if met else "missed"
    print(f"{what}: {middle:+.3f} ms (error {error:.3f}), at most +{MOST_MS} ms: {verdict}")
    return met


def main() -> int:
    """Measure each of them. Returns 1 when one is too slow."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facades", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"), help="default: %(default)s")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of requests (default: %(default)s)")
    options = parser.parse_args()
    met = True
    settings = ["tiers.free.quota.pods=1"]
    with (
        tempfile.TemporaryDirectory(prefix="tierserve-bench-") as folder,
        service(options.models, Path(folder), settings) as server,
    ):
        for what, (own, facade) in facades(picture()).items():
            met = report(what, differences(server, own, facade, options.pairs)) and met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
