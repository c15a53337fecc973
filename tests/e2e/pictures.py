"""Pictures for workers: some that are classified at once, and some that take a second."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image

from tests.running import ROOT

PICTURES = ROOT / "model" / "pictures"
CAT = (PICTURES / "cat.jpg").read_bytes()
BOUNDARY = "picture"
SLOW_TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@cache
def slow(images: int = 8) -> bytes:
    """A request with pictures that are small but take long to decode: PNGs of 16 million pixels in one colour."""
    file = io.BytesIO()
    Image.new("RGB", (4000, 4000), "teal").save(file, "PNG")
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n'.encode()
    return b"".join([part + file.getvalue() + b"\r\n"] * images) + f"--{BOUNDARY}--\r\n".encode()
