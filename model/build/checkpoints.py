"""Read a file of weights without running anything in it. Its content says what it is, whatever its name ends with."""

import argparse
import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from model.build.errors import BuildError

MOST_INFLATION = 20
"""Weights hardly compress: what becomes more than so many times larger is made to fill memory or disk."""
LEAST_BOUND = 10_000_000
"""Files of so many bytes are harmless, however well they compress."""

ZIP = b"PK\x03\x04"

_STATES = ("state_dict", "model", "model_state_dict")
_AVERAGED = ("state_dict_ema", "model_ema")

# What a training script leaves beside the weights: its options, and numbers of numpy. None of them runs code.
_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)),
]
# Whatever a file can do to torch's reader; only files that somebody damaged, on purpose or not, come this far.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
_BLAMED = re.compile(r"(?:Unsupported global: GLOBAL|unsupported GLOBAL) (\S+)")
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING")
_STATE_DICT_MODULES = ("torch", "torch._utils", "torch.storage", "torch.nn.parameter", "collections", "argparse")
_PICKLES_OF_A_FILE = 5
"""The format before torch 1.6 has five pickles, one after another."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file of weights holds."""

    state: dict[str, torch.Tensor]
    """Tensors by the names that they have in the network; all floating-point numbers are float32 and finite."""
    architecture: str | None
    """timm's name of the network, perhaps with a tag, if the file tells it."""
    arguments: Mapping[str, Any]
    """The options of the training script, if the file has them."""


def read(file: Path, use_ema: bool = False, where: str | None = None) -> Checkpoint:
    """Read safetensors, or what ``torch.save`` wrote: a state dict, or a checkpoint that contains one.

    ``use_ema`` takes the averaged weights of timm's ``train.py``. ``where`` is what messages call the file, if not its
    path.

    Raises ``BuildError`` for a file that carries code, is damaged, has no tensors, or has numbers that are not finite.
    """
    where = where or str(file)
    try:
        size = file.stat().st_size
        loaded = _load(file, size, where)
    except OSError as error:
        raise BuildError(f"{where} cannot be read: {error.strerror or error}.") from error
    if not isinstance(loaded, Mapping):
        raise BuildError(f"{where} holds no state dict, but a {type(loaded).__name__}.")
    arguments = _arguments(loaded)
    state = {_bare(key): tensor for key, tensor in _state(where, loaded, use_ema).items()}
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > most_bytes(size):
        raise BuildError(f"{where} is damaged: its tensors are larger than the whole file.")
    state = {key: _float32(where, key, tensor) for key, tensor in state.items()}
    _require_finite(where, state)
    return Checkpoint(state, _architecture(loaded, arguments), arguments)


def shown(text: object) -> str:
    """What a file says, as it can be shown: short, and without what a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in str(text)[:100])


def most_bytes(size: int) -> int:
    """How many bytes a file of ``size`` bytes may hold when it is decompressed."""
    return max(MOST_INFLATION * size, LEAST_BOUND)


def check_inflation(file: Path, archive: zipfile.ZipFile, where: str) -> None:
    """Raise ``BuildError`` if a zip file claims to hold far more than it can."""
    claimed = sum(member.file_size for member in archive.infolist())
    if claimed > most_bytes(size := file.stat().st_size):
        raise BuildError(
            f"{where} has {size:,} bytes and claims to hold {claimed:,}; more than {MOST_INFLATION} times as much is "
            "refused."
        )


def _load(file: Path, size: int, where: str) -> Any:
    try:
        with file.open("rb") as opened:
            head = opened.read(9)
            opened.seek(0)
            if len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= size:
                return load_file(file)
            if head.startswith(ZIP):
                _check_archive(file, where)
            with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
                warnings.simplefilter("ignore")  # remarks about forms that are refused here anyway
                # An open file, because torch would believe the ending of a path.
                return torch.load(opened, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        blamed = _BLAMED.search(str(error))
        if (code := _code(file, blamed[1] if blamed else "")) is not None:
            raise BuildError(_carries_code(where, code)) from error
        if "Unsupported operand 149" in str(error):  # FRAME, which only protocols from 4 on have
            raise BuildError(
                f"{where} was saved with a newer pickle protocol than torch can read safely; save it again with "
                "torch.save and without pickle_protocol."
            ) from error
        raise BuildError(f"{where} is truncated or damaged, or it is no file of weights.") from error


def _carries_code(where: str, code: str) -> str:
    return (
        f"{where} carries code ({shown(code)}), which would run when it is loaded, so it was not loaded. "
        "Save the tensors alone: torch.save(network.state_dict(), 'weights.pth')."
    )


def _check_archive(file: Path, where: str) -> None:
    with zipfile.ZipFile(file) as archive:
        check_inflation(file, archive, where)
        if any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist()):
            raise BuildError(_carries_code(where, "TorchScript"))


def _code(file: Path, blamed: str) -> str | None:
    """Name the first thing that the pickles of a file would call and that belongs to no state dict; run nothing.

    ``blamed`` is what torch refused. A file that ends in the middle of a name does not count as code.
    """
    try:
        for name in _called_by(file):
            module = name.rpartition(".")[0]
            if name == blamed or not (module.startswith("numpy") or module in _STATE_DICT_MODULES):
                return name
    except (*_DAMAGE, OSError, BuildError, NotImplementedError):
        pass  # the file is damaged, and whoever asks says so
    return None


def _called_by(file: Path) -> Iterator[str]:
    with file.open("rb") as opened:
        if opened.read(len(ZIP)) != ZIP:
            opened.seek(0)
            for _ in range(_PICKLES_OF_A_FILE):
                yield from _called(opened)
            return
    with zipfile.ZipFile(file) as archive:
        check_inflation(file, archive, str(file))
        for name in archive.namelist():
            if name.rpartition("/")[2] == "data.pkl":
                with archive.open(name) as member:
                    yield from _called(member)


def _called(pickled: IO[bytes]) -> Iterator[str]:
    """Name what a pickle would import, in its order."""
    texts: deque[str] = deque(["", ""], maxlen=2)
    remembered: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts)
        elif opcode.name in _TEXTS:
            texts.append(str(argument))
        elif opcode.name == "MEMOIZE":
            remembered.append(texts[-1])
        elif opcode.name in ("BINGET", "LONG_BINGET") and argument is not None:
            texts.extend(remembered[argument : argument + 1])


def _state(where: str, loaded: Mapping[Any, Any], use_ema: bool) -> dict[str, torch.Tensor]:
    names = _AVERAGED if use_ema else (*_STATES, *_AVERAGED)
    found = next((loaded[name] for name in names if isinstance(loaded.get(name), Mapping)), None)
    if found is None and use_ema:
        raise BuildError(f"{where} has no averaged weights (state_dict_ema); build it without --use-ema.")
    state = {
        key: value.detach()
        for key, value in (loaded if found is None else found).items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
    if not state:
        entries = ", ".join(shown(key) for key in list(loaded)[:5]) or "nothing"
        raise BuildError(f"{where} holds no tensors where a state dict has them; it has {entries}.")
    return state


def _bare(key: str) -> str:
    """Remove what DataParallel (``module.``) and torch.compile (``_orig_mod.``) add to a name."""
    parts = [part for part in key.split(".") if part != "_orig_mod"]
    while parts[:1] == ["module"] and len(parts) > 1:
        parts.pop(0)
    return ".".join(parts)


def _float32(where: str, key: str, tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_quantized or tensor.is_complex():
        raise BuildError(f"{where} has no plain numbers in {shown(key)}: it is quantised, sparse, complex or empty.")
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


def _require_finite(where: str, state: Mapping[str, torch.Tensor]) -> None:
    wrong = [key for key, tensor in state.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if wrong:
        raise BuildError(
            f"{where} contains numbers that are not finite (NaN or infinity): {len(wrong)} of {len(state)} tensors, "
            f"first {shown(wrong[0])}."
        )


def _arguments(loaded: Mapping[Any, Any]) -> Mapping[str, Any]:
    given = loaded.get("args")
    if isinstance(given, argparse.Namespace):
        given = vars(given)
    return given if isinstance(given, dict) and all(isinstance(key, str) for key in given) else {}


def _architecture(loaded: Mapping[Any, Any], arguments: Mapping[str, Any]) -> str | None:
    for told in (arguments.get("model"), loaded.get("arch")):
        # Networks that train.py takes from timm's hub, such as hf-hub:timm/resnet18.a1_in1k, are timm's own.
        name = os.path.basename(told) if isinstance(told, str) else ""  # noqa: PTH119
        if timm.is_model(name):
            return name
    return None
