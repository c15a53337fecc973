"""Odd pictures get their labels, and broken pictures get a reason."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.model.pictures import thousands_of_scans
from tests.running import Service
from tests.service import pictures
from tests.service.test_classify import is_cat, multipart


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(pictures.encode(pictures.cat().convert("CMYK"), "JPEG"), id="CMYK"),
        pytest.param(pictures.encode(pictures.cat().quantize(64), "PNG"), id="palette"),
        pytest.param(pictures.sixteen_bit(), id="16-bit"),
        pytest.param(pictures.rotated(), id="EXIF rotation"),
        pytest.param(pictures.animated(), id="animated GIF"),
        pytest.param(pictures.encode(pictures.cat(), "WEBP"), id="WebP"),
        pytest.param(pictures.encode(pictures.cat(), "JPEG", progressive=True), id="progressive JPEG"),
    ],
)
def test_odd_cats_are_cats(running: Service, picture: bytes) -> None:
    assert is_cat(running.post("premium", picture))


def test_one_pixel_is_a_picture(running: Service) -> None:
    answer = running.post("free", pictures.encode(Image.new("RGB", (1, 1)), "PNG"))
    assert (answer.status, answer.json["status"]) == (200, "succeeded")


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        pytest.param(pictures.CAT[: len(pictures.CAT) // 2], "image_truncated", id="truncated"),
        pytest.param(pictures.bomb(), "image_too_large", id="bomb of 50,000 x 50,000"),
        pytest.param(b"\xff\xd8\xff" + bytes(1000), "image_broken", id="only a JPEG's magic"),
        pytest.param(thousands_of_scans(), "image_too_slow", id="thousands of scans"),
    ],
)
def test_a_picture_that_cannot_be_decoded_is_a_result(running: Service, picture: bytes, code: str) -> None:
    running.post("free", pictures.CAT)
    answer = running.post("free", picture)
    assert (answer.status, answer.json["code"]) == (422, code)
    prediction = answer.json["prediction"]
    assert prediction["status"] == "failed"
    assert prediction["error"]["code"] == code
    again = running.get(prediction["urls"]["get"])
    assert (again.status, again.json) == (200, prediction)
    assert is_cat(running.post("free", pictures.CAT))


def test_one_bad_picture_among_eight_leaves_seven(running: Service) -> None:
    body, headers = multipart([pictures.CAT] * 5 + [b"no picture"] + [pictures.CAT] * 2)
    answer = running.post("free", body, headers)
    assert answer.status == 200
    results = answer.json["results"]
    assert [result["status"] for result in results] == ["succeeded"] * 5 + ["failed"] + ["succeeded"] * 2
    assert results[5]["error"]["code"] == "image_unsupported"
    assert [result["index"] for result in results] == list(range(8))
