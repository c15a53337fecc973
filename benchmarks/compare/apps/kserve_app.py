"""KServe's SDK: two workers, each a process that speaks HTTP and classifies."""

from __future__ import annotations

import logging
import sys
from typing import Any

from kserve import Model, ModelServer

from benchmarks.compare.engine import Engine


class Classifier(Model):
    """Takes a picture as the body. KServe copies this object into each worker, which then makes its own engine."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.engine: Engine | None = None
        self.ready = True

    def preprocess(self, payload: bytes, headers: dict[str, str] | None = None) -> bytes:
        """The picture's bytes, as they came."""
        return payload

    def predict(self, payload: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """The labels of one picture."""
        if self.engine is None:
            for name in ("uvicorn.access", "kserve.trace"):  # each writes lines for every request
                logging.getLogger(name).disabled = True
            self.engine = Engine()
        return {"predictions": [self.engine(payload)]}


if __name__ == "__main__":
    server = ModelServer(http_port=int(sys.argv[1]), workers=2, enable_grpc=False, enable_latency_logging=False)
    server.start([Classifier("classifier")])
