"""LitServe: one process for HTTP, and two inference workers in processes of their own."""

from __future__ import annotations

import sys
from typing import Any

import litserve


class Classifier(litserve.LitAPI):
    """Takes a picture from a form, as LitServe's documentation does for files."""

    def setup(self, device: str) -> None:
        """Called by LitServe in each worker."""
        from benchmarks.compare.engine import Engine  # here, so that the process for HTTP does not load the runtime

        self.engine = Engine()

    def decode_request(self, request):  # with an annotation, LitServe would take it for a parameter of the query
        """The picture's bytes."""
        return request["image"].file.read()

    def predict(self, x: bytes) -> list[dict[str, Any]]:
        """The labels of one picture."""
        return self.engine(x)

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        """The answer."""
        return {"labels": output}


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(api_path="/classify"), accelerator="cpu", workers_per_device=2, timeout=60)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
