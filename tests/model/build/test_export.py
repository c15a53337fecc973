"""Networks are simplified without a change in what they say, and exported to the same bytes everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch

from model.build.errors import NotExportable
from model.build.export import MOST_BYTES, export, simplified

SHAPE = (1, 64, 96)


def network(name: str, channels: int = 1) -> torch.nn.Module:
    """A small network with three classes, and the same random weights and statistics every time."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = timm.create_model(name, num_classes=3, in_chans=channels).eval()
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    assert isinstance(made, torch.nn.Module)
    return made


def said(made: torch.nn.Module, picture: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(made(torch.from_numpy(picture)))


@pytest.mark.parametrize("name", ["test_resnet", "lcnet_050", "fastvit_t8"])
def test_grey_and_non_square_inputs_are_exported_without_a_change(name: str, tmp_path: Path) -> None:
    made = network(name)
    picture = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float32)
    expected = said(made, picture)
    lean = simplified(made, SHAPE)
    export(lean, SHAPE, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(put.name, put.shape) for put in (*session.get_inputs(), *session.get_outputs())] == [
        ("image", [1, *SHAPE]),
        ("logits", [1, 3]),
    ]
    assert np.allclose(session.run(None, {"image": picture})[0], expected, rtol=1e-3, atol=1e-3)
    assert np.allclose(said(lean, picture), expected, rtol=1e-3, atol=1e-3)
    assert np.array_equal(said(made, picture), expected), "the network itself has changed"


def test_the_bytes_are_the_same_in_every_process_and_name_no_path(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import torch
from model.build.export import export, simplified
from tests.model.build.test_export import SHAPE, network
torch.set_num_threads(1)
for name in ("test_resnet", "lcnet_050"):
    export(simplified(network(name), SHAPE), SHAPE, Path(sys.argv[1]) / name)
"""
    files = []
    for seed in ("1", "2"):
        (folder := tmp_path / seed).mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        # With other sizes of the environment and the heap, objects get other addresses.
        subprocess.run(
            [sys.executable, "-c", "x" + seed + " = [object()] * 1000\n" + code, str(folder)],
            check=True,
            timeout=110,
            capture_output=True,
            env=environment,
        )
        files.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert files[0] == files[1]
    for data in files[0].values():
        assert not [place for place in (b"site-packages", b"/usr", bytes(Path.cwd()), b"timm/") if place in data]


def test_the_graph_is_valid_and_its_names_are_unique(tmp_path: Path) -> None:
    export(simplified(network("test_resnet"), SHAPE), SHAPE, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    nodes = [node.name for node in graph.graph.node]
    assert len(set(nodes)) == len(nodes)
    assert "conv1.0.weight" in {weight.name for weight in graph.graph.initializer}


class Strange(torch.nn.Module):  # type: ignore[misc]
    """A network that torch cannot export: the shape of its output depends on what it sees."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.flatten(1) if pictures.sum() > 0 else pictures.flatten(1)[:, :3]


class Exotic(torch.nn.Module):  # type: ignore[misc]
    """A network with an operation that ONNX has not."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(pictures).flatten(1)


@pytest.mark.parametrize(("kind", "reason"), [(Strange, "data-dependent"), (Exotic, "No ONNX function found for")])
def test_what_torch_cannot_export_says_why(kind: type[torch.nn.Module], reason: str, tmp_path: Path) -> None:
    with pytest.raises(NotExportable, match=f"torch cannot export the network to ONNX: .*{reason}") as raised:
        export(kind().eval(), SHAPE, tmp_path / "model.onnx")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_no_file_holds_says_both_sizes(tmp_path: Path) -> None:
    huge = torch.nn.Linear(2**20, 2**10, device="meta")
    with pytest.raises(NotExportable, match=f"{4 * (2**30 + 2**10)} bytes of weights; .* at most {MOST_BYTES}"):
        export(huge, SHAPE, tmp_path / "model.onnx")


def test_a_file_that_cannot_be_written_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        export(network("test_resnet"), SHAPE, tmp_path / "nowhere" / "model.onnx")
