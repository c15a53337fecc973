"""``python -m benchmarks.moving_picture``: run the scene, and write docs/pictures/queue.svg. It takes a minute."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.moving_picture.drawing import draw
from benchmarks.moving_picture.frames import frames
from benchmarks.moving_picture.run import Scene, record
from tests.running import ROOT, models_directory

PICTURE = ROOT / "docs" / "pictures" / "queue.svg"
TITLE = "The queues of two tiers"


def main() -> None:
    """Run the scene and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moving_picture", description=__doc__)
    parser.add_argument("--models", type=Path, default=models_directory(), help="the folder of the default models")
    parser.add_argument("--output", type=Path, default=PICTURE, help="[default: docs/pictures/queue.svg]")
    given = parser.parse_args()
    seconds, text = picture(Scene(), given.models.resolve())
    given.output.write_text(text, "utf-8")
    print(f"{given.output}: {seconds:.0f} s, {len(text)} bytes")


def picture(scene: Scene, models: Path) -> tuple[float, str]:
    """Run the scene: how many seconds it took, and the text of the SVG."""
    with tempfile.TemporaryDirectory(prefix="tierserve-picture-") as folder:
        seen = frames(record(scene, models, Path(folder)))
    acts = dict.fromkeys(frame.act for frame in seen if frame.act)
    return seen[-1].at, draw(seen, TITLE, " ".join(f"{act}." for act in acts))


if __name__ == "__main__":
    main()
