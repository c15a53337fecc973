"""BentoML: two workers, each a process that speaks HTTP and classifies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType

from benchmarks.compare.engine import Engine


@bentoml.service(workers=2, traffic={"timeout": 60}, resources={"cpu": "2"}, logging={"access": {"enabled": False}})
class Classifier:
    """Takes a picture as the body, which BentoML hands over as a file."""

    def __init__(self) -> None:
        self.engine = Engine()

    @bentoml.api(route="/classify")
    def classify(self, picture: Annotated[Path, ContentType("image/jpeg")], /) -> list[dict[str, Any]]:
        """The labels of one picture."""
        return self.engine(picture.read_bytes())
