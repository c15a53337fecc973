"""The picture that all benchmarks use."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

SOURCE = Path(__file__).resolve().parents[1] / "model" / "pictures" / "cat.jpg"
SIZE = (1024, 768)
BYTES = 150_000


def picture() -> bytes:
    """The cat as a JPEG of 1024x768 and about 150 KB, which is what a client's photograph has."""
    with Image.open(SOURCE) as source:
        large = source.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
    best = b""
    for quality in range(60, 100):
        file = io.BytesIO()
        large.save(file, "JPEG", quality=quality)
        if abs(file.tell() - BYTES) < abs(len(best) - BYTES):
            best = file.getvalue()
    return best
