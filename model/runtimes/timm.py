"""timm's own network in torch: for GPUs, for models that cannot be exported, and as the reference for ``onnx``."""

import gc
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.runtimes.base import Model, ModelError, Runtime

# The import of torch and timm makes a million objects that stay: to look for garbage among them would only cost time.
gc.disable()
import timm  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from timm.layers import BatchNormAct2d  # noqa: E402

gc.enable()


class TimmRuntime(Runtime):
    """Runs ``model.safetensors`` (``fp32``) on ``cpu``, with one thread, or on ``cuda``."""

    def setup(self, model: Model, variant: str, device: str = "cpu") -> None:
        """Load the network, fold its batch norms and move it to the device."""
        if device == "cpu":
            torch.set_num_threads(1)
        elif not torch.cuda.is_available():
            raise ModelError(f"torch finds no device {device} here; use device cpu, with runtime onnx for speed.")
        file = model.checked_file(model.variant("timm", variant))
        network = timm.create_model(model.architecture, **model.arguments)
        network.load_state_dict(load_file(file))
        fold_batch_norms(network.eval(), model.preprocessing.shape)
        self._network = network.to(device, memory_format=torch.channels_last)
        self._device = device

    def predict(self, batch: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Classify the whole batch in one pass."""
        if not batch:
            return []
        with torch.inference_mode():
            pictures = torch.from_numpy(np.stack(batch)).to(self._device, memory_format=torch.channels_last)
            probabilities: NDArray[np.float32] = self._network(pictures).softmax(dim=1).cpu().numpy()
        return list(probabilities)


def fold_batch_norms(network: torch.nn.Module, shape: tuple[int, int, int]) -> None:
    """Fold each batch norm that directly follows a convolution into it, in place; ``network`` is in evaluation mode.

    What follows what is observed in one pass over an empty picture of ``shape``, because the names of
    layers do not tell.
    """
    made_by: dict[int, torch.nn.Conv2d] = {}
    kept = []  # keeps every output alive: the id of one that was freed could be given to a later one
    pairs: list[tuple[torch.nn.Conv2d, torch.nn.BatchNorm2d]] = []

    def note_convolution(module: torch.nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        made_by[id(output)] = module
        kept.append(output)

    def note_norm(module: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...], _: Any) -> None:
        if id(inputs[0]) in made_by:
            pairs.append((made_by[id(inputs[0])], module))

    hooks = [
        module.register_forward_hook(note_convolution if isinstance(module, torch.nn.Conv2d) else note_norm)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d)
    ]
    with torch.no_grad():
        network(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    for convolution, norm in pairs:
        _fold(convolution, norm)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if any(child is norm for _, norm in pairs):
                setattr(parent, name, child.act if isinstance(child, BatchNormAct2d) else torch.nn.Identity())


def _fold(convolution: torch.nn.Conv2d, norm: torch.nn.BatchNorm2d) -> None:
    convolution.weight, convolution.bias = torch.nn.utils.fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
