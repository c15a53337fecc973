"""The folder of models as a server reads it: records anew when they change, and sentences about what is missing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.build.builder import DEFAULT_MODELS
from server.models import DEFAULTS, RECORD_BYTES, Models, NoModel
from server.settings.records import ModelChoice, Tier
from server.settings.values import load

LABELS = ["daisy", "Löwenzahn 🌼", "[red]rose[/]"]


def write(folder: Path, reference: str = "flowers@3f9a2c81", link: str = "", **changes: Any) -> Path:
    """A folder with a record, as a build leaves it, and a link to it."""
    name, _, version = reference.partition("@")
    variants = [{"runtime": runtime, "name": "fp32", "file": "x"} for runtime in ("onnx", "timm")]
    fields = {"name": name, "version": version, "labels": LABELS, "variants": variants, **changes}
    made = folder / reference
    made.mkdir(parents=True, exist_ok=True)
    (made / "model.json").write_text(json.dumps(fields, ensure_ascii=False), "utf-8")
    if link:
        new = folder / f".{link}"
        new.symlink_to(reference)
        new.replace(folder / link)
    return made


def tier(name: str, variant: str = "fp32", runtime: str = "onnx") -> Tier:
    return replace(load().tiers["free"], model=ModelChoice(name=name, variant=variant, runtime=runtime))


def test_the_defaults_are_those_that_a_build_makes() -> None:
    assert DEFAULTS == DEFAULT_MODELS


@pytest.mark.parametrize("reference", ["flowers", "flowers@3f9a2c81", "flowers@best"])
def test_a_model_is_found_by_its_name_its_version_and_its_tag(tmp_path: Path, reference: str) -> None:
    write(tmp_path, link="flowers")
    write(tmp_path, link="flowers@best")
    record = Models(tmp_path).read(reference)
    assert (record.reference, record.labels) == ("flowers@3f9a2c81", tuple(LABELS))
    assert Models(tmp_path).described([tier(reference)]) == {reference: record}


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


def test_what_no_tier_names_any_more_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path)
    models = Models(tmp_path)
    models.described([tier("flowers@3f9a2c81")])
    first = models.read("flowers@3f9a2c81")
    assert models.described([tier("gone")]) == {}
    assert models.read("flowers@3f9a2c81") is not first


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Expecting value"),
        (b"[]", "list indices"),
        (b"{}", "'name'"),
        (b'{"name": 7, "version": "0", "labels": [], "variants": []}', "7 is no text"),
        (b'{"name": "m", "version": "0", "labels": [null], "variants": []}', "None is no text"),
        (b'{"name": "m", "version": "0", "labels": [], "variants": [{}]}', "'runtime'"),
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
    assert Models(tmp_path).described([tier("flowers@3f9a2c81")]) == {}


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
    (sentence,) = Models(folder).complaints([tier(reference)])
    assert sentence == f"{folder} has no {reference}. Build it: {command.format(repr(str(folder)))}"


def test_a_version_that_is_missing_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    write(tmp_path, link="flowers@best")
    (sentence,) = Models(tmp_path).complaints([tier("flowers@00000000")])
    assert "has no flowers@00000000, but flowers@3f9a2c81, flowers@best" in sentence


@pytest.mark.parametrize(
    ("variants", "wanted", "said"),
    [
        (["onnx/fp32", "timm/fp32"], "onnx/int8", "has no int8 for the runtime onnx, only fp32: {}.variant=fp32"),
        (
            ["timm/fp32"],
            "onnx/int8",
            "has no int8 for the runtime onnx, only fp32 (timm): {0}.runtime=timm {0}.variant=fp32",
        ),
        (
            ["onnx/int8"],
            "timm/fp32",
            "has no fp32 for the runtime timm, only int8 (onnx): {0}.runtime=onnx {0}.variant=int8",
        ),
        ([], "onnx/fp32", "has no fp32 for the runtime onnx, and nothing else"),
    ],
)
def test_a_variant_that_is_missing_is_told_with_what_to_set(
    tmp_path: Path, variants: list[str], wanted: str, said: str
) -> None:
    pairs = [dict(zip(("runtime", "name"), one.split("/"), strict=True)) for one in variants]
    write(tmp_path, link="flowers", variants=pairs)
    runtime, variant = wanted.split("/")
    told = Models(tmp_path).complaints([tier("flowers", variant, runtime)])
    assert told == {f"flowers@3f9a2c81 {said.format('--set tiers.free.model')}": ["free"]}


def test_a_model_with_all_that_its_tiers_want_is_no_complaint(tmp_path: Path) -> None:
    write(tmp_path, link="flowers")
    assert Models(tmp_path).complaints([tier("flowers"), tier("flowers@3f9a2c81", runtime="timm")]) == {}
