"""A folder of pictures and a checkpoint that was trained for them: both are made once in a run of the tests."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.photos import draw

NETWORK = "test_resnet"
SIZE = 64
PICTURES = 40
STEPS = 90


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder ``name`` that all processes of this run share; the first that asks for it makes it."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / f"{name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (shared / name).exists():
            made = shared / f"{name}.new"
            make(made)
            made.rename(shared / name)
    return shared / name


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of drawn flowers, which ``checkpoint`` has never seen; for reading only."""
    return _once(tmp_path_factory, "photos", lambda folder: draw(folder, PICTURES))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, as timm's ``train.py`` writes it, of a small network that knows most of ``photos``."""

    def make(folder: Path) -> None:
        import torch

        from benchmarks.training import train

        torch.set_num_threads(1)  # several threads of torch wait for each other on a busy machine
        learned = _once(tmp_path_factory, "learned", lambda drawn: draw(drawn, PICTURES, seed=1))
        train(learned, folder, NETWORK, steps=STEPS, size=SIZE, ema=True)

    return _once(tmp_path_factory, "trained", make) / "model_best.pth.tar"
