"""One lane of a server: the decoder and the network of a tierserve worker, on one thread."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from model.images import load
from model.runtimes.base import read_model, top
from model.runtimes.onnx import OnnxRuntime

MAX_PIXELS = 40_000_000
LABELS = 5  # so many labels a tierserve answer has, too


class Engine:
    """Classifies pictures by the model and the variant that the environment names."""

    def __init__(self) -> None:
        self._model = read_model(Path(os.environ["COMPARE_MODEL"]))
        self._runtime = OnnxRuntime()
        self._runtime.setup(self._model, os.environ["COMPARE_VARIANT"])

    def __call__(self, data: bytes) -> list[dict[str, Any]]:
        """The best labels of one picture, with their scores. Raises ``ImageError`` if it is none."""
        (found,) = self._runtime.predict([load(data, self._model.preprocessing, MAX_PIXELS)])
        return [{"label": label, "score": round(score, 6)} for label, score in top(found, self._model.labels, LABELS)]


if __name__ == "__main__":
    print(Engine()(Path(sys.argv[1]).read_bytes())[0]["label"])
