"""Stores the pictures of each prediction as one blob, in a directory or in an object store."""

from server.blobs.base import BlobError, BlobMissing, Blobs, BlobsFull, BlobsUnusable, Piece, pack, pack_header
from server.blobs.directory import DirectoryBlobs
from server.blobs.fresh import FreshBlobs
from server.blobs.opening import folder_of, open_blobs

__all__ = [
    "BlobError",
    "BlobMissing",
    "Blobs",
    "BlobsFull",
    "BlobsUnusable",
    "DirectoryBlobs",
    "FreshBlobs",
    "Piece",
    "folder_of",
    "open_blobs",
    "pack",
    "pack_header",
]
