"""The folder of models as a server reads it: records anew when they change, and sentences about what is missing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from model.build.builder import DEFAULT_MODELS
from server.models import DEFAULTS, RECORD_BYTES, Models, NoModel
from tests.server.models.model_folder import LABELS, record, write


def changed(**fields: Any) -> bytes:
    return json.dumps({**record("m@00000000"), **fields}).encode()


def test_the_defaults_are_those_that_a_build_makes() -> None:
    assert DEFAULTS == DEFAULT_MODELS


@pytest.mark.parametrize("reference", ["flowers", "flowers@3f9a2c81", "flowers@best"])
def test_a_model_is_found_by_its_name_its_version_and_its_tag(tmp_path: Path, reference: str) -> None:
    write(tmp_path, link="flowers")
    write(tmp_path, link="flowers@best")
    found = Models(tmp_path).read(reference)
    assert (found.reference, found.labels) == ("flowers@3f9a2c81", tuple(LABELS))
    assert (found.digest[:8], found.architecture, found.width) == ("3f9a2c81", "tf_efficientnet_lite0", 224)


def test_a_record_tells_the_size_and_the_merits_of_each_variant(tmp_path: Path) -> None:
    write(tmp_path, variants=["onnx/fp32", "onnx/int8"])
    found = Models(tmp_path).read("flowers@3f9a2c81")
    small = found.variant("onnx", "int8")
    assert small is not None
    assert (small.bytes, small.measured["top1"], small.measured["top5"]) == (1000, 0.75, None)
    assert found.variant("timm", "int8") is None


def test_a_record_is_read_again_only_when_it_changes(tmp_path: Path) -> None:
    write(tmp_path, link="flowers")
    models = Models(tmp_path)
    first = models.read("flowers")
    assert models.read("flowers") is first
    write(tmp_path, "flowers@00000000", link="flowers", labels=["weed"])
    assert models.read("flowers").reference == "flowers@00000000"
    record = write(tmp_path, "flowers@00000000", labels=["seed"]) / "model.json"
    os.utime(record, ns=(0, 0))  # clocks of file systems are coarse; both texts have the same size
    assert models.read("flowers").labels == ("seed",)


def test_what_is_not_needed_any_more_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path)
    models = Models(tmp_path)
    first = models.read("flowers@3f9a2c81")
    models.keep_only(["flowers@3f9a2c81", "others"])
    assert models.read("flowers@3f9a2c81") is first
    models.keep_only(["others"])
    assert models.read("flowers@3f9a2c81") is not first


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Expecting value"),
        (b"[]", "list indices"),
        (b"{}", "'preprocessing'"),
        (changed(name=7), "7 is no text"),
        (changed(labels=[None]), "None is no text"),
        (changed(variants=[{}]), "'runtime'"),
        (changed(preprocessing={"width": "wide"}), "invalid literal"),
        (b"[" * 100_000, "recursion"),
        (b'{"name": "\xff"}', "codec"),
        (b" " * (RECORD_BYTES + 1), f"it has more than {RECORD_BYTES} bytes"),
    ],
)
def test_a_record_that_cannot_be_read_says_why_and_what_to_do(tmp_path: Path, text: bytes, why: str) -> None:
    (write(tmp_path) / "model.json").write_bytes(text)
    with pytest.raises(NoModel) as caught:
        Models(tmp_path).read("flowers@3f9a2c81")
    assert why in str(caught.value)
    assert "tierserve model build SOURCE --name flowers" in str(caught.value)


def test_a_record_that_is_a_pipe_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    os.mkfifo(tmp_path / "m" / "model.json")
    with pytest.raises(NoModel, match="it is no file"):
        Models(tmp_path).read("m")


@pytest.mark.parametrize(
    ("reference", "command"),
    [
        (DEFAULTS[0], "tierserve model build --output {}"),
        ("flowers", "tierserve model build SOURCE --name flowers --output {}"),
        ("flowers@3f9a2c81", "tierserve model build SOURCE --name flowers --output {}"),
        ("flowers@best", "tierserve model build SOURCE --name flowers --tag best --output {}"),
    ],
)
def test_what_is_missing_is_told_with_the_command_that_makes_it(tmp_path: Path, reference: str, command: str) -> None:
    folder = tmp_path / "my models"
    with pytest.raises(NoModel) as caught:
        Models(folder).read(reference)
    assert str(caught.value) == f"{folder} has no {reference}. Build it: {command.format(repr(str(folder)))}"
    with pytest.raises(NoModel) as caught:
        Models(folder, image=True).read(reference)
    assert str(caught.value) == f"the workers' image has no {reference}"


def test_a_version_that_is_missing_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    write(tmp_path, link="flowers@best")
    with pytest.raises(NoModel, match="has no flowers@00000000, but flowers@3f9a2c81, flowers@best"):
        Models(tmp_path).read("flowers@00000000")
