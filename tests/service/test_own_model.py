"""From a checkpoint of one's own to a label of one's own, by the commands of the README."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT, Service, service


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, models: Path, checkpoint: Path, photos: Path) -> Path:
    """A folder with the default models and one that was built by the command."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite2"):
        (folder / name).symlink_to((models / name).resolve())
    command = [sys.executable, "-m", "server", "model", "build", str(checkpoint), "--name", "flowers"]
    command += ["--data", str(photos), "--output", str(folder), "--tag", "stable"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "is ready" in done.stdout
    assert "tiers.free.model.name=flowers" in done.stdout
    return folder


@pytest.fixture(scope="module")
def record(own: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((own / "flowers" / "model.json").read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def served(own: Path, record: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    variant = record["variants"][1]["name"] if len(record["variants"]) > 2 else "fp32"
    settings = ("tiers.free.model.name=flowers@stable", f"tiers.free.model.variant={variant}")
    with service(own, tmp_path_factory.mktemp("state"), settings) as found:
        yield found


def test_the_folder_is_named_by_its_version(own: Path, record: dict[str, Any]) -> None:
    assert (own / "flowers").resolve().name == f"flowers@{record['version']}"
    assert (own / "flowers@stable").resolve() == (own / "flowers").resolve()
    card = (own / "flowers" / "MODEL.md").read_text("utf-8")
    assert all(label in card for label in record["labels"])


def test_what_is_served_is_as_accurate_as_timm_itself(record: dict[str, Any]) -> None:
    timm = record["judged"]["timm"]["top1"]
    assert timm > 0.4, "the checkpoint has learnt something"
    by_name = {(variant["runtime"], variant["name"]): variant["measured"] for variant in record["variants"]}
    assert abs(by_name["timm", "fp32"]["top1"] - by_name["onnx", "fp32"]["top1"]) < 0.001
    assert by_name["onnx", "fp32"]["largest_difference"] < 0.01
    assert by_name.get(("onnx", "int8"), {"top1": 1})["top1"] >= timm - 0.01


def test_a_picture_gets_the_owners_label_from_the_owners_model(
    served: Service, record: dict[str, Any], photos: Path
) -> None:
    right = 0
    pictures = [(folder.name, file) for folder in sorted(photos.iterdir()) for file in sorted(folder.iterdir())[:4]]
    for truth, file in pictures:
        answer = served.post("free", file.read_bytes())
        assert answer.status == 200
        assert answer.json["model"] == f"flowers@{record['version']}"
        labels = [label["label"] for label in answer.json["results"][0]["labels"]]
        assert set(labels) <= set(record["labels"])
        right += labels[0] == truth
    assert right / len(pictures) >= record["judged"]["timm"]["top1"] - 0.3


def test_the_tiers_show_name_version_and_labels(served: Service, record: dict[str, Any]) -> None:
    (free,) = [tier for tier in served.get("/v1/tiers").json["tiers"] if tier["name"] == "free"]
    assert free["model"]["name"] == "flowers@stable"
    assert free["model"]["version"] == record["version"]
    assert free["model"]["classes"] == len(record["labels"])
    assert served.get("/v1/tiers/free").json["model"]["labels"] == record["labels"]


def test_the_commands_show_the_model(served: Service, record: dict[str, Any], photos: Path) -> None:
    picture = next(iter(sorted(next(iter(sorted(photos.iterdir()))).iterdir())))
    for words in (["classify", str(picture)], ["tiers"]):
        command = [sys.executable, "-m", "server", *words, "--url", f"http://127.0.0.1:{served.port}"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert record["version"] in done.stdout


def test_the_folder_is_listed(own: Path, record: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "server", "model", "list", "--models", str(own)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "COLUMNS": "250"}
    )
    assert f"flowers@{record['version']}" in done.stdout
    assert "flowers@stable" in done.stdout
