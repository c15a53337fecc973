"""Stores the pictures of each prediction as one blob, and the files of models, in a directory or an object store."""

from server.blobs.base import BlobError, BlobMissing, Blobs, BlobsFull, BlobsUnusable, Piece, pack, pack_header
from server.blobs.directory import DirectoryBlobs
from server.blobs.files import Files, Found, WrongFile, is_sha256
from server.blobs.files_directory import DirectoryFiles
from server.blobs.fresh import FreshBlobs
from server.blobs.opening import folder_of, open_blobs, open_files

__all__ = [
    "BlobError",
    "BlobMissing",
    "Blobs",
    "BlobsFull",
    "BlobsUnusable",
    "DirectoryBlobs",
    "DirectoryFiles",
    "Files",
    "Found",
    "FreshBlobs",
    "Piece",
    "WrongFile",
    "folder_of",
    "is_sha256",
    "open_blobs",
    "open_files",
    "pack",
    "pack_header",
]
