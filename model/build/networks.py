"""Make timm's network for the tensors of a file: they tell the number of classes and of input channels."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch

from model.build.checkpoints import shown
from model.build.errors import BuildError

CHANNELS, CLASSES = 3, 1000
MOST_SIDE = 4096

State = Mapping[str, torch.Tensor]

# Whatever timm raises for arguments that do not suit a network.
_UNSUITABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_AUXILIARY = "AuxLogits."
"""A second classifier of Inception, which only training uses."""
_COUNTER, _VARIANCE = ".num_batches_tracked", ".running_var"


def check_architecture(name: str) -> str:
    """Return timm's name without its tag. Raises ``BuildError`` for a name that timm does not know, with near names."""
    if timm.is_model(name):
        return name.partition(".")[0]
    near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3, cutoff=0.5)
    hint = f"; near names are {', '.join(near)}" if near else ""
    raise BuildError(f"timm {timm.__version__} has no network {shown(name)}{hint}.")


def fitted(
    state: State, architecture: str, arguments: Mapping[str, Any], where: str, remark: Callable[[str], None]
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Make the network ``architecture``, which may have a tag, and load ``state`` into it.

    ``remark`` is told what the owner should know. Returns the network in evaluation mode, and the arguments with which
    ``timm.create_model`` makes it. Raises ``BuildError`` if the tensors belong to another network, or the network is no
    classifier.
    """
    check_architecture(architecture)
    # Networks on the device "meta" have shapes and no memory: they are made at once, however large they claim to be.
    pattern = _create(architecture, {**arguments, "num_classes": CLASSES, "in_chans": CHANNELS}, where, "meta")
    arguments = {**arguments, **_counts(state, pattern, where)}
    wanted = _create(architecture, arguments, where, "meta").state_dict()
    given = _by_name(state, wanted, architecture, where, remark)
    network = _create(architecture, arguments, where, "cpu")
    size = _trial_size(network, arguments, where)
    network.load_state_dict(given)
    _require_classifier(network.eval(), arguments, size, where)
    return network, arguments


def prepare_for(network: torch.nn.Module, arguments: Mapping[str, Any], prepared: Mapping[str, Any]) -> None:
    """Write into the network's ``pretrained_cfg`` how pictures are prepared for it, adapted to its channels."""
    channels = arguments["in_chans"]
    config = {**network.pretrained_cfg, **prepared, "num_classes": arguments["num_classes"]}
    for name in ("mean", "std"):
        values = config[name]
        if len(values) != channels:
            config[name] = (sum(values) / len(values),) * channels
    for name in ("input_size", "test_input_size"):
        if config.get(name) is not None:
            config[name] = (channels, *config[name][1:])
    network.pretrained_cfg = network.default_cfg = config


def _create(architecture: str, arguments: Mapping[str, Any], where: str, device: str) -> torch.nn.Module:
    try:
        with torch.device(device):
            network: torch.nn.Module = timm.create_model(architecture, **arguments)
    except _UNSUITABLE as error:
        extra = {name: value for name, value in arguments.items() if name not in ("num_classes", "in_chans")}
        raise BuildError(f"{where}: timm cannot make {architecture} with {shown(extra)}: {shown(error)}.") from error
    return network


def _counts(state: State, pattern: torch.nn.Module, where: str) -> dict[str, int]:
    """Read the number of classes from the classifier, and that of the channels from the first convolution."""
    wanted, config = pattern.state_dict(), pattern.pretrained_cfg
    stem, classifier = (_weight(config.get(part)) for part in ("first_conv", "classifier"))
    if classifier not in wanted:
        raise BuildError(f"{where} belongs to {type(pattern).__name__}, which is no classifier.")
    if classifier in state and state[classifier].dim() > 0:
        classes = state[classifier].shape[0]
    elif set(state) < set(wanted):
        raise BuildError(f"{where} is no classifier: it has no tensor {classifier}.")
    else:  # the names are another library's, and the classifier is what comes last
        classes = next((tensor.shape[0] for tensor in reversed(list(state.values())) if tensor.dim() > 0), 0) or CLASSES
    if classes < 2:
        raise BuildError(f"{where} is no classifier: it has {classes} class.")
    given, has = (
        of[stem] if stem in of and stem in state else next((one for one in of.values() if one.dim() == 4), None)
        for of in (state, wanted)
    )
    if given is None or has is None or given.dim() != 4 or not (channels := CHANNELS * given.shape[1] // has.shape[1]):
        channels = CHANNELS
    return {"num_classes": classes, "in_chans": channels}


def _weight(layers: Any) -> str:
    """Return the name of the weight of a layer, or of the first of several, as ``pretrained_cfg`` names them."""
    first = layers[0] if isinstance(layers, list | tuple) and layers else layers
    return f"{first}.weight"


def _by_name(
    state: State, wanted: State, architecture: str, where: str, remark: Callable[[str], None]
) -> dict[str, torch.Tensor]:
    """Return the tensors by timm's names, if they fit; those with another library's names are taken in their order."""
    given = {key: tensor for key, tensor in state.items() if key in wanted or not key.startswith(_AUXILIARY)}
    if given.keys() != wanted.keys() and len(given) == len(wanted):
        renamed = dict(zip(wanted, given.values(), strict=True))
        if not any(_fault(key, renamed, wanted) for key in wanted):
            remark(f"The tensors of {where} have other names than timm's; they were taken in their order.")
            return renamed
    # Files from before torch 0.4.1 have no counters, and evaluation does not need them.
    counters = {variance.replace(_VARIANCE, _COUNTER) for variance in given if variance.endswith(_VARIANCE)}
    given |= {key: torch.tensor(0) for key in wanted if key in counters and key not in given}
    faults = [fault for key in wanted if (fault := _fault(key, given, wanted))]
    surplus = [f"{shown(key)} is none of the network's" for key in given if key not in wanted]
    if faults or surplus:
        raise BuildError(
            f"{where} does not fit {architecture}: {len(faults or surplus)} of {len(wanted if faults else given)} "
            f"tensors, first {(faults or surplus)[0]}. If it is another network, name it with --architecture."
        )
    return given


def _fault(key: str, given: State, wanted: State) -> str:
    if key not in given:
        return f"{key} is missing"
    tensor, like = given[key], wanted[key]
    if tensor.shape != like.shape:
        return f"{key} has shape {tuple(tensor.shape)}, the network wants {tuple(like.shape)}"
    if like.is_floating_point() and not tensor.is_floating_point():
        return f"{key} has numbers of {tensor.dtype}, the network wants {like.dtype}"
    return ""


def _trial_size(network: torch.nn.Module, arguments: Mapping[str, Any], where: str) -> tuple[int, ...]:
    size = arguments.get("img_size", list(network.pretrained_cfg["input_size"][1:]))
    size = tuple(size) if isinstance(size, list) else (size, size)
    if len(size) != 2 or not all(type(side) is int and 1 <= side <= MOST_SIDE for side in size):
        raise BuildError(f"{where}: an input of {size} cannot be used; a side has 1 to {MOST_SIDE} pixels.")
    return size


def _require_classifier(
    network: torch.nn.Module, arguments: Mapping[str, Any], size: tuple[int, ...], where: str
) -> None:
    try:
        with torch.inference_mode():
            output = network(torch.zeros(1, arguments["in_chans"], *size))
    except _UNSUITABLE as error:
        raise BuildError(f"{where}: the network cannot classify a picture of {size}: {shown(error)}.") from error
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != (1, arguments["num_classes"]):
        raise BuildError(
            f"{where} is no classifier: for a picture it gives {shape}, not {(1, arguments['num_classes'])}."
        )
    if not bool(output.isfinite().all()):
        raise BuildError(f"{where} computes numbers that are not finite (NaN or infinity) for a black picture.")
