"""Stores the pictures of each prediction as one blob, in a directory or in an object store."""

from server.blobs.base import BlobError, BlobMissing, Blobs, BlobsUnusable, Piece, pack_header
from server.blobs.directory import DirectoryBlobs
from server.blobs.fresh import FreshBlobs
from server.blobs.opening import open_blobs

__all__ = [
    "BlobError",
    "BlobMissing",
    "Blobs",
    "BlobsUnusable",
    "DirectoryBlobs",
    "FreshBlobs",
    "Piece",
    "open_blobs",
    "pack_header",
]
