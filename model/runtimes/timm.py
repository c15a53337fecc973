"""timm's own network in torch: for GPUs, for models that cannot be exported, and as the reference for ``onnx``."""

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.runtimes.base import Model, ModelError, Runtime

# The import of torch and timm makes a million objects that stay: to look for garbage among them would only cost time.
gc.disable()
import timm  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from timm.layers import BatchNormAct2d, Conv2dSame  # noqa: E402
from timm.models import reparameterize_model  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402

gc.enable()

_ABOUT = (bool, int, torch.Size, torch.dtype, torch.device)  # what a call returns that asks about a tensor's form only


class TimmRuntime(Runtime):
    """Runs ``model.safetensors`` (``fp32``) on ``cpu``, with one thread, or on ``cuda``."""

    batches = True

    def setup(self, model: Model, variant: str, device: str = "cpu") -> None:
        """Load the network, simplify it and move it to the device."""
        if device == "cpu":
            torch.set_num_threads(1)
        elif not torch.cuda.is_available():
            raise ModelError(f"torch finds no device {device} here; use device cpu, with runtime onnx for speed.")
        file = model.checked_file(model.variant("timm", variant))
        network = timm.create_model(model.architecture, **model.arguments)
        network.load_state_dict(load_file(file))
        simplify(network.eval(), model.preprocessing.shape)
        self._network = network.to(device, memory_format=torch.channels_last)
        self._device = device

    def predict(self, batch: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Classify the whole batch in one pass."""
        if not batch:
            return []
        with torch.inference_mode():
            pictures = torch.from_numpy(np.stack(batch)).to(self._device, memory_format=torch.channels_last)
            logits: NDArray[np.float32] = self._network(pictures).cpu().numpy()
        return list(logits)


def simplify(network: torch.nn.Module, shape: tuple[int, int, int]) -> None:
    """Replace, in place, layers that are needed for training only; the logits stay the same but for rounding.

    Parallel branches become one convolution where timm knows how, and batch norms are folded into convolutions.
    ``network`` is in evaluation mode; ``shape`` is its input: channels, height, width.
    """
    reparameterize_model(network, inplace=True)
    fold_batch_norms(network, shape)


def fold_batch_norms(network: torch.nn.Module, shape: tuple[int, int, int]) -> None:
    """Fold each batch norm that directly follows a convolution into it, in place; ``network`` is in evaluation mode.

    What follows what is observed in one pass over an empty picture of ``shape``, because the names of
    layers do not tell.
    """
    pairs = foldable(network, shape)
    for convolution, norm in pairs:
        _fold(convolution, norm)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if any(child is norm for _, norm in pairs):
                setattr(parent, name, child.act if isinstance(child, BatchNormAct2d) else torch.nn.Identity())


def foldable(
    network: torch.nn.Module, shape: tuple[int, int, int]
) -> list[tuple[torch.nn.Conv2d, torch.nn.BatchNorm2d]]:
    """Return the convolutions whose output only a batch norm reads, each with that batch norm.

    ``network`` is in evaluation mode; ``shape`` is its input: channels, height, width.
    """
    made_by: dict[int, torch.nn.Conv2d] = {}
    kept = []  # keeps the outputs alive: the id of one that was freed would be given to a later tensor
    followed: list[tuple[int, torch.nn.BatchNorm2d]] = []
    runs: Counter[torch.nn.Module] = Counter()
    readers = _Readers()

    def note_convolution(module: torch.nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        made_by[id(output)] = module
        readers.times[id(output)] = 0
        kept.append(output)
        runs[module] += 1

    def note_norm(module: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...], _: Any) -> None:
        if id(inputs[0]) in made_by:
            followed.append((id(inputs[0]), module))
        runs[module] += 1

    # These types only: others change the weights before they use them, as weight standardisation does.
    hooks = [
        module.register_forward_hook(note_convolution if isinstance(module, torch.nn.Conv2d) else note_norm)
        for module in network.modules()
        if type(module) in (torch.nn.Conv2d, Conv2dSame, torch.nn.BatchNorm2d, BatchNormAct2d)
    ]
    with torch.no_grad(), readers:
        network(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return [
        (made_by[tensor], norm)
        for tensor, norm in followed
        if readers.times[tensor] == runs[made_by[tensor]] == runs[norm] == 1 and norm.running_mean is not None
    ]


class _Readers(TorchFunctionMode):  # type: ignore[misc]
    """Counts how many calls read each tensor, by its id. One that changes it in place counts as well."""

    def __init__(self) -> None:
        super().__init__()
        self.times: Counter[int] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, _ABOUT):
            self.times.update(_tensors([*args, *(kwargs or {}).values()]))
        return result


def _tensors(values: Any) -> set[int]:
    """Return the ids of the tensors among ``values``, and in the lists and tuples among these."""
    found: set[int] = set()
    for value in values:
        if isinstance(value, torch.Tensor):
            found.add(id(value))
        elif isinstance(value, list | tuple):
            found |= _tensors(value)
    return found


def _fold(convolution: torch.nn.Conv2d, norm: torch.nn.BatchNorm2d) -> None:
    convolution.weight, convolution.bias = torch.nn.utils.fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
