"""The pictures that are drawn, and the checkpoint that is trained for them, are what they say."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import load_checkpoint

from benchmarks.photos import FLOWERS, photo
from tests.running import ROOT
from tests.trained import NETWORK, PICTURES, SIZE


def test_the_same_seed_draws_the_same_picture() -> None:
    assert photo("rose", 3) == photo("rose", 3)
    assert len({photo(name, number, seed) for name in ("rose", "iris") for number in (0, 1) for seed in (0, 1)}) == 8


@pytest.mark.parametrize("name", FLOWERS)
def test_pictures_vary_in_size_and_light(name: str) -> None:
    pictures = [Image.open(io.BytesIO(photo(name, number))) for number in range(12)]
    assert all(200 <= side <= 600 for picture in pictures for side in picture.size)
    assert len({picture.size for picture in pictures}) > 8
    assert np.std([np.asarray(picture.convert("L")).mean() for picture in pictures]) > 10


def test_the_folders_have_timms_order(photos: Path) -> None:
    from timm.data.readers.reader_image_folder import find_images_and_targets

    files, classes = find_images_and_targets(str(photos))
    assert list(classes) == list(FLOWERS)
    assert len(files) == PICTURES * len(FLOWERS)


def test_the_checkpoint_is_what_train_py_writes(checkpoint: Path) -> None:
    with torch.serialization.safe_globals([argparse.Namespace]):
        found = torch.load(checkpoint, weights_only=True)
    assert {"epoch", "arch", "args", "state_dict", "state_dict_ema", "optimizer", "version", "metric"} <= set(found)
    assert found["arch"] == found["args"].model == NETWORK
    assert found["args"].num_classes == len(FLOWERS)
    assert found["state_dict"].keys() == found["state_dict_ema"].keys()
    assert any(not torch.equal(found["state_dict"][key], found["state_dict_ema"][key]) for key in found["state_dict"])


@pytest.mark.parametrize("ema", [False, True])
def test_timm_reads_the_checkpoint_and_knows_most_pictures(checkpoint: Path, photos: Path, ema: bool) -> None:
    with torch.serialization.safe_globals([argparse.Namespace]):
        args = torch.load(checkpoint, weights_only=True)["args"]
        network = timm.create_model(args.model, num_classes=args.num_classes).eval()
        load_checkpoint(network, str(checkpoint), use_ema=ema)
    how = resolve_data_config(vars(args), model=network)
    assert how["input_size"] == (3, SIZE, SIZE)
    transform = create_transform(**how)
    right = total = 0
    for number, name in enumerate(FLOWERS):
        pictures = [Image.open(file).convert("RGB") for file in sorted((photos / name).iterdir())]
        with torch.inference_mode():
            best = network(torch.stack([transform(picture) for picture in pictures])).argmax(dim=1)
        right, total = right + int((best == number).sum()), total + len(pictures)
    assert right / total > 0.55


def test_the_commands_draw_and_train(tmp_path: Path) -> None:
    def run(module: str, *words: str) -> str:
        command = [sys.executable, "-m", f"benchmarks.{module}", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True).stdout

    run("photos", str(tmp_path / "photos"), "--count", "10")
    words = ["--architecture", NETWORK, "--steps", "2", "--size", "64"]
    said = run("training", str(tmp_path / "photos"), str(tmp_path / "out"), *words)
    assert "top-1 on 10 pictures held out: " in said
    assert "Gänseblümchen, iris, lotus 蓮, rose, tulip" in said
    assert str(tmp_path / "out" / "model_best.pth.tar") in said
