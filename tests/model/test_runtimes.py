"""Both runtimes give the right class with both default models, agree with each other, and fail with clear errors."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from timm.data import create_transform
from timm.layers import BatchNormAct2d, StdConv2d
from torch import nn

from model.build.builder import DEFAULT_MODELS
from model.images import load
from model.runtimes.base import Model, ModelError, Runtime, read_model, scores, softmax, top
from model.runtimes.onnx import OnnxRuntime
from model.runtimes.timm import TimmRuntime, fold_batch_norms, simplify

PICTURES = Path(__file__).parents[2] / "model" / "pictures"
CATS = ("tabby", "tiger cat", "Egyptian cat", "Persian cat", "Siamese cat")
LIMIT = 40_000_000
VARIANTS = [(OnnxRuntime, "fp32"), (OnnxRuntime, "int8"), (TimmRuntime, "fp32")]


def ready(kind: type[Runtime], model: Model, variant: str) -> Runtime:
    runtime = kind()
    runtime.setup(model, variant)
    return runtime


def picture(name: str, model: Model) -> np.ndarray:
    return load((PICTURES / f"{name}.jpg").read_bytes(), model.preprocessing, LIMIT)


@pytest.fixture(params=DEFAULT_MODELS)
def model(models: Path, request: pytest.FixtureRequest) -> Model:
    return read_model(models / request.param)


@pytest.mark.parametrize(("kind", "variant"), VARIANTS)
def test_a_cat_is_a_cat_and_a_coffee_an_espresso(model: Model, kind: type[Runtime], variant: str) -> None:
    cat, espresso = ready(kind, model, variant).predict([picture("cat", model), picture("espresso", model)])
    assert top(cat, model.labels, 1)[0][0].startswith(CATS)
    label, probability = top(espresso, model.labels, 1)[0]
    assert label == "espresso"
    assert probability > 0.5


@pytest.mark.parametrize(("kind", "variant"), VARIANTS)
def test_predict_takes_and_gives_lists_of_any_length(model: Model, kind: type[Runtime], variant: str) -> None:
    runtime = ready(kind, model, variant)
    batch = [picture(name, model) for name in ("cat", "rocket", "camera")]
    assert runtime.predict([]) == []
    together = runtime.predict(batch)
    assert isinstance(together, list)
    for alone, logits in zip(batch, together, strict=True):
        assert logits.shape == (len(model.labels),)
        assert logits.dtype == np.float32
        assert softmax(logits).sum() == pytest.approx(1, abs=1e-5)
        assert np.allclose(runtime.predict([alone])[0], logits, atol=1e-3)


def test_the_runtimes_agree(model: Model) -> None:
    batch = [picture(file.stem, model) for file in sorted(PICTURES.glob("*.jpg"))]
    timm_says = softmax(np.stack(ready(TimmRuntime, model, "fp32").predict(batch)))
    fp32 = softmax(np.stack(ready(OnnxRuntime, model, "fp32").predict(batch)))
    int8 = softmax(np.stack(ready(OnnxRuntime, model, "int8").predict(batch)))
    assert np.allclose(timm_says, fp32, atol=1e-4)
    # The total variation is about 0.05 on processors with VNNI and 0.12 on others.
    assert np.abs(fp32 - int8).sum(axis=1).mean() / 2 < 0.15
    sure = fp32.max(axis=1) > 0.5
    assert sure.sum() >= 2
    assert (fp32.argmax(axis=1) == int8.argmax(axis=1))[sure].all()


def test_our_decoding_gives_timms_class(model: Model) -> None:
    how = model.preprocessing
    transform = create_transform(
        how.shape, crop_pct=how.crop_pct, interpolation=how.interpolation, mean=how.mean, std=how.std
    )
    runtime = ready(OnnxRuntime, model, "fp32")
    for file in PICTURES.glob("*.jpg"):
        with Image.open(file) as opened:
            theirs = softmax(runtime.predict([transform(opened.convert("RGB")).numpy()])[0])
        ours = softmax(runtime.predict([picture(file.stem, model)])[0])
        assert np.abs(ours - theirs).sum() / 2 < 0.2, file.stem
        if theirs.max() > 0.3:
            assert ours.argmax() == theirs.argmax(), file.stem


def test_labels_are_readable_and_unique(model: Model) -> None:
    assert len(set(model.labels)) == len(model.labels) == 1000
    assert model.labels[281] == "tabby, tabby cat"
    assert model.labels[134].startswith("crane (n")


def test_top_is_best_first_and_stops_at_the_classes() -> None:
    logits = np.log(np.array([0.2, 0.5, 0.3], np.float32))
    best = top(logits, "abc", 2)
    assert [label for label, _ in best] == ["b", "c"]
    assert [score for _, score in best] == pytest.approx([0.5, 0.3])
    assert len(top(np.array([0.2, 0.8], np.float32), "ab", 5)) == 2


def test_softmax_does_not_overflow() -> None:
    assert softmax(np.array([1000, 1000, -1000], np.float32)).tolist() == [0.5, 0.5, 0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("function", "expected"),
    [("softmax", [1, 0, 0]), ("sigmoid", [1, 0.5, 0]), ("none", [1000, 0, -1000])],
)
def test_each_function_gives_finite_scores_of_any_logits(function: str, expected: list[float]) -> None:
    found = scores(np.array([1000, 0, -1000], np.float32), function)
    assert found.tolist() == expected
    assert found.dtype == np.float32


def test_a_function_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no function relu"):
        scores(np.zeros(3, np.float32), "relu")


@given(
    arrays(np.float32, st.integers(1, 20), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.sampled_from(["softmax", "sigmoid", "none"]),
)
def test_every_function_leaves_the_order_of_the_classes(logits: np.ndarray, function: str) -> None:
    labels = [str(number) for number in range(len(logits))]
    best = top(logits, labels, len(labels), function)
    assert [label for label, _ in best] == [label for label, _ in top(logits, labels, len(labels), "none")]
    found = [score for _, score in best]
    assert found == sorted(found, reverse=True)
    if function != "none":
        assert all(0 <= score <= 1.001 for score in found)


def unlike(network: nn.Module) -> nn.Module:
    """Give the batch norms of a network statistics that matter, the same every time, and end its training."""
    generator = torch.Generator().manual_seed(1)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def same_after(change: Callable[[nn.Module], None], network: nn.Module, channels: int = 3) -> bool:
    """Whether a network says the same after the change."""
    noise = torch.randn(2, channels, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = network(noise)
        change(network)
        return bool(torch.allclose(before, network(noise), rtol=1e-3, atol=1e-3))


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "left"),
    # densenet121 has norms before its convolutions, which cannot be folded into these.
    [("tf_efficientnet_lite0", 0), ("repvgg_a0", 0), ("fastvit_t8", 0), ("densenet121", 62)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_simplifying_changes_nothing_but_the_number_of_layers(name: str, left: int, channels: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = unlike(timm.create_model(name, num_classes=5, in_chans=channels))
    before = sum(1 for _ in network.modules())
    assert same_after(lambda made: simplify(made, (channels, 64, 96)), network, channels)
    assert norms(network) == left
    assert sum(1 for _ in network.modules()) < before


class Twice(nn.Module):  # type: ignore[misc]
    """Reads the output of its convolution a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        out = self.conv(pictures)
        return self.norm(out) + torch.cat([out, out], dim=1)[:, 2:6]


class Shared(nn.Module):  # type: ignore[misc]
    """Runs one convolution twice, with a norm after the first time only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(self.conv(pictures)).relu())


UNFOLDABLE: dict[str, Callable[[], nn.Module]] = {
    "the activation works in place": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(True), nn.BatchNorm2d(4)),
    "another layer reads the convolution": Twice,
    "the convolution is used twice": Shared,
    "the convolution standardises its weights": lambda: nn.Sequential(StdConv2d(3, 4, 3), nn.BatchNorm2d(4)),
    "the norm keeps no statistics": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)
    ),
}


@pytest.mark.parametrize("why", UNFOLDABLE)
def test_a_norm_is_left_alone_when(why: str) -> None:
    network = unlike(UNFOLDABLE[why]())
    assert same_after(lambda made: fold_batch_norms(made, (3, 64, 96)), network)
    assert norms(network) == 1


def test_a_norm_with_an_activation_and_one_without_weights_are_folded() -> None:
    network = unlike(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), BatchNormAct2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False)
        )
    )
    assert same_after(lambda made: fold_batch_norms(made, (3, 64, 96)), network)
    assert norms(network) == 0


def test_a_missing_model_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"tierserve model list --models {tmp_path}"):
        read_model(tmp_path / "resnet18")


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models / DEFAULT_MODELS[0], tmp_path / DEFAULT_MODELS[0]))


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"name": 1}', "\xff"])
def test_an_unreadable_record_names_the_command(copy: Path, record: str) -> None:
    (copy / "model.json").write_bytes(record.encode("latin-1"))
    with pytest.raises(ModelError, match=r"cannot be read .*tierserve model list"):
        read_model(copy)


def test_a_missing_or_cut_file_is_seen_when_reading(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"cut")
    with pytest.raises(ModelError, match=r"model\.onnx is missing or incomplete"):
        read_model(copy)


@pytest.mark.parametrize(("kind", "variant"), VARIANTS)
def test_a_changed_file_is_seen_when_loading(copy: Path, kind: type[Runtime], variant: str) -> None:
    model = read_model(copy)
    name = "timm" if kind is TimmRuntime else "onnx"
    file = copy / model.variant(name, variant).file
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match=r"checksum.*tierserve model list"):
        ready(kind, read_model(copy), variant)


def test_unknown_variants_and_devices_are_named(model: Model) -> None:
    with pytest.raises(ModelError, match="choose one of onnx/fp32, onnx/int8, timm/fp32"):
        ready(TimmRuntime, model, "int8")
    with pytest.raises(ModelError, match="cpu only"):
        OnnxRuntime().setup(model, "fp32", "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(model: Model) -> None:
    with pytest.raises(ModelError, match="no device cuda"):
        TimmRuntime().setup(model, "fp32", "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: make test on a machine with CUDA")
def test_a_gpu_agrees(model: Model) -> None:
    batch = [picture(file.stem, model) for file in sorted(PICTURES.glob("*.jpg"))]
    runtime = TimmRuntime()
    runtime.setup(model, "fp32", "cuda")
    assert np.allclose(runtime.predict(batch), ready(OnnxRuntime, model, "fp32").predict(batch), atol=1e-2)


def test_a_worker_is_small(models: Path) -> None:
    code = """
import sys
from pathlib import Path
from model.images import load
from model.runtimes.base import read_model
from model.runtimes.onnx import OnnxRuntime
model = read_model(Path(sys.argv[1])); runtime = OnnxRuntime(); runtime.setup(model, sys.argv[2])
for _ in range(5):
    runtime.predict([load(Path(sys.argv[3]).read_bytes(), model.preprocessing, 40_000_000)])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    for name, variant in zip(DEFAULT_MODELS, ("int8", "fp32"), strict=True):
        command = [sys.executable, "-c", code, str(models / name), variant, str(PICTURES / "rocket.jpg")]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert int(out) // 1024 <= 180, f"{name} {variant}: {out} KiB: is torch imported?"


def test_the_record_tells_how_it_was_made(models: Path) -> None:
    for name in DEFAULT_MODELS:
        record = json.loads((models / name / "model.json").read_text())
        assert record["build"]["licence"] == "Apache-2.0"
        assert record["judged"]["pictures"] >= 100
        assert {variant["file"] for variant in record["variants"]} == {
            "model.onnx",
            "model-int8.onnx",
            "model.safetensors",
        }
