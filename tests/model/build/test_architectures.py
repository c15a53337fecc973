"""Two families are trained and built by the script that makes the table of architectures, and a failure is a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

from benchmarks import architectures
from benchmarks.architectures import apart, examine, examine_all, kept
from benchmarks.families import FAMILIES
from benchmarks.page import BEGIN, END, write_page
from tests.running import ROOT


@pytest.mark.parametrize("family", ["LCNet", "RegNetX"])
def test_a_family_is_trained_built_and_compared_with_timm(family: str, photos: Path) -> None:
    row = examine(family, photos, photos, seconds=2, size=64)
    assert "error" not in row
    assert row["exports"]
    assert row["onnx fp32"]["agreement"] >= 0.99
    assert abs(row["onnx fp32"]["top1"] - row["timm"]) <= 0.001 + 1 / 160
    assert row["onnx fp32"]["ms"] > 0
    assert row["parameters"] > 1_000_000
    if "onnx int8" in row:
        assert row["int8_bits"] in (7, 8)
        assert row["onnx int8"]["top1"] >= row["timm"] - 0.01
    else:
        assert any("int8 was left out" in warning for warning in row["warnings"])


def test_the_families_are_timms_and_many() -> None:
    import timm

    assert len(FAMILIES) >= 30
    assert all(timm.is_model(member.architecture) for member in FAMILIES.values())


def test_a_network_that_takes_too_long_is_a_row(photos: Path) -> None:
    row = apart("LCNet", photos, photos, seconds=600, timeout=-597)
    assert row["error"] == "It took longer than 3 s."
    assert (row["family"], row["architecture"]) == ("LCNet", "lcnet_050")


def test_a_process_that_dies_is_a_row(tmp_path: Path) -> None:
    row = apart("LCNet", tmp_path / "nowhere", tmp_path, seconds=1)
    assert row["error"].startswith("Its process ended with status 1: ") or row["error"].startswith(
        "It cannot be trained"
    )


def test_an_input_that_is_too_small_is_a_row(photos: Path) -> None:
    assert examine("Inception V3", photos, photos, seconds=0.1, size=32)["error"].startswith("It cannot be trained: ")


def test_rows_are_kept_at_once_and_those_of_other_versions_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(architectures, "LEARNED", 1)
    monkeypatch.setattr(architectures, "JUDGED", 1)
    begun = architectures._begun

    def stopped(family: str, *rest: object) -> dict[str, Any]:
        if family == "VGG":
            raise KeyboardInterrupt
        return begun(family)

    monkeypatch.setattr(architectures, "apart", stopped)
    results = tmp_path / "rows.jsonl"
    with Progress(disable=True) as progress, pytest.raises(KeyboardInterrupt):
        examine_all(["LCNet", "ResNet", "VGG"], results, 1, progress)
    assert list(kept(results)) == ["LCNet", "ResNet"]
    old = {**begun("DLA"), "versions": {"timm": "0.1"}}
    results.write_text(results.read_text("utf-8") + json.dumps(old) + "\n", "utf-8")
    assert list(kept(results)) == ["LCNet", "ResNet"]


def test_the_page_shows_each_row_and_says_why_one_failed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    begun = architectures._begun("LCNet")
    measured = {"top1": 0.95, "agreement": 1.0, "ms": 1.25}
    facts = {"size": 96, "parameters": 1_880_856, "exports": True, "timm": 0.95, "int8_bits": 7, "seconds": 20.0}
    variants = {"onnx fp32": measured, "onnx int8": measured, "timm fp32": measured, "warnings": ["Slow."]}
    slow = {**architectures._begun("DLA"), **facts, "exports": False, "timm fp32": measured, "warnings": []}
    rows = [{**begun, **facts, **variants}, slow, {**architectures._begun("VGG"), "error": "It took too long."}]
    write_page(page, rows)
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| LCNet | `lcnet_050` | 96 | 1.9 M | yes | 95.0% | 95.0% | 95.0% | 100.0% | 100.0% | 7 bits |" in text
    assert "| DLA | `dla46_c` | 96 | 1.9 M | no: `runtime: timm` | 95.0% | 95.0% |  | 100.0% |  | left out |" in text
    assert "- **VGG** (vgg11_bn): It took too long." in text
    assert "- **LCNet** (lcnet_050): Slow." in text
    assert "3 families: 1 export, and 1 of those are served as int8 too." in text
    write_page(page, rows)
    assert page.read_text("utf-8") == text


def test_the_page_of_the_documentation_has_the_markers() -> None:
    text = (ROOT / "docs" / "architectures.md").read_text("utf-8")
    assert text.index(BEGIN) < text.index(END)
