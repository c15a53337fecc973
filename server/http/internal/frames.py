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
            failure = {"code": "blob_missing", "detail": str(blob)}
            missing.append(Completion(one.id, one.token, None, failure, None))
        else:
            kept.append((one, blob))
    if not kept:
        return None, missing
    entries = [
        {"id": one.id, "token": one.token, "top_k": one.top_k, "renew": renew, "size": len(blob)} for one, blob in kept
    ]
    head = json.dumps({"predictions": entries}).encode()
    return b"".join([struct.pack(">I", len(head)), head, *(blob for _, blob in kept)]), missing
