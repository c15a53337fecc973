"""Files of weights are read by what they contain, and no file runs anything."""

import argparse
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.utils import CheckpointSaver, ModelEmaV3

from model.build.checkpoints import read
from model.build.errors import BuildError
from tests.model.build.pickled_code import WRITERS, Code

ENDINGS = (".pth", ".pt", ".pth.tar", ".safetensors", ".bin", "")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    network: torch.nn.Module = timm.create_model("test_resnet", num_classes=3)
    return network


def same(state: dict[str, torch.Tensor], network: torch.nn.Module) -> bool:
    wanted = network.state_dict()
    return state.keys() == wanted.keys() and all(torch.equal(state[key], wanted[key]) for key in wanted)


def refusal(file: Path, use_ema: bool = False) -> str:
    with pytest.raises(BuildError) as raised:
        read(file, use_ema)
    assert str(file) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_is_read_whatever_the_file_is_called(
    tmp_path: Path, network: torch.nn.Module, ending: str, legacy: bool
) -> None:
    file = tmp_path / f"best{ending}"
    torch.save(network.state_dict(), file, _use_new_zipfile_serialization=not legacy)
    checkpoint = read(file)
    assert same(checkpoint.state, network)
    assert (checkpoint.architecture, checkpoint.arguments) == (None, {})


@pytest.mark.parametrize("ending", ENDINGS)
def test_safetensors_are_read_whatever_the_file_is_called(
    tmp_path: Path, network: torch.nn.Module, ending: str
) -> None:
    file = tmp_path / f"best{ending}"
    save_file(network.state_dict(), file)
    assert same(read(file).state, network)


def options(model: str) -> argparse.Namespace:
    """Some of what train.py leaves in its checkpoints."""
    return argparse.Namespace(
        model=model, num_classes=3, lr=0.05, mean=None, crop_pct=0.9, model_kwargs={}, opt_betas=[0.9, 0.99]
    )


def trained(folder: Path, network: torch.nn.Module, model: str, average: torch.nn.Module | None = None) -> Path:
    """Let timm's own class write what train.py writes."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    ema = None if average is None else ModelEmaV3(average)
    saver = CheckpointSaver(network, optimizer, options(model), model_ema=ema, checkpoint_dir=str(folder))
    saver.save_checkpoint(0, metric=np.float64(71.5))
    return folder / "model_best.pth.tar"


def test_a_checkpoint_of_train_py_tells_its_architecture_and_its_options(
    tmp_path: Path, network: torch.nn.Module
) -> None:
    checkpoint = read(trained(tmp_path, network, "test_resnet.r160_in1k"))
    assert same(checkpoint.state, network)
    assert checkpoint.architecture == "test_resnet.r160_in1k"
    assert checkpoint.arguments["crop_pct"] == 0.9


def test_averaged_weights_are_taken_when_they_are_asked_for(tmp_path: Path, network: torch.nn.Module) -> None:
    average = timm.create_model("test_resnet", num_classes=3)
    file = trained(tmp_path, network, "test_resnet", average)
    assert same(read(file).state, network)
    assert same(read(file, use_ema=True).state, average)


def test_averaged_weights_that_are_not_there_are_an_error(tmp_path: Path, network: torch.nn.Module) -> None:
    assert "has no averaged weights (state_dict_ema)" in refusal(trained(tmp_path, network, "test_resnet"), True)


@pytest.mark.parametrize(
    ("model", "architecture"),
    [
        ("hf-hub:timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("hf-hub:somebody/flowers", None),
        ("no_such_network", None),
        (None, None),
    ],
)
def test_only_an_architecture_that_timm_has_is_believed(
    tmp_path: Path, network: torch.nn.Module, model: Any, architecture: str | None
) -> None:
    assert read(trained(tmp_path, network, model)).architecture == architecture


@pytest.mark.parametrize("key", ["model", "model_state_dict", "state_dict_ema", "model_ema"])
def test_weights_are_found_under_the_names_of_other_scripts(tmp_path: Path, network: torch.nn.Module, key: str) -> None:
    torch.save({"epoch": 3, key: network.state_dict()}, tmp_path / "c.pth")
    assert same(read(tmp_path / "c.pth").state, network)


def compiled(module: torch.nn.Module) -> torch.nn.Module:
    wrapped: torch.nn.Module = torch.compile(module)
    return wrapped


def parallel(module: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.DataParallel(module)


@pytest.mark.parametrize(
    "wrappers", [(parallel,), (compiled,), (parallel, compiled), (compiled, parallel), (parallel, parallel)]
)
def test_prefixes_of_wrappers_are_removed(
    tmp_path: Path, network: torch.nn.Module, wrappers: tuple[Callable[[torch.nn.Module], torch.nn.Module], ...]
) -> None:
    wrapped = network
    for wrap in wrappers:
        wrapped = wrap(wrapped)
    assert not same(wrapped.state_dict(), network)
    torch.save(wrapped.state_dict(), tmp_path / "c.pth")
    assert same(read(tmp_path / "c.pth").state, network)


def test_a_layer_that_was_compiled_by_itself_has_its_name(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3)
    wanted = set(network.state_dict())
    network.layer1 = torch.compile(network.layer1)
    torch.save(network.state_dict(), tmp_path / "c.pth")
    assert read(tmp_path / "c.pth").state.keys() == wanted


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_become_float32(
    tmp_path: Path, network: torch.nn.Module, kind: torch.dtype
) -> None:
    state = {key: t.to(kind) if t.is_floating_point() else t for key, t in network.state_dict().items()}
    torch.save(state, tmp_path / "c.pth")
    save_file(state, tmp_path / "c.safetensors")
    for file in ("c.pth", "c.safetensors"):
        kinds = {tensor.dtype for tensor in read(tmp_path / file).state.values()}
        assert kinds == {torch.float32, torch.int64}


def test_tensors_may_be_transposed_shared_or_parameters(tmp_path: Path) -> None:
    weight = torch.randn(3, 4)
    torch.save({"a": weight.T, "b": weight, "c": torch.nn.Parameter(weight)}, tmp_path / "c.pth")
    state = read(tmp_path / "c.pth").state
    assert torch.equal(state["a"], weight.T)
    assert torch.equal(state["b"], weight)
    assert not state["c"].requires_grad


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("write", WRITERS)
def test_a_pickle_with_code_is_refused_and_never_runs(
    tmp_path: Path, write: Callable[[Path, Code], None], ending: str
) -> None:
    file, trace = tmp_path / f"best{ending}", tmp_path / "ran"
    write(file, Code(trace))
    refused = refusal(file)
    assert "carries code (posix.system)" in refused
    assert "torch.save(network.state_dict()" in refused
    assert not trace.exists()


def test_a_pickled_network_is_refused_as_code(tmp_path: Path, network: torch.nn.Module) -> None:
    torch.save(network, tmp_path / "whole.pth")
    assert "carries code (timm.models.resnet.ResNet)" in refusal(tmp_path / "whole.pth")


def test_torchscript_is_refused_as_code(tmp_path: Path, network: torch.nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network.eval(), torch.zeros(1, 3, 64, 64)).save(str(tmp_path / "script.pt"))
    assert "carries code (TorchScript)" in refusal(tmp_path / "script.pt")


def test_a_protocol_that_torch_cannot_read_safely_is_named(tmp_path: Path, network: torch.nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / "c.pth", pickle_protocol=4)
    refused = refusal(tmp_path / "c.pth")
    assert "newer pickle protocol" in refused
    assert "carries code" not in refused


def test_a_name_of_a_file_cannot_command_the_terminal(tmp_path: Path) -> None:
    torch.save({"\x1b[2Jweight": torch.tensor([float("nan")])}, tmp_path / "c.pth")
    assert "\x1b" not in refusal(tmp_path / "c.pth")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_said_to_be_truncated(
    tmp_path: Path, network: torch.nn.Module, form: str, share: float
) -> None:
    file = tmp_path / "c.pth"
    if form == "safetensors":
        save_file(network.state_dict(), file)
    else:
        torch.save(network.state_dict(), file, _use_new_zipfile_serialization=form == "zip")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    assert "is truncated or damaged" in refusal(file)


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("small")
    state = {"weight": torch.randn(3, 4), "steps": torch.tensor(3)}
    torch.save({"state_dict": state}, folder / "zip")
    torch.save({"state_dict": state}, folder / "legacy", _use_new_zipfile_serialization=False)
    save_file(state, folder / "safetensors")
    return [(folder / form).read_bytes() for form in ("zip", "legacy", "safetensors")]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_words(
    tmp_path: Path, small_files: list[bytes], data: st.DataObject
) -> None:
    damaged = bytearray(data.draw(st.sampled_from(small_files)))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "damaged.pth"
    file.write_bytes(damaged)
    try:
        state = read(file).state
    except BuildError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())


@pytest.mark.parametrize("text", [b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04 and no more", b"{}" * 20])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "c.pth").write_bytes(text)
    assert "is no file of weights" in refusal(tmp_path / "c.pth")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "c.pth")
    assert "Is a directory" in refusal(tmp_path)


def test_a_zip_bomb_is_refused_before_it_is_decompressed(tmp_path: Path) -> None:
    file = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("c/data.pkl", "w") as member:
        for _ in range(50):
            member.write(bytes(1_000_000))
    assert "claims to hold 50,000,000" in refusal(file)


def test_tensors_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "c.pth")
    assert "larger than the whole file" in refusal(tmp_path / "c.pth")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_counted_and_the_first_is_named(
    tmp_path: Path, network: torch.nn.Module, number: float
) -> None:
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    state["fc.weight"][0, 0] = number
    torch.save(state, tmp_path / "c.pth")
    assert f"not finite (NaN or infinity): 1 of {len(state)} tensors, first fc.weight" in refusal(tmp_path / "c.pth")


def test_float64_that_float32_cannot_hold_is_not_finite(tmp_path: Path) -> None:
    torch.save({"weight": torch.tensor([1e300], dtype=torch.float64)}, tmp_path / "c.pth")
    assert "not finite" in refusal(tmp_path / "c.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, device="meta"),
        torch.zeros(3, dtype=torch.complex64),
        torch.eye(3).to_sparse(),
    ],
)
def test_tensors_without_plain_numbers_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"weight": tensor}, tmp_path / "c.pth")
    assert "no plain numbers in weight" in refusal(tmp_path / "c.pth")


def test_a_file_without_tensors_says_what_it_has(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "weights": [1.0]}, tmp_path / "c.pth")
    assert "it has epoch, weights" in refusal(tmp_path / "c.pth")
    torch.save([1.0], tmp_path / "c.pth")
    assert "no state dict, but a list" in refusal(tmp_path / "c.pth")
