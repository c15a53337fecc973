"""The folder of a model is compared with its record before anything of it is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pushable import pushable
from tierserve.directory import read
from tierserve.errors import TierserveError

SHA256 = "5" * 64


@pytest.fixture
def made(models: Path, tmp_path: Path) -> Path:
    return pushable(models / "tf_efficientnet_lite0", tmp_path / "models")


def test_a_built_model_is_read(models: Path) -> None:
    model = read(models / "tf_efficientnet_lite0")
    assert model.reference == (models / "tf_efficientnet_lite0").resolve().name
    assert model.variants == ("onnx/fp32", "onnx/int8", "timm/fp32")
    assert len(model.files) == len(model.distinct) == 3


def test_no_folder_and_no_model_name_the_command_that_helps(tmp_path: Path) -> None:
    with pytest.raises(TierserveError, match=f"no model in .*tierserve model list --models {tmp_path}"):
        read(tmp_path / "flowers")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "No such file"),
        (lambda file: (file.unlink(), file.write_bytes(b"cut")), "has 3 bytes, and its record says"),
        (
            lambda file: (data := file.read_bytes(), file.unlink(), file.write_bytes(b"X" + data[1:])),
            "does not match the checksum",
        ),
    ],
)
def test_a_file_that_is_not_what_the_record_says_is_told(
    made: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(made / "model-int8.onnx")
    with pytest.raises(TierserveError, match="build the model again") as caught:
        read(made)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"variants": []},
        {"variants": None},
        {"name": "../../etc"},
        {"name": ["a"]},
        {"version": "stable"},
        {"file": "../outside"},
        {"file": "model.json"},
        {"file": "a\0b"},
        {"file": ""},
        {"sha256": "ABC"},
        {"sha256": 7},
        {"bytes": "many"},
    ],
)
def test_a_record_that_no_model_can_have_is_refused(made: Path, change: dict[str, Any]) -> None:
    record = made / "model.json"
    fields = json.loads(record.read_text("utf-8"))
    ((key, value),) = change.items()
    (fields["variants"][0] if key in ("file", "sha256", "bytes") else fields)[key] = value
    record.write_text(json.dumps(fields))
    with pytest.raises(TierserveError, match="cannot be read as the record of a model"):
        read(made)


@pytest.mark.parametrize("text", ["", "[]", "7", '{"name": "a"}', "\xff", "[" * 100_000])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text, "latin-1")
    with pytest.raises(TierserveError, match="cannot be read as the record of a model"):
        read(tmp_path)
