"""A build makes a complete directory or none, and leaves out whatever is not close enough to timm, with a warning."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import numpy_helper
from safetensors.torch import save as serialised

from model.build import export, quantize, transforms, trial, verdicts
from model.build.builder import DEFAULT_MODELS, build
from model.build.errors import BuildError, NotExportable, NotQuantizable
from model.build.judge import Pixels
from model.build.packages import PACKAGES
from model.build.pictures import Picture
from model.build.request import Request
from model.description import Model
from model.images import load
from tests.model.build.told import Told

FEW = 60
"""Pictures that are enough where the verdict does not hang on their number."""
FILES = ["MODEL.md", "model-int8.onnx", "model.json", "model.onnx", "model.safetensors"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, photos: Path) -> tuple[Model, Told]:
    """A model of the owner's checkpoint, judged on the owner's pictures, and what its build told."""
    told = Told()
    return build(Request(str(checkpoint), name="flowers", data=photos), tmp_path_factory.mktemp("models"), told), told


@pytest.fixture(scope="module")
def exports() -> dict[str, bytes]:
    """The ONNX files that were exported, by the digest of the network's weights and of its input's shape."""
    return {}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, exports: dict[str, bytes]) -> None:
    """Do not measure the speed, and export no network twice: they are most of a build, and ``built`` does both.

    A network exports to the same bytes every time, as test_export.py shows.
    """
    monkeypatch.setattr(trial, "measure", lambda *_: trial.Speed(1.0, 1.0, 1.0))
    honest = export.export

    def once(network: torch.nn.Module, shape: tuple[int, int, int], file: Path) -> None:
        weights = serialised({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
        key = hashlib.sha256(repr(shape).encode() + weights).hexdigest()
        if key not in exports:
            honest(network, shape, file)
            exports[key] = file.read_bytes()
        file.write_bytes(exports[key])

    monkeypatch.setattr(export, "export", once)


def variants(model: Model) -> list[str]:
    return [f"{variant.runtime} {variant.name}" for variant in model.variants]


def test_a_default_model_is_returned_at_once(models: Path) -> None:
    told = Told()
    model = build(Request(DEFAULT_MODELS[0]), models, told)
    assert model.path.resolve() == (models / DEFAULT_MODELS[0]).resolve()
    assert told.steps == []


def test_asking_again_does_not_import_torch(models: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from model.build.builder import build;"
        "from model.build.request import Request; from tests.model.build.told import Told;"
        f"build(Request({DEFAULT_MODELS[0]!r}), Path({str(models)!r}), Told()); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.strip() == "False"


def test_the_directory_is_complete_and_readable_by_all(built: tuple[Model, Told]) -> None:
    model, told = built
    wanted = FILES if len(model.variants) == 3 else [name for name in FILES if "int8" not in name]
    assert sorted(path.name for path in model.path.iterdir()) == wanted
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in model.path.iterdir())
    assert model.path.stat().st_mode & 0o555 == 0o555
    assert model.path.name == model.reference == f"flowers@{model.digest[:8]}"
    assert told.warnings == list(model.warnings)


def test_each_step_says_how_long_it_is_and_comes_to_its_end(built: tuple[Model, Told]) -> None:
    _, told = built
    assert len(told.steps) >= 8
    for step, total, advanced in zip(told.steps, told.totals, told.advanced, strict=True):
        assert advanced == (total or 0), step


def test_the_record_has_what_was_measured(built: tuple[Model, Told], photos: Path) -> None:
    model, _ = built
    pictures = len(list(photos.glob("*/*")))
    assert model.judged["pictures"] + model.judged["calibrated_with"] == pictures
    assert model.judged["data"] == "photos"
    for variant in model.variants:
        measured = variant.measured
        assert measured.top1 is not None
        assert abs(measured.top1 - model.judged["timm"]["top1"]) <= 0.01 + 1e-9 or variant.name == "int8"
        assert 0 < (measured.ms or 0) < 1000
        assert (measured.images_per_second or 0) > 1
        assert 30 < (measured.memory_mb or 0) < 3000
    assert str(model.path) not in (model.path / "model.json").read_text("utf-8")


def test_no_file_names_a_folder_of_the_machine(built: tuple[Model, Told], checkpoint: Path) -> None:
    model, _ = built
    for file in model.path.iterdir():
        for place in (Path(timm.__file__).parent, checkpoint.parent, model.path):
            assert str(place).encode() not in file.read_bytes(), (file, place)


def test_the_same_checkpoint_gets_the_same_version(
    built: tuple[Model, Told], checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "model", "build", str(checkpoint), "--name", "flowers", "--data", str(photos)]
    subprocess.run([*command, "--output", str(tmp_path)], check=True, timeout=300, capture_output=True)
    assert (tmp_path / built[0].reference).is_dir()


def spoil(file: Path, add: float) -> None:
    """Change one class's bias in an ONNX file."""
    graph = onnx.load(file)
    bias = [tensor for tensor in graph.graph.initializer if list(tensor.dims) == [5]][-1]
    values = numpy_helper.to_array(bias) + np.float32(add) * np.array([0, 1, 0, 0, 0], np.float32)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(graph, file)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("wrong", [0.1, float("nan")])
def test_an_onnx_file_that_differs_from_timm_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, photos: Path, wrong: float
) -> None:
    honest = export.export

    def export_wrongly(network: torch.nn.Module, shape: tuple[int, int, int], file: Path) -> None:
        honest(network, shape, file)
        spoil(file, wrong)

    monkeypatch.setattr(export, "export", export_wrongly)
    told = Told()
    model = build(Request(str(checkpoint), data=photos, pictures=FEW), tmp_path, told)
    assert variants(model) == ["timm fp32"]
    assert any("differs from timm" in warning and "only the runtime timm" in warning for warning in told.warnings)
    assert not list(model.path.glob("*.onnx"))
    with pytest.raises(BuildError, match=r"onnx was required, but cannot be made: .*differs from timm"):
        build(Request(str(checkpoint), data=photos, pictures=FEW, require=("onnx",)), tmp_path / "other", Told())
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_network_that_cannot_be_exported_is_served_by_timm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, photos: Path
) -> None:
    def refuse(*_: object) -> None:
        raise NotExportable("torch cannot export the network to ONNX: it has a loop.")

    monkeypatch.setattr(export, "export", refuse)
    told = Told()
    model = build(Request(str(checkpoint), data=photos, pictures=FEW), tmp_path, told)
    assert variants(model) == ["timm fp32"]
    assert any("it has a loop. So it has no ONNX file" in warning for warning in told.warnings)
    assert "runtime=timm" in (model.path / "MODEL.md").read_text("utf-8")


@pytest.mark.usefixtures("quick")
def test_an_int8_that_loses_too_much_is_left_out_and_the_model_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, photos: Path
) -> None:
    honest = quantize.quantize

    def badly(fp32: Path, int8: Path, pictures: Sequence[Picture], pixels: Pixels, *rest: Any) -> None:
        honest(fp32, int8, pictures, lambda data: 0 * pixels(data), *rest)

    monkeypatch.setattr(quantize, "quantize", badly)
    model = build(Request(str(checkpoint), data=photos, pictures=FEW), tmp_path, Told())
    assert variants(model) == ["onnx fp32", "timm fp32"]
    assert any("int8 was left out: its top-1 accuracy is" in warning for warning in model.warnings)
    assert not (model.path / "model-int8.onnx").exists()


@pytest.mark.usefixtures("quick")
def test_a_network_that_cannot_be_quantised_is_built_without_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, photos: Path
) -> None:
    def refuse(*_: object) -> None:
        raise NotQuantizable("There is no such operator.")

    monkeypatch.setattr(quantize, "quantize", refuse)
    model = build(Request(str(checkpoint), data=photos, pictures=FEW), tmp_path, Told())
    assert variants(model) == ["onnx fp32", "timm fp32"]
    assert "int8 was left out: There is no such operator." in model.warnings


@pytest.mark.usefixtures("quick")
def test_seven_bits_are_tried_when_eight_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, photos: Path
) -> None:
    faults = iter(["its weights overflow on this processor.", ""])
    monkeypatch.setattr(verdicts, "int8_fault", lambda *_: next(faults))
    model = build(Request(str(checkpoint), data=photos, pictures=FEW), tmp_path, Told())
    assert model.build["int8_weight_bits"] == 7
    assert (model.path / "model-int8.onnx").is_file()


@pytest.mark.usefixtures("quick")
def test_pixels_that_change_classes_are_timms_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, photos: Path
) -> None:
    monkeypatch.setattr(verdicts, "LEAST_FAST_AGREEMENT", 1.01)
    told = Told()
    model = build(Request(str(checkpoint), data=photos, pictures=FEW), tmp_path, told)
    assert model.preprocessing.faithful
    assert any("exactly as timm does it" in warning for warning in told.warnings)
    data = next(photos.glob("*/*")).read_bytes()
    timms = transforms.reference(data, model.preprocessing)
    assert np.abs(load(data, model.preprocessing, 10**8) - timms).max() < 1e-5
    assert model.variants[0].measured.agreement == 1


@pytest.mark.usefixtures("quick")
def test_fast_pixels_are_taken_when_they_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, photos: Path
) -> None:
    monkeypatch.setattr(verdicts, "LEAST_FAST_AGREEMENT", 0.5)
    model = build(Request(str(checkpoint), data=photos, pictures=FEW), tmp_path, Told())
    assert not model.preprocessing.faithful
    assert 0 <= model.judged["fast_path"]["changed"] < 0.5


@pytest.mark.usefixtures("quick")
def test_a_flat_folder_judges_by_likeness_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, photos: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(photos.glob("*/*")):
        (flat / f"{number}{file.suffix}").write_bytes(file.read_bytes())
    (tmp_path / "labels.txt").write_text("rose\n蓮\n\nGänseblümchen\niris\n", "utf-8")
    given = Request(str(checkpoint), name="flat", data=flat, pictures=FEW, labels=tmp_path / "labels.txt")
    model = build(given, tmp_path / "models", Told())
    assert model.labels == ("rose", "蓮", "class 2", "Gänseblümchen", "iris")
    assert model.judged["timm"] == {"top1": None, "top5": None}
    assert all(variant.measured.top1 is None for variant in model.variants)
    assert any("class 2" in warning for warning in model.warnings)


@pytest.mark.usefixtures("quick")
def test_without_pictures_and_labels_the_build_warns(tmp_path: Path, checkpoint: Path) -> None:
    model = build(Request(str(checkpoint)), tmp_path, Told())
    assert model.labels[0] == "class 0"
    assert any("--labels" in warning for warning in model.warnings)
    assert model.judged["data"] == "own pictures"


@pytest.mark.usefixtures("quick")
def test_pictures_that_do_not_decode_are_named_and_skipped(
    tmp_path: Path, checkpoint: Path, photos: Path, copied: Callable[[Path], Path]
) -> None:
    copy = copied(photos)
    broken = next(iter(sorted(copy.glob("*/*"))))
    broken.write_bytes(b"\xff\xd8\xff no picture")
    model = build(Request(str(checkpoint), data=copy), tmp_path / "models", Told())
    assert any(broken.name in warning for warning in model.warnings)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A function that copies a folder."""
    import shutil

    return lambda folder: Path(shutil.copytree(folder, tmp_path / folder.name))


@pytest.mark.usefixtures("quick")
def test_the_averaged_weights_are_another_version(
    built: tuple[Model, Told], checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    model = build(Request(str(checkpoint), name="flowers", data=photos, use_ema=True), tmp_path, Told())
    assert model.version != built[0].version


@pytest.mark.usefixtures("quick")
def test_given_preprocessing_is_kept(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    given = {"input_size": [3, 48, 80], "mean": [0.4, 0.5, 0.6], "crop_mode": "squash", "interpolation": "bilinear"}
    model = build(Request(str(checkpoint), data=photos, pictures=FEW, preprocessing=given), tmp_path, Told())
    how = replace(model.preprocessing, faithful=False, crop_pct=1.0)
    assert (how.width, how.height, how.mean) == (80, 48, (0.4, 0.5, 0.6))
    assert (how.crop_mode, how.interpolation) == ("squash", "bilinear")
    assert model.variants[0].runtime == "onnx"


def test_the_module_names_the_defaults() -> None:
    assert set(DEFAULT_MODELS) <= set(PACKAGES)


def test_the_record_is_what_is_read(built: tuple[Model, Told]) -> None:
    fields = json.loads((built[0].path / "model.json").read_text("utf-8"))
    assert fields["version"] == built[0].version
    assert fields["build"]["source"] == "model_best.pth.tar"
