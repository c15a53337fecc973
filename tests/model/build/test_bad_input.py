"""Whatever is wrong with what an owner gives, the build says so in a sentence, and nothing half-made stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from model.build.builder import build
from model.build.errors import BuildError
from model.build.request import Request
from tests.faults.small_disk import small_disk
from tests.model.build.told import Told
from tests.running import ROOT, lacking
from tests.waiting import eventually


@pytest.fixture
def refused(tmp_path: Path, checkpoint: Path) -> Callable[..., str]:
    """A function that builds what must be refused, and returns the sentence."""
    models = tmp_path / "models"

    def build_it(source: Path | str = checkpoint, **given: Any) -> str:
        with pytest.raises(BuildError) as caught:
            build(Request(str(source), **{"name": "flowers", **given}), models, Told())
        assert not models.exists() or list(models.iterdir()) == []
        said = str(caught.value)
        assert "\n" not in said
        return said

    return build_it


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("ending", ["pth", "pt", "pth.tar", "safetensors", "bin", "zip"])
def test_a_file_that_carries_code(refused: Callable[..., str], tmp_path: Path, ending: str) -> None:
    file, trace = tmp_path / f"weights.{ending}", tmp_path / "ran"
    torch.save({"state_dict": {}, "extra": Evil(trace)}, file)
    assert "carries code" in refused(file)
    assert not trace.exists()


def test_a_truncated_file(refused: Callable[..., str], checkpoint: Path, tmp_path: Path) -> None:
    data = checkpoint.read_bytes()
    for share in (0.5, 0.99):
        cut = tmp_path / "cut.pth.tar"
        cut.write_bytes(data[: int(len(data) * share)])
        assert "truncated or damaged" in refused(cut)


def test_a_missing_file(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere.pth" in refused(tmp_path / "nowhere.pth")


def test_a_wrong_architecture(refused: Callable[..., str]) -> None:
    assert "does not fit resnet18" in refused(architecture="resnet18")
    assert "near names are resnet18" in refused(architecture="resnet118")


def test_a_state_dict_that_does_not_tell_its_network(refused: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "plain.pth"
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), file)
    assert "--architecture" in refused(file)
    assert "does not fit" in refused(file, architecture="test_vit")


def test_weights_that_are_not_numbers(refused: Callable[..., str], tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    state["fc.bias"][1] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    said = refused(tmp_path / "nan.pth", architecture="test_resnet")
    assert "not finite" in said
    assert "fc.bias" in said


def test_a_network_that_is_no_classifier(refused: Callable[..., str], tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "features.pth")
    assert "no classifier" in refused(tmp_path / "features.pth", architecture="test_resnet")
    torch.save(timm.create_model("test_resnet", num_classes=1).state_dict(), tmp_path / "single.pth")
    assert "no classifier" in refused(tmp_path / "single.pth", architecture="test_resnet")


def test_labels_one_too_few(refused: Callable[..., str], photos: Path, tmp_path: Path) -> None:
    classes = sorted(path.name for path in photos.iterdir())
    (tmp_path / "labels.txt").write_text("\n".join(classes[:-1]), "utf-8")
    said = refused(labels=tmp_path / "labels.txt")
    assert str(len(classes)) in said
    assert str(len(classes) - 1) in said


def test_an_empty_class_folder(refused: Callable[..., str], photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photos, tmp_path / "photos"))
    emptied = sorted(copy.iterdir())[1]
    for file in emptied.iterdir():
        file.unlink()
    said = refused(data=copy)
    assert emptied.name in said


def test_pictures_of_which_too_many_do_not_decode(refused: Callable[..., str], photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photos, tmp_path / "photos"))
    for folder in copy.iterdir():
        for file in sorted(folder.iterdir())[::3]:
            file.write_bytes(b"\xff\xd8\xff no picture")
    said = refused(data=copy)
    assert "5%" in said or "5 %" in said


@pytest.mark.parametrize("name", ["a/b", "../flowers", "a b", ""])
def test_a_name_that_is_no_name(refused: Callable[..., str], name: str) -> None:
    assert "cannot be the name of a model" in refused(name=name)


def test_a_tag_that_is_no_tag(refused: Callable[..., str]) -> None:
    assert "cannot be the tag" in refused(tags=("a/b",))


def test_what_is_required_and_cannot_be_made(refused: Callable[..., str], tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    for name in ("fc.weight", "fc.bias"):  # so that it is sure of nothing
        state[name].zero_()
    torch.save(state, tmp_path / "unsure.pth")
    said = refused(tmp_path / "unsure.pth", architecture="test_resnet", require=("int8",))
    assert said.startswith("int8 was required")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mean": [0.5, 0.5]}, "2"),
        ({"std": [0.0]}, "std"),
        ({"input_size": [3, 0, 64]}, "0"),
        ({"input_size": [4, 64, 64]}, "4"),
        ({"crop_pct": -1.0}, "crop"),
    ],
)
def test_preprocessing_that_cannot_be(refused: Callable[..., str], given: dict[str, Any], said: str) -> None:
    assert said in refused(preprocessing=given)


def test_no_room_on_the_disk(checkpoint: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 2) as folder:
        if folder is None:
            lacking("only root can mount a small filesystem")
        else:
            with pytest.raises(BuildError, match="no room left on the disk"):
                build(Request(str(checkpoint), name="flowers"), folder / "models", Told())
            assert list((folder / "models").iterdir()) == []


def test_a_folder_that_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("no folder")
    with pytest.raises(BuildError, match="models cannot be used"):
        build(Request(str(checkpoint)), tmp_path / "models", Told())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_stopped(checkpoint: Path, photos: Path, tmp_path: Path, number: signal.Signals) -> None:
    models = tmp_path / "models"
    command = [sys.executable, "-m", "model", "build", str(checkpoint), "--data", str(photos), "--output", str(models)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        eventually(lambda: list(models.glob(".build-*/model/*")), 120, "it writes its first file", bool)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert "nothing of" in said
    assert "Traceback" not in said
    assert list(models.iterdir()) == []


def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "server",
        "model",
        "build",
        str(tmp_path / "[red]no.pth"),
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "cannot build" in done.stderr
    assert "[red]no.pth" in done.stderr
    assert "Traceback" not in done.stderr


def test_options_for_one_model_need_one_model(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model", "build", "a.pth", "b.pth", "--name", "flowers"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "--name is for one model" in done.stderr


def test_a_corrupt_configuration_of_a_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "test_resnet", "num_classes": 3}))
    assert "model.safetensors" in refused(folder)
    (folder / "model.safetensors").write_bytes(b"noise")
    (folder / "config.json").write_text("{")
    assert "config.json" in refused(folder)
