"""The servers that are compared with tierserve: how each is started, and how it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
APPS = "benchmarks.compare.apps"
UVICORN = ("-m", "uvicorn", f"{APPS}.fastapi_app:app", "--host", "127.0.0.1", "--port", "{port}", "--no-access-log")


class Unavailable(Exception):
    """A server cannot be installed, started or measured. The text completes a sentence about it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of another project, with two lanes.

    ``words`` are its command after the interpreter. ``lanes`` is the number of lanes a process. ``form`` says that it
    takes the picture in a form, not as the body. ``apart`` says that its lanes are processes without HTTP.
    """

    name: str
    requirements: Path
    words: tuple[str, ...]
    path: str = "/classify"
    lanes: int = 1
    form: bool = False
    apart: bool = False


PEERS = {
    peer.name: peer
    for peer in (
        Peer("fastapi", REQUIREMENTS / "fastapi.txt", (*UVICORN, "--log-level", "warning", "--workers", "2")),
        Peer("fastapi-threads", REQUIREMENTS / "fastapi.txt", (*UVICORN, "--log-level", "warning"), lanes=2),
        Peer(
            "litserve",
            REQUIREMENTS / "litserve.txt",
            ("-m", f"{APPS}.litserve_app", "{port}"),
            form=True,
            apart=True,
        ),
        Peer(
            "bentoml",
            REQUIREMENTS / "bentoml.txt",
            ("-m", "bentoml", "serve", f"{APPS}.bentoml_app:Classifier", "--host", "127.0.0.1", "--port", "{port}"),
        ),
        Peer(
            "kserve",
            REQUIREMENTS / "kserve.txt",
            ("-m", f"{APPS}.kserve_app", "{port}"),
            path="/v1/models/classifier:predict",
        ),
    )
}
