"""The answer to a lease: a head that describes the predictions, then their blobs."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

from server.blobs import BlobMissing
from server.queue import Completion, Leased


def frame(
    leased: Sequence[Leased], blobs: Sequence[bytes | BlobMissing], renew: float
) -> tuple[bytes | None, list[Completion]]:
    """Return the bytes, or None if all pictures are gone; and the failures of the predictions whose pictures are."""
    kept: list[tuple[Leased, bytes]] = []
    missing: list[Completion] = []
    for one, blob in zip(leased, blobs, strict=True):
        if isinstance(blob, BlobMissing):
            missing.append(missing_blob(one, blob))
        else:
            kept.append((one, blob))
    if not kept:
        return None, missing
    described = head([(one, len(blob)) for one, blob in kept], renew)
    return b"".join([described, *(blob for _, blob in kept)]), missing


def head(leased: Sequence[tuple[Leased, int]], renew: float) -> bytes:
    """Return what comes before the blobs of these predictions, each given with the bytes of its blob."""
    entries = [
        {"id": one.id, "token": one.token, "top_k": one.top_k, "renew": renew, "size": size} for one, size in leased
    ]
    text = json.dumps({"predictions": entries}).encode()
    return struct.pack(">I", len(text)) + text


def missing_blob(one: Leased, error: BlobMissing) -> Completion:
    """Return the end of a prediction whose pictures are gone."""
    return Completion(one.id, one.token, None, {"code": "blob_missing", "detail": str(error)}, None)
