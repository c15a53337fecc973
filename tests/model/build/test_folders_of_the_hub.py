"""A folder or a zip file in the layout of timm's hub becomes the network that it describes, and never anything else."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.data import resolve_data_config
from timm.models import save_for_hf

from model.build.sources import Source
from tests.model.build.pickled_code import WRITERS, Code
from tests.model.build.sourced import loaded, refusal, same, trained

NAMES = ("n01", "n02", "n03")
DESCRIPTIONS = {"n01": "daisy", "n02": "rose, 玫瑰", "n03": "tulip"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def test_an_architecture_that_contradicts_the_source(folder: Path) -> None:
    assert "is a test_efficientnet, not a resnet18" in refusal(folder, architecture="resnet18")
    assert "is a tf_efficientnet_lite0, not a resnet18" in refusal("tf_efficientnet_lite0", architecture="resnet18")
    expect_flowers(loaded(folder, architecture="test_efficientnet.r160_in1k"), folder)


def test_averaged_weights_of_a_folder_are_an_error(folder: Path) -> None:
    assert load_file(folder / "model.safetensors")
    assert "no averaged weights" in refusal(folder, use_ema=True)
