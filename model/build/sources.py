"""Load the timm network that an owner has: in a package, on the hub, in a folder, a zip file or a checkpoint."""

import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset

from model.build import checkpoints, configs, hub, networks
from model.build.errors import BuildError
from model.build.facts import Facts
from model.build.files import ENDINGS, FOLDER, HUB, absent
from model.build.packages import LICENCE, PACKAGES, weights_of
from model.build.progress import Progress
from model.build.versions import MOST_CHARACTERS

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The files of weights in timm's layout; the first one that is there is taken."""

UNKNOWN_LICENCE = "unknown: given as a file"

_CONFIG_IN_ZIP = re.compile(r"(?:[^/]+/)?config\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Facts):
    """A network that is ready to be exported, and what its source tells about it."""

    network: torch.nn.Module
    """timm's network with its weights, in evaluation mode; its ``pretrained_cfg`` says how pictures are prepared."""
    data: Mapping[str, Any]
    """The options of timm's ``train.py``, for ``timm.data.resolve_data_config``."""


def load(source: str, *, architecture: str | None = None, use_ema: bool = False, progress: Progress) -> Source:
    """Load the network that ``source`` names.

    ``source`` is a timm name of ``PACKAGES``, ``hf-hub:OWNER/NAME``, a folder or a zip file in the layout of timm's
    hub, or a checkpoint. ``architecture`` is timm's name of the network, where the source does not tell. ``use_ema``
    takes the averaged weights of a checkpoint.

    Raises ``BuildError``, whose message says what to mend.
    """
    if architecture is not None:
        networks.check_architecture(architecture)
    loading = _Loading(architecture, use_ema, progress)
    if source.startswith(HUB):
        return loading.from_hub(source[len(HUB[0]) :])
    path = Path(source.removeprefix(FOLDER))
    if source in PACKAGES:
        return loading.from_package(source)
    if path.is_dir():
        return loading.from_folder(path)
    if path.is_file():
        return loading.from_zip(path) if _is_zip_of_folder(path) else loading.from_checkpoint(path)
    raise BuildError(_nothing(source))


def _nothing(source: str) -> str:
    """Say what to do about a source that is neither here nor in a package."""
    shown = checkpoints.shown(source)
    if not timm.is_model(source):
        if (missing := absent(source)) is not None:
            return missing
        try:
            networks.check_architecture(source)
        except BuildError as error:
            return f"{error} There is no file or folder of this name either."
    config = timm.models.get_pretrained_cfg(source.partition(".")[0])
    found = config.hf_hub_id if config is not None and config.hf_hub_id else "OWNER/NAME"
    repository = f"timm/{source}" if "." in source else found
    return (
        f"No package has weights for {shown}, only for {', '.join(PACKAGES)}. Name a checkpoint, or let the hub's be "
        f"downloaded: tierserve model build hf-hub:{repository}"
    )


def fit_name(text: str, otherwise: str) -> str:
    """Make a name for a model from the name of a file, a folder or a repository."""
    while (shorter := _without_ending(text)) != text:
        text = shorter
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:MOST_CHARACTERS] or otherwise


def _without_ending(text: str) -> str:
    return next((text[: -len(ending)] for ending in ENDINGS if text.lower().endswith(ending)), text)


def _is_zip_of_folder(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            if opened.read(len(checkpoints.ZIP)) != checkpoints.ZIP:
                return False
        with zipfile.ZipFile(file) as archive:
            return not any(name.rpartition("/")[2] in ("data.pkl", "constants.pkl") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False  # a checkpoint, or damaged: reading it says so


class _Loading:
    def __init__(self, architecture: str | None, use_ema: bool, progress: Progress) -> None:
        self._architecture, self._use_ema, self._progress = architecture, use_ema, progress

    def from_package(self, name: str) -> Source:
        """Load weights that a package contains."""
        self._require_same(name, name)
        file, weights = weights_of(name)
        # The packages use the names of another library, in timm's order, so there is nothing to warn of.
        state = checkpoints.read(file, self._use_ema, weights).state
        network, arguments = networks.fitted(state, name, {}, weights, lambda _: None)
        networks.prepare_for(network, arguments, {})
        return _with_imagenet_labels(
            Source(
                network=network,
                data={},
                name=name,
                architecture=name,
                arguments=arguments,
                label_names=None,
                label_descriptions=None,
                weights=weights,
                licence=LICENCE,
            )
        )

    def from_hub(self, repository: str) -> Source:
        """Load a repository of the hub, ``OWNER/NAME`` or ``OWNER/NAME@REVISION``."""
        repository, _, revision = repository.partition("@")
        called = f"hf-hub:{repository}"
        self._progress.step(f"downloading {called}")
        config = hub.fetch(repository, revision or None, configs.NAME)
        if config is None:
            raise BuildError(f"{called} has no {configs.NAME}, so it is no model of timm.")
        commit = config.parent.name
        fetched = ((name, hub.fetch(repository, commit, name)) for name in WEIGHTS)
        name, weights = next(((name, file) for name, file in fetched if file is not None), ("", None))
        if weights is None:
            raise BuildError(f"{called} has neither {' nor '.join(WEIGHTS)}.")
        owner, _, short = repository.rpartition("/")
        source = self._from_layout(config, weights, f"{called}: {name}", short)
        source = replace(source, weights=f"{called}@{commit}")
        return _with_imagenet_labels(source) if owner == "timm" else source

    def from_folder(self, folder: Path) -> Source:
        """Load a folder in the layout of timm's hub."""
        config = folder / configs.NAME
        if not config.is_file():
            raise BuildError(
                f"{folder} has no {configs.NAME}, so it is no model of timm. If it holds a checkpoint, name that file."
            )
        weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
        if weights is None:
            raise BuildError(f"{folder} has neither {' nor '.join(WEIGHTS)}.")
        return replace(
            self._from_layout(config, weights, str(weights), folder.resolve().name), weights=folder.resolve().name
        )

    def from_zip(self, file: Path) -> Source:
        """Load a zip file that contains a folder in the layout of timm's hub; nothing else of it is unpacked."""
        with TemporaryDirectory() as folder:
            name = _unpack(file, Path(folder))
            config, weights = Path(folder, configs.NAME), Path(folder, name)
            return replace(self._from_layout(config, weights, f"{file}: {name}", file.name), weights=file.name)

    def from_checkpoint(self, file: Path) -> Source:
        """Load a state dict, or what timm's ``train.py`` saved."""
        checkpoint = checkpoints.read(file, self._use_ema)
        architecture = self._architecture or checkpoint.architecture
        if architecture is None:
            raise BuildError(
                f"{file} does not say which network its tensors belong to: add --architecture NAME with timm's name of "
                "it, such as --architecture resnet18."
            )
        arguments = _trained_with(checkpoint.arguments, str(file))
        network, arguments = networks.fitted(checkpoint.state, architecture, arguments, str(file), self._progress.warn)
        networks.prepare_for(network, arguments, {})
        short = architecture.partition(".")[0]
        name = fit_name(file.name, short)
        return Source(
            network=network,
            data=checkpoint.arguments,
            name=name,
            architecture=short,
            arguments=arguments,
            label_names=None,
            label_descriptions=None,
            weights=file.name,
            licence=UNKNOWN_LICENCE,
        )

    def _from_layout(self, config: Path, weights: Path, where: str, name: str) -> Source:
        told = configs.parse(_bounded(config), f"{where.rpartition(weights.name)[0]}{configs.NAME}")
        self._require_same(told.architecture, where)
        state = checkpoints.read(weights, self._use_ema, where).state
        network, arguments = networks.fitted(state, told.architecture, told.arguments, where, self._progress.warn)
        networks.prepare_for(network, arguments, told.prepared)
        architecture = told.architecture.partition(".")[0]
        return Source(
            network=network,
            architecture=architecture,
            arguments=arguments,
            name=fit_name(name, architecture),
            data={},
            label_names=told.label_names,
            label_descriptions=told.label_descriptions,
            weights=where,
            licence=told.licence or UNKNOWN_LICENCE,
        )

    def _require_same(self, told: str, where: str) -> None:
        asked = self._architecture
        if asked is not None and asked.partition(".")[0] != told.partition(".")[0]:
            raise BuildError(f"{where} is a {checkpoints.shown(told)}, not a {asked}; leave --architecture out.")


def _bounded(config: Path) -> bytes:
    try:
        with config.open("rb") as opened:
            return opened.read(configs.MOST_BYTES + 1)
    except OSError as error:
        raise BuildError(f"{config} cannot be read: {error.strerror or error}.") from error


def _unpack(file: Path, folder: Path) -> str:
    """Copy the config and the weights into ``folder``, under names of our own; return that of the weights."""
    try:
        with zipfile.ZipFile(file) as archive:
            checkpoints.check_inflation(file, archive, str(file))
            inside, weights = _layout_in(archive, file)
            for name in (configs.NAME, weights):
                with archive.open(inside + name) as packed, (folder / name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
            return weights
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BuildError(f"{file} cannot be unpacked, it is damaged or encrypted: {error}.") from error
    except OSError as error:
        raise BuildError(f"{file} cannot be unpacked: {error.strerror or error}.") from error


def _layout_in(archive: zipfile.ZipFile, file: Path) -> tuple[str, str]:
    """Find the config, in the zip file itself or in a folder of it; return that folder and the name of the weights."""
    names = set(archive.namelist())
    found = sorted((name for name in names if _CONFIG_IN_ZIP.fullmatch(name)), key=len)
    if not found:
        raise BuildError(f"{file} has no {configs.NAME}, so it holds no model of timm.")
    inside = found[0].removesuffix(configs.NAME)
    weights = next((name for name in WEIGHTS if inside + name in names), None)
    if weights is None:
        raise BuildError(f"{file} has neither {' nor '.join(WEIGHTS)} beside its {configs.NAME}.")
    return inside, weights


def _trained_with(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return those options of ``train.py`` that change what its network computes."""
    more = options.get("model_kwargs") or {}
    if not isinstance(more, Mapping):
        raise BuildError(f"{where} has model_kwargs that are no map.")
    return configs.check_arguments({"global_pool": options.get("gp"), "bn_eps": options.get("bn_eps"), **more}, where)


def _with_imagenet_labels(source: Source) -> Source:
    """Name the classes of timm's own networks, whose configs do not: they are those of ImageNet or a subset of it."""
    subset = infer_imagenet_subset(source.network)
    if subset is None or source.label_names is not None:
        return source
    info = ImageNetInfo(subset)
    return replace(
        source,
        label_names=tuple(info.label_names()),
        label_descriptions=tuple(info.label_descriptions()),
    )
