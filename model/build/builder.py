"""Build a model directory completely, or leave nothing behind. torch is imported only for what needs it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from model import libraries
from model.build import files, versions
from model.build.errors import BuildError
from model.build.progress import Progress
from model.build.request import BUILDER_VERSION, Request
from model.description import Model, ModelError, read_model, write_model

if TYPE_CHECKING:
    from model.build.origin import Origin

DEFAULT_MODELS = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")


def build(request: Request, models: Path, progress: Progress) -> Model:
    """Build a model into the folder ``models``, as ``NAME@VERSION``; ``NAME`` and the tags then point to it.

    A default model is built of its recorded network, without torch; one that this version of the builder has built
    already is returned at once. The folder of the model appears complete or not at all.

    Raises ``BuildError``, whose message says what to choose instead.
    """
    if (current := _current(request, models)) is not None:
        return current
    if request.name is not None:
        versions.check_name(request.name)
    for word in request.tags:
        versions.check_tag(word)
    try:
        with versions.unfinished(models) as folder:
            made = Path(folder) / "model"
            made.mkdir()
            origin = _origin(request, progress)
            from model.build.making import make

            model = make(request, origin, made, progress)
            write_model(model)
            return read_model(versions.publish(made, models, model, request.tags))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BuildError(f"There is no room left on the disk of {models}; nothing was kept.") from error
        raise BuildError(f"{error.filename or models} cannot be used: {error.strerror or error}.") from error


def _origin(request: Request, progress: Progress) -> Origin:
    plain = Request(request.source, name=request.name, require=request.require, tags=request.tags)
    if request.source in DEFAULT_MODELS and request == plain:
        from model.build.recorded import Recorded

        progress.step(f"reading {request.source}")
        return Recorded(request.source, progress)
    if (absent := files.absent(request.source)) is not None:
        raise BuildError(absent)
    if (missing := libraries.missing("onnxscript", "huggingface_hub")) is not None:
        raise BuildError(missing)
    progress.step("loading torch and timm")
    from model.build.loaded import Loaded

    progress.step(f"reading {request.source}")
    return Loaded(request, progress)


def _current(request: Request, models: Path) -> Model | None:
    if request.source not in DEFAULT_MODELS or request != Request(request.source, require=request.require):
        return None
    try:
        model = read_model(models / request.source)
    except ModelError:
        return None
    same = model.build.get("builder") == BUILDER_VERSION and model.build.get("source") == request.source
    return model if same and all(_has(model, required) for required in request.require) else None


def _has(model: Model, required: str) -> bool:
    return any(required in (variant.runtime, variant.name) for variant in model.variants)
