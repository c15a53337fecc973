"""Try a model on one made picture, as a push does before a model can be used and a worker before it asks for work."""

import numpy as np
from numpy.typing import NDArray

from model.description import Model, ModelError
from model.images import normalise
from model.runtimes.base import Runtime


def set_up(model: Model, runtime: Runtime, variant: str, device: str = "cpu") -> None:
    """Load the model's ``variant`` (``fp32`` or ``int8``) on ``device``, and try it out.

    Raises ``ModelError`` for whatever goes wrong, also in the library.
    """
    try:
        runtime.setup(model, variant, device)
    except ModelError:
        raise
    except Exception as error:  # the libraries have no common class of errors
        raise ModelError(f"{model.reference} cannot be loaded: {type(error).__name__}: {error}") from error
    try_out(model, runtime)


def try_out(model: Model, runtime: Runtime) -> None:
    """Classify one made picture with a runtime that has loaded ``model``.

    It takes as long as a picture that is decoded already (10 ms for lite0), and warms the runtime up.

    Raises ``ModelError`` if the library fails, or the answer is anything but a finite number for each class.
    """
    try:
        (logits,) = runtime.predict([normalise(_picture(model), model.preprocessing)])
        check(logits, len(model.labels))
    except ModelError as error:
        raise ModelError(f"{model.reference} fails on a made picture. {error}") from error
    except Exception as error:  # the libraries have no common class of errors
        raise ModelError(f"{model.reference} fails on a made picture: {type(error).__name__}: {error}") from error


def check(logits: NDArray[np.float32], classes: int) -> None:
    """Raise ``ModelError`` unless this is a finite number for each of so many classes."""
    if logits.shape != (classes,):
        raise ModelError(f"It gives an output of shape {logits.shape} for {classes} classes.")
    if not np.isfinite(logits).all():
        raise ModelError("It gives logits that are not finite numbers.")


def _picture(model: Model) -> NDArray[np.uint8]:
    """Slanted stripes of all brightnesses: an even picture would leave parts of a network without any work."""
    height, width, channels = model.preprocessing.height, model.preprocessing.width, model.preprocessing.channels
    down, across, channel = np.ogrid[:height, :width, :channels]
    stripes: NDArray[np.uint8] = ((3 * down + 5 * across + 80 * channel) % 256).astype(np.uint8)
    return stripes
