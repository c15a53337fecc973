"""What is no picture of a format that is taken is called by its name, with advice, by the server and by the worker.

How it could break: one of the two does not know a format; a name hides another one (a video that is called HEIC); a
pattern takes long on bytes made for it; a format that is taken is refused by name.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.build import folders
from model.formats import ENDINGS, format_of, refusal
from server.intake.kinds import MAGIC, MAGIC_BYTES, unsupported
from tests.model.pictures import encoded
from tierserve import files

RED = Image.new("RGB", (8, 8), (255, 0, 0))


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (4 + len(body)).to_bytes(4, "big") + body + bytes(30)


STARTS = {
    "HEIC": (ftyp(b"heic", b"mif1", b"heic"), "a HEIC picture"),
    "HEIC of a collection": (ftyp(b"mif1", b"mif1", b"heic", b"hevc"), "a HEIC picture"),
    "Canon raw": (ftyp(b"crx ", b"crx ", b"isom"), "a Canon raw"),
    "old Canon raw": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(30), "a Canon raw"),
    "MP4": (ftyp(b"isom", b"isom", b"avc1"), "a video"),
    "QuickTime": (ftyp(b"qt  "), "a video"),
    "WebM": (b"\x1aE\xdf\xa3" + bytes(30), "a video"),
    "AVI": (b"RIFF1234AVI LIST", "a video"),
    "JPEG XL": (b"\xff\x0a" + bytes(30), "a JPEG XL picture"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    "JPEG 2000": (encoded(RED, "JPEG2000"), "a JPEG 2000 picture"),
    "JPEG 2000 stream": (b"\xff\x4f\xff\x51" + bytes(30), "a JPEG 2000 picture"),
    "SVG": (b"\xef\xbb\xbf\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "SVG with a prologue": (b"<?xml version='1.0'?>\n<!-- made by hand -->\n<!DOCTYPE svg><svg/>", "an SVG drawing"),
    "HTML": (b"\n<!DOCTYPE html><html><title>403</title>", "an HTML page"),
    "HTML with a remark": (b"<!-- x --><HTML>", "an HTML page"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
    "PDF": (encoded(RED, "PDF"), "a PDF document"),
    "EPS": (encoded(RED, "EPS"), "PostScript"),
    "PSD": (b"8BPS\0\1" + bytes(60), "a Photoshop document"),
    "ICO": (encoded(RED, "ICO"), "an icon"),
    "ZIP": (b"PK\x03\x04\x14\0", "a ZIP archive"),
    "gzip": (b"\x1f\x8b\x08\0", "a compressed file"),
    "tar": (b"cat.jpg".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "a Git LFS pointer"),
    "data URL": (b"data:image/png;base64,iVBORw0KGgo=", "a data URL"),
    "base64 of a JPEG": (b"/9j/4AAQSkZJRgABAQ", "base64 text"),
    "base64 of a PNG": (b'"iVBORw0KGgoAAAANSUhEUg', "base64 text"),
    "address": (b"https://example.com/cat.jpg", "the address of a picture"),
    "DICOM": (bytes(128) + b"DICM\2\0", "a DICOM picture"),
    "FITS": (b"SIMPLE  =                    T", "a FITS picture"),
    "PPM": (encoded(RED, "PPM"), "a Netpbm picture"),
    "NumPy": (b"\x93NUMPY\1\0", "a NumPy array"),
    "WAV": (b"RIFF1234WAVEfmt ", "a sound"),
    "ELF": (b"\x7fELF\2\1\1", "a program"),
}
TAKEN = {
    "JPEG": encoded(RED, "JPEG"),
    "PNG": encoded(RED, "PNG"),
    "WebP": encoded(RED, "WEBP"),
    "GIF": encoded(RED, "GIF"),
    "AVIF": encoded(RED, "AVIF"),
    "TIFF": encoded(RED, "TIFF"),
    "BMP": encoded(RED, "BMP"),
}


@pytest.mark.parametrize("name", STARTS)
def test_both_sides_name_what_they_refuse_and_say_what_to_do(name: str) -> None:
    data, expected = STARTS[name]
    assert format_of(data) is None
    assert not MAGIC.match(data)
    assert refusal(data).startswith(f"The bytes are {expected}")
    problem = unsupported(data)
    assert (problem.status, problem.body["code"]) == (415, "unsupported_media_type")
    assert str(problem).startswith(f"this is {expected}")
    does = refusal(data).rpartition(": ")[2]
    assert len(does) > 5
    assert does.removesuffix(".") in str(problem)


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_is_known_by_its_first_bytes_on_both_sides(name: str) -> None:
    data = TAKEN[name]
    assert format_of(data[:MAGIC_BYTES]) == name
    assert MAGIC.match(data[:MAGIC_BYTES])
    assert name in refusal(b"x")
    assert name in str(unsupported(b"x"))


def test_the_client_and_builds_look_for_the_same_endings() -> None:
    assert frozenset(ENDINGS) == files.ENDINGS
    assert vars(folders)["ENDINGS"] is ENDINGS


def test_unknown_bytes_have_no_name() -> None:
    assert refusal(b"whatever") == "The bytes are not a JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP picture."
    assert str(unsupported(b"whatever")).startswith("this is no picture. Send a JPEG")


@given(
    st.lists(st.sampled_from([b"<!--", b"-->", b" ", b"\n", b"<?xml ", b"<!", b"ftyp", b"mif1", b"\xff", b"\0", b"<"]))
)
def test_no_bytes_take_long_to_name(parts: list[bytes]) -> None:
    began = time.perf_counter()
    for data in (
        b"".join(parts),
        b"<!--" * 5000,
        b" " * 20_000,
        b"<!" + b"<svg" * 5000,
        bytes(4) + b"ftyp" + b"mif1" * 5000,
    ):
        refusal(data)
        unsupported(data)
    assert time.perf_counter() - began < 0.5
