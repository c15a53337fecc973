"""Read ``config.json`` of timm's hub models. It comes from outside: nothing but plain values is taken from it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model.build.checkpoints import shown
from model.build.errors import BuildError

NAME = "config.json"
MOST_BYTES = 10_000_000
MOST_CLASSES = 1_000_000
LARGEST = 1_000_000
"""No number of a network or its preprocessing comes near; a network of a billion layers would never be finished."""

# What ``timm.create_model`` does beside making the network: downloads, files of weights, networks without a classifier.
_NOT_OF_THE_NETWORK = frozenset(
    (
        "cache_dir",
        "checkpoint_path",
        "device",
        "dtype",
        "exportable",
        "feature_cls",
        "features_only",
        "model_name",
        "no_jit",
        "out_indices",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_filter_fn",
        "pretrained_model_args",
        "pretrained_strict",
        "scriptable",
    )
)


@dataclass(frozen=True, slots=True)
class Config:
    """What ``config.json`` tells about a network."""

    architecture: str
    """timm's name, as it is written there."""
    arguments: dict[str, Any]
    """For ``timm.create_model``."""
    prepared: dict[str, Any]
    """How pictures are prepared, in the words of timm's ``pretrained_cfg``."""
    label_names: tuple[str, ...] | None
    label_descriptions: tuple[str, ...] | None
    licence: str | None


def parse(text: bytes, where: str) -> Config:
    """Read the text of a ``config.json``, also of the older layout, in which everything is in one object.

    Raises ``BuildError``, whose message begins with ``where``.
    """
    if len(text) > MOST_BYTES:
        raise BuildError(f"{where} has more than {MOST_BYTES:,} bytes.")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BuildError(f"{where} is no JSON: {error}.") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("architecture"), str):
        raise BuildError(f"{where} does not tell the architecture of a timm network.")
    inner = fields.get("pretrained_cfg", fields)
    arguments = fields.get("model_args", {})
    if not isinstance(inner, dict) or not isinstance(arguments, dict):
        raise BuildError(f"{where} has a pretrained_cfg or model_args that is no object.")
    told = {**inner, **fields}
    names = _names(told.get("label_names", told.get("labels")), where)
    licence = inner.get("license")
    return Config(
        architecture=fields["architecture"],
        arguments=check_arguments(arguments, where),
        prepared=_prepared(inner, where),
        label_names=names,
        label_descriptions=_descriptions(told.get("label_descriptions"), names, where),
        licence=licence if isinstance(licence, str) else None,
    )


def check_arguments(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the arguments of a network that are set. Raises ``BuildError`` for those that are no plain values."""
    kept = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in _NOT_OF_THE_NETWORK:
            raise BuildError(f"{where} sets the argument {name}, which is none of the network's own.")
        if not (_is_scalar(value) or (isinstance(value, list | tuple) and all(map(_is_scalar, value)))):
            raise BuildError(f"{where} sets the argument {shown(name)} to more than a plain value or a list of them.")
        kept[name] = list(value) if isinstance(value, tuple) else value
    return kept


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(number) is int for number in value)


def _is_row(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 1000 and all(map(_is_number, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_PREPARED: Mapping[str, Callable[[Any], bool]] = {
    "input_size": _is_size,
    "test_input_size": _is_size,
    "crop_pct": _is_number,
    "test_crop_pct": _is_number,
    "crop_mode": _is_text,
    "interpolation": _is_text,
    "mean": _is_row,
    "std": _is_row,
    "fixed_input_size": lambda value: isinstance(value, bool),
    "tag": _is_text,
}


def _prepared(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    prepared = {}
    for name, fits in _PREPARED.items():
        if (value := fields.get(name)) is None:
            continue
        if not fits(value):
            raise BuildError(f"{where} has a {name} that cannot be used: {shown(value)}.")
        prepared[name] = tuple(value) if isinstance(value, list) else value
    return prepared


def _names(given: Any, where: str) -> tuple[str, ...] | None:
    """Return the names by class number; those that are missing from a map are "class N"."""
    if given is None:
        return None
    if isinstance(given, dict):
        numbers = {int(key): value for key, value in given.items() if key.isdecimal() and len(key) < 8}
        if len(numbers) != len(given) or max(numbers, default=0) >= MOST_CLASSES:
            raise BuildError(f"{where} has label_names whose keys are no class numbers.")
        given = [numbers.get(number, f"class {number}") for number in range(max(numbers, default=-1) + 1)]
    return _texts(given, "label_names", where)


def _descriptions(given: Any, names: tuple[str, ...] | None, where: str) -> tuple[str, ...] | None:
    if isinstance(given, dict):
        given = None if names is None else [given.get(name, name) for name in names]
    return None if given is None else _texts(given, "label_descriptions", where)


def _texts(given: Any, what: str, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(text, str | int | float) for text in given):
        raise BuildError(f"{where} has {what} that are no list or map of texts.")
    return tuple(map(str, given))
