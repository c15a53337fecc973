"""Whatever stands in a picture beside its pixels tells how it lies and does no other harm.

How it could break: a place where cameras and programs write the orientation is not read; another place wins over EXIF;
damage of metadata spoils the picture; something that the pixels need is left out, so colours change; damage of pixels
goes unnoticed; metadata makes it slow or large.
"""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.images import ImageError, load
from model.orientation import EXIF_START, MOST_TEXT, XMP_START, of_app1, of_exif, of_text, of_xmp, text_of_png
from model.stripping import stripped
from tests.model.pictures import LIMIT, LITE0, PICTURES, chunk, encoded, segment

with Image.open(PICTURES / "cat.jpg") as opened:
    CAT = opened.convert("RGB").resize((90, 60))
JPEG, PNG = encoded(CAT, "JPEG"), encoded(CAT, "PNG")
WEBP, CLEAR_WEBP = encoded(CAT, "WEBP", xmp=b"<x/>"), encoded(CAT.convert("RGBA"), "WEBP", xmp=b"<x/>")
IDAT = PNG.index(b"IDAT") - 4


def exif(orientation: int, order: str = "<") -> bytes:
    tags = struct.pack(order + "HHHIHH", 1, 0x0112, 3, 1, orientation, 0)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + tags + bytes(4)


def xmp(orientation: int, form: str = '<rdf:Description tiff:Orientation="%d"/>') -> bytes:
    return f"<?xpacket?><x:xmpmeta>{form % orientation}</x:xmpmeta>".encode()


def raw(name: str, profile: bytes) -> bytes:
    digits = profile.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\n{name}\n{len(profile):8}\n{lines}\n".encode()


def ztxt(key: str, text: bytes) -> bytes:
    return chunk(b"zTXt", key.encode() + b"\0\0" + zlib.compress(text))


def itxt(text: bytes, packed: bool = False) -> bytes:
    head = b"XML:com.adobe.xmp\0" + (b"\1\0" if packed else b"\0\0") + b"en\0key\0"
    return chunk(b"iTXt", head + (zlib.compress(text) if packed else text))


def jpeg(*segments: bytes) -> bytes:
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


def png(before: bytes = b"", behind: bytes = b"", tail: bytes = b"") -> bytes:
    return PNG[:33] + before + PNG[33:-12] + behind + PNG[-12:] + tail


def webp(*chunks: bytes, file: bytes = WEBP) -> bytes:
    body = file[12:] + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def riff(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


ELEMENT = "<tiff:Orientation> %d </tiff:Orientation>"
TOLD: dict[str, bytes] = {
    "JPEG, EXIF": jpeg(segment(0xE1, EXIF_START + exif(6))),
    "JPEG, EXIF of the other order": jpeg(segment(0xE1, EXIF_START + exif(6, ">"))),
    "JPEG, XMP attribute": jpeg(segment(0xE1, XMP_START + xmp(6))),
    "JPEG, XMP attribute in single quotes": jpeg(segment(0xE1, XMP_START + xmp(6, "<d tiff:Orientation = '%d'/>"))),
    "JPEG, XMP element": jpeg(segment(0xE1, XMP_START + xmp(6, ELEMENT))),
    "JPEG, XMP in UTF-16": jpeg(segment(0xE1, XMP_START + xmp(6).decode().encode("utf-16-be"))),
    "JPEG, EXIF without orientation, then XMP": jpeg(
        segment(0xE1, EXIF_START + b"II*\0\x08\0\0\0\0\0" + bytes(4)), segment(0xE1, XMP_START + xmp(6))
    ),
    "JPEG, EXIF of 0, then XMP": jpeg(segment(0xE1, EXIF_START + exif(0)), segment(0xE1, XMP_START + xmp(6))),
    "JPEG, XMP before the EXIF that wins": jpeg(segment(0xE1, XMP_START + xmp(3)), segment(0xE1, EXIF_START + exif(6))),
    "JPEG, damaged EXIF, then good": jpeg(
        segment(0xE1, EXIF_START + b"MM\0*\xff\xff\xff\xff"), segment(0xE1, EXIF_START + exif(6))
    ),
    "PNG, eXIf": png(chunk(b"eXIf", exif(6))),
    "PNG, eXIf with the start of a JPEG's": png(chunk(b"eXIf", EXIF_START + exif(6))),
    "PNG, eXIf behind the pixels": png(behind=chunk(b"eXIf", exif(6))),
    "PNG, XMP": png(itxt(xmp(6))),
    "PNG, packed XMP": png(itxt(xmp(6), packed=True)),
    "PNG, XMP behind the pixels": png(behind=itxt(xmp(6))),
    "PNG, raw profile exif": png(ztxt("Raw profile type exif", raw("exif", EXIF_START + exif(6)))),
    "PNG, raw profile exif without a start": png(ztxt("Raw profile type exif", raw("exif", exif(6)))),
    "PNG, raw profile APP1": png(ztxt("Raw profile type APP1", raw("generic profile", EXIF_START + exif(6)))),
    "PNG, raw profile APP1 of XMP": png(ztxt("Raw profile type APP1", raw("generic profile", XMP_START + xmp(6)))),
    "PNG, raw profile xmp": png(ztxt("Raw profile type xmp", raw("xmp", xmp(6)))),
    "PNG, raw profile in plain text": png(
        chunk(b"tEXt", b"Raw profile type exif\0" + raw("exif", EXIF_START + exif(6)))
    ),
    "PNG, XMP before the raw EXIF that wins": png(
        itxt(xmp(3)) + ztxt("Raw profile type exif", raw("exif", EXIF_START + exif(6)))
    ),
    "PNG, XMP before the late eXIf that wins": png(itxt(xmp(3)), behind=chunk(b"eXIf", exif(6))),
    "WEBP, EXIF": webp(riff(b"EXIF", exif(6))),
    "WEBP, EXIF with the start of a JPEG's": webp(riff(b"EXIF", EXIF_START + exif(6))),
    "WEBP, XMP": webp(riff(b"XMP ", xmp(6))),
    "WEBP, XMP before the EXIF that wins": webp(riff(b"XMP ", xmp(3)), riff(b"EXIF", exif(6))),
}


@pytest.mark.parametrize("name", TOLD)
def test_the_orientation_is_found_wherever_it_is_told(name: str) -> None:
    data = TOLD[name]
    assert stripped(data).turned == 6
    plain = {"J": JPEG, "P": PNG, "W": WEBP}[name[0]]
    form = {"J": "JPEG", "P": "PNG", "W": "WEBP"}[name[0]]
    as_exif = encoded(CAT, form, exif=b"Exif\0\0" + exif(6))
    assert np.array_equal(load(data, LITE0, LIMIT), load(as_exif, LITE0, LIMIT))
    assert not np.array_equal(load(data, LITE0, LIMIT), load(plain, LITE0, LIMIT))


def with_checksum(wrong: bytes) -> bytes:
    return wrong[:-4] + b"\1\2\3\4"


DAMAGED: dict[str, bytes] = {
    "JPEG, short JFIF": JPEG[:2] + segment(0xE0, b"JFIF\0") + JPEG[20:],
    "JPEG, short Adobe": jpeg(segment(0xEE, b"Adobe")),
    "JPEG, broken profile": jpeg(segment(0xE2, b"ICC_PROFILE\0\7\1" + bytes(5))),
    "JPEG, broken MPF": jpeg(segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\xff\xff")),
    "JPEG, broken Photoshop": jpeg(segment(0xED, b"Photoshop 3.0\x008BIM\4\4\xff\0\xff\xff\xff\xff")),
    "JPEG, broken EXIF": jpeg(segment(0xE1, EXIF_START + b"II*\0\x08\0\0\0\xff\xff" + bytes(60))),
    "JPEG, other APPn": jpeg(*(segment(0xE0 + number, b"\xff" * 40) for number in range(16))),
    "JPEG, comment": jpeg(segment(0xFE, b"\xff\xd9" * 30_000)),
    "JPEG, fill bytes": jpeg(segment(0xE3, b"") + b"\xff" * 9),
    "JPEG, junk behind the end": JPEG + b"\xff\xd8\xff" * 99,
    "JPEG, junk before the end": JPEG[:-2] + bytes(99) + JPEG[-2:],
    "PNG, large zTXt": png(ztxt("key", bytes(80_000_000))),
    "PNG, large iTXt": png(itxt(bytes(80_000_000), packed=True)),
    "PNG, zTXt that does not unpack": png(chunk(b"zTXt", b"key\0\0garbage")),
    "PNG, zTXt of another method": png(chunk(b"zTXt", b"key\0\7garbage")),
    "PNG, broken iTXt": png(chunk(b"iTXt", b"key")),
    "PNG, tEXt of many megabytes": png(chunk(b"tEXt", b"key\0" + bytes(3_000_000))),
    "PNG, iCCP that does not unpack": png(chunk(b"iCCP", b"icc\0\0garbage")),
    "PNG, empty iCCP": png(chunk(b"iCCP", b"")),
    "PNG, large iCCP": png(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(80_000_000)))),
    "PNG, short gAMA": png(chunk(b"gAMA", b"\1")),
    "PNG, short cHRM": png(chunk(b"cHRM", b"\1")),
    "PNG, empty sRGB": png(chunk(b"sRGB", b"")),
    "PNG, short pHYs": png(chunk(b"pHYs", b"\1\2")),
    "PNG, empty tRNS": png(chunk(b"tRNS", b"")),
    "PNG, empty sBIT": png(chunk(b"sBIT", b"")),
    "PNG, broken eXIf": png(chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
    "PNG, wrong checksums": png(
        b"".join(map(with_checksum, (chunk(b"tEXt", b"key\0text"), chunk(b"gAMA", bytes(4)), chunk(b"prVt", b"x"))))
    ),
    "PNG, wrong checksum of tRNS": png(with_checksum(chunk(b"tRNS", bytes(6)))),
    "PNG, broken animation": png(chunk(b"acTL", bytes(8)) + chunk(b"fcTL", b"\1")),
    "PNG, garbage behind the end": png(tail=b"\0" * 99 + b"IHDR" * 9),
    "PNG, broken length behind the pixels": png(behind=b"\x7f\xff\xff\xfftEXtkey"),
    "PNG, no end": PNG[:-12],
    "PNG, wrong checksum of the end": PNG[:-4] + bytes(4),
    "WEBP, broken profile": webp(riff(b"ICCP", b"\xff" * 9)),
    "WEBP, broken EXIF": webp(riff(b"EXIF", b"II*\0\xff\xff\xff\xff")),
    "WEBP, broken XMP": webp(riff(b"XMP ", b"\xff\xfe\0<")),
    "WEBP, unknown chunk": webp(riff(b"what", bytes(9))),
    "WEBP, flags without their chunks": WEBP[:20] + bytes([WEBP[20] | 0x2C]) + WEBP[21:],
    "WEBP, bytes behind the end": WEBP + b"\xff" * 99,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_stands_beside_the_pixels_does_not_spoil_them(name: str) -> None:
    plain = {"J": JPEG, "P": PNG, "W": WEBP}[name[0]]
    began = time.perf_counter()
    assert np.array_equal(load(DAMAGED[name], LITE0, LIMIT), load(plain, LITE0, LIMIT))
    assert time.perf_counter() - began < 1


def test_a_gif_with_comments_and_extensions_is_the_same_picture() -> None:
    plain = encoded(CAT.quantize(16), "GIF")
    at = 13 + (3 << (plain[10] & 7) + 1)
    odd = (
        b"!\xfe\5hello\0"
        + b"!\xff\x0bNETSCAPE2.0\1\1\0"
        + b"!\xff\0"
        + b"!\x01\x0c"
        + bytes(12)
        + b"\0"
        + b"!\x77\1x\0"
    )
    for data in (plain[:at] + odd + plain[at:], plain + b"\xff" * 99, plain[:-1]):
        assert np.array_equal(load(data, LITE0, LIMIT), load(plain, LITE0, LIMIT))


CUT: dict[str, bytes] = {
    "JPEG": JPEG[: len(JPEG) // 2],
    "PNG in its pixels": PNG[: IDAT + 1000],
    "PNG whose second half of pixels is missing": PNG[:33] + chunk(b"IDAT", PNG[IDAT + 8 : IDAT + 500]) + PNG[-12:],
    "PNG without pixels": PNG[:33] + PNG[-12:],
    "WEBP": WEBP[:300],
}


@pytest.mark.parametrize("name", CUT)
def test_a_picture_without_all_of_its_pixels_is_still_refused(name: str) -> None:
    with pytest.raises(ImageError) as caught:
        load(CUT[name], LITE0, LIMIT)
    assert caught.value.code in ("image_truncated", "image_broken")


def test_damage_of_what_pixels_need_is_still_found() -> None:
    for data in (
        PNG[:29] + bytes(4) + PNG[33:],  # the checksum of the header
        PNG[: IDAT + 9] + b"\xff\xff" + PNG[IDAT + 11 :],
        JPEG.replace(b"\xff\xdb", b"\xff\xe5"),  # no table of quantization
    ):
        with pytest.raises(ImageError) as caught:
            load(data, LITE0, LIMIT)
        assert caught.value.code == "image_broken"


def forms() -> dict[str, bytes]:
    palette = CAT.quantize(16)
    return {
        "CMYK": encoded(CAT.convert("CMYK"), "JPEG"),
        "RGB in a JPEG": encoded(CAT, "JPEG", keep_rgb=True),
        "progressive": encoded(CAT, "JPEG", progressive=True),
        "restarts": encoded(CAT, "JPEG", restart_marker_blocks=2),
        "palette": encoded(palette, "PNG", transparency=3),
        "alpha": encoded(CAT.convert("RGBA"), "PNG"),
        "animation": encoded(CAT, "PNG", save_all=True, append_images=[CAT.rotate(180)]),
        "WEBP with alpha": CLEAR_WEBP,
        "animated WEBP": encoded(CAT, "WEBP", save_all=True, append_images=[CAT.rotate(180)], xmp=b"<x/>"),
    }


@pytest.mark.parametrize("name", forms())
def test_pixels_are_those_of_the_whole_file(name: str) -> None:
    data = forms()[name]
    bare = stripped(data).data
    with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(bare)) as part:
        assert (part.mode, part.size) == (whole.mode, whole.size)
        assert part.tobytes() == whole.tobytes()
        assert not {"exif", "icc_profile", "xmp", "comment"} & set(part.info)


@given(st.integers(0, 2**16 - 1), st.sampled_from("<>"), st.integers(0, 30))
def test_the_orientation_is_what_pillow_reads(value: int, order: str, others: int) -> None:
    written = Image.Exif()
    written.endian = order
    for tag in range(0x100, 0x100 + others):
        written[tag] = 7
    written[0x0112] = value
    data = written.tobytes()
    again = Image.Exif()
    again.load(data)
    assert of_exif(data) == (again[0x0112] if 1 <= again[0x0112] <= 8 else None)


READERS: list[Callable[[bytes], int | None]] = [
    of_exif,
    of_xmp,
    of_app1,
    lambda data: of_text(*text_of_png(b"zTXt", data)),
    lambda data: of_text(*text_of_png(b"iTXt", data)),
    lambda data: of_text(b"Raw profile type exif", data),
]


@given(
    st.sampled_from(READERS),
    st.sampled_from([b"", EXIF_START + b"II*\0\x08\0\0\0", XMP_START, b"Raw profile type exif\0\0", b"\nexif\n9\n"]),
    st.binary(max_size=100),
)
def test_any_bytes_tell_an_orientation_or_none(reader: Callable[[bytes], int | None], start: bytes, end: bytes) -> None:
    assert reader(start + end) in (None, 1, 2, 3, 4, 5, 6, 7, 8)


@settings(max_examples=400, suppress_health_check=list(HealthCheck), database=None)
@given(st.sampled_from([*TOLD.values(), *forms().values()]), st.integers(0, 600), st.binary(min_size=1, max_size=4))
def test_stripping_takes_any_bytes_and_makes_nothing_larger(data: bytes, at: int, change: bytes) -> None:
    damaged = data[:at] + change + data[at + len(change) :]
    assert len(stripped(damaged).data) <= len(damaged) + 12


def test_metadata_costs_neither_time_nor_memory() -> None:
    nested = b"<a>" * 300_000 + b"<!ENTITY a 'b'>" * 10_000
    packed = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(50_000_000)))
    png_of_both = png(itxt(nested) * 40 + packed * 90)
    jpeg_of_spaces = jpeg(*[segment(0xE1, XMP_START + b"tiff:Orientation" + b" " * 60_000)] * 900)
    began = time.perf_counter()
    assert stripped(png_of_both).turned is None
    assert stripped(jpeg_of_spaces).turned is None
    assert len(text_of_png(b"zTXt", packed[8:-4])[1]) == MOST_TEXT
    assert time.perf_counter() - began < 2
