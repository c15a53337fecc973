"""The folder of models on a laptop: which model a tier takes, what is told of it, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

from tests.running import service
from tests.service.pictures import CAT

LITE0 = "tf_efficientnet_lite0"


def version(models: Path, name: str) -> str:
    return str(json.loads((models / name / "model.json").read_text())["version"])


def build_like(models: Path, folder: Path, name: str = "flowers", label: str = "Gänseblümchen 雛菊 🌼") -> str:
    """A model with labels of its own, in a folder as a build leaves it; returns its reference NAME@VERSION.

    Its files are those of lite0, and each of its labels begins with ``label``.
    """
    source = models / LITE0
    record = json.loads((source / "model.json").read_text())
    record |= {"name": name, "version": f"{len(label):08x}"}
    record["labels"] = [f"{label} {number}" for number in range(len(record["labels"]))]
    reference = f"{name}@{record['version']}"
    made = folder / reference
    made.mkdir(parents=True)
    for file in source.iterdir():
        if file.name != "model.json":
            (made / file.name).symlink_to(file)
    (made / "model.json").write_text(json.dumps(record, ensure_ascii=False), "utf-8")
    link = folder / f".{name}.new"
    link.symlink_to(reference)
    link.replace(folder / name)
    return reference


def test_a_tier_takes_a_model_by_its_name_and_predictions_say_its_version(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    reference = build_like(models, folder)
    settings = ["tiers.free.model.name=flowers", f"tiers.premium.model.name={reference}"]
    settings += ["tiers.premium.model.variant=int8"]
    with service(folder, tmp_path / "state", settings) as found:
        for tier in ("free", "premium"):
            answer = found.post(tier, CAT)
            assert answer.status == 200, answer.body
            assert answer.json["model"] == reference
            assert answer.json["results"][0]["labels"][0]["label"].startswith("Gänseblümchen 雛菊 🌼")
