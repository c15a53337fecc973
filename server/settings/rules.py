"""Evaluates ``chart/rules.yaml``: what must hold of the values beyond their types and ranges.

The chart evaluates the same file when Helm renders it (``chart/templates/_rules.tpl``), so that Helm refuses what is
refused here, with the same sentences. The file itself says what a rule may contain.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cache
from typing import Any

import yaml

from server.settings.documents import pointer
from server.settings.quantity import quantity_parts
from server.shipped import RULES

MOST_CHARACTERS = 100  # of a value in a sentence

Rule = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that the values at ``pointers`` break."""

    pointers: tuple[str, ...]
    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Place:
    """A value, and the keys that lead to it from the root."""

    keys: tuple[str | int, ...]
    value: Any
    root: Any

    @property
    def at(self) -> str:
        """The place as ``--set`` names it."""
        return _path(self.keys)


@cache
def book() -> Mapping[str, Any]:
    """Return the content of ``chart/rules.yaml``: ``defaults``, ``forms`` and ``rules``."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loaded: Mapping[str, Any] = yaml.load(RULES.read_text(encoding="utf-8"), loader)  # noqa: S506 (a safe loader)
    return loaded


def broken_rules(values: Mapping[str, Any], templates: Collection[str]) -> Iterator[Broken]:
    """Yield what ``values`` break; the schema accepts them, and the defaults of ``server`` and ``tiers`` are filled in.

    ``templates`` are the names of the Job templates that there are. A message is yielded once, as in the chart.
    """
    root = {**values, "templates": sorted(templates)}
    told = set()
    for broken in (*bad_forms(values), *(each for rule in book()["rules"] for each in _against(rule, root))):
        if broken.message not in told:
            told.add(broken.message)
            yield broken


def bad_forms(root: Any) -> Iterator[Broken]:
    """Yield the texts in ``root`` that do not look as they must; the schema may refuse other parts of it."""
    for form in book()["forms"]:
        for kind in ("values", "keys"):
            for place in (place for pattern in form.get(kind, ()) for place in _places(root, pattern)):
                text = place.keys[-1] if kind == "keys" else place.value
                if not isinstance(text, str) or not text or re.fullmatch(form["pattern"], text):
                    continue
                shown = _json(text[:MOST_CHARACTERS])
                has = f"{_path(place.keys[:-1])} has the key {shown}" if kind == "keys" else f"{place.at} is {shown}"
                has = place.at if "secret" in form else has
                yield Broken((pointer(*place.keys),), form["form"], f"{has}: not {form['is']}")


def _against(rule: Rule, root: Any) -> Iterator[Broken]:
    if rule.get("cluster"):
        return
    seen = dict.fromkeys(map(_json, rule.get("taken", ())), "")
    for place in (place for pattern in rule.get("each", [""]) for place in _places(root, pattern)):
        known = {"at": place.at}
        if "unique" in rule:
            known["value"], operands = _operand(rule["unique"], place), [rule["unique"]]
            key = _json(known["value"])
            refused = key in seen
            known["other"] = seen.setdefault(key, place.at)
        else:
            refused = all(_holds(condition, place) for condition in rule["when"])
            operands = [part for condition in rule["when"] for part in condition]
        if refused:
            at = dict.fromkeys(each for operand in operands for each in _pointers(operand, place))
            yield Broken(tuple(at), rule["rule"], _sentence(rule["says"], place, known))


def _places(root: Any, pattern: str) -> list[Place]:
    found = [Place((), root, root)]
    for part in filter(None, pattern.split(".")):
        found = [
            Place((*place.keys, key), item, root)
            for place in found
            for key, item in _items(place.value)
            if part in ("*", key)
        ]
    return found


def _items(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        return sorted(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def _operand(operand: Any, place: Place) -> Any:
    """Return what ``operand`` stands for at ``place``; ``None`` if that is not there."""
    if isinstance(operand, Mapping):
        ((word, parts),) = operand.items()
        total = Decimal(word == "product")
        for part in parts:
            number = _decimal(_operand(part, place))
            total = EXACT.multiply(total, number) if word == "product" else EXACT.add(total, number)
        return float(total)
    if not isinstance(operand, str):
        return operand
    if operand == "@":
        return str(place.keys[-1])
    if not operand.startswith((".", "$.")):
        return operand
    value = place.root if operand.startswith("$") else place.value
    for key in filter(None, operand.removeprefix("$").split(".")):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _pointers(operand: Any, place: Place) -> Iterator[str]:
    """Yield the pointers of the values that ``operand`` reads, but for those that no file of values has."""
    if isinstance(operand, Mapping):
        for part in next(iter(operand.values())):
            yield from _pointers(part, place)
    elif isinstance(operand, str) and operand != "$.templates" and (operand == "@" or operand.startswith((".", "$."))):
        keys = () if operand.startswith("$") else place.keys
        yield pointer(*keys, *filter(None, operand.strip("@").removeprefix("$").split(".")))


def _holds(condition: list[Any], place: Place) -> bool:
    left, relation = _operand(condition[0], place), condition[1]
    if relation == "empty":
        return left is None or left in ("", [], {})
    right = _operand(condition[2], place)
    if left is None or right is None:
        return False
    if relation in _OF_VALUES:
        return bool(_OF_VALUES[relation](left, right))
    one, other = _number(left), _number(right)
    return one is not None and other is not None and bool(_OF_NUMBERS[relation](one, other))


_OF_VALUES: Mapping[str, Any] = {
    "==": lambda left, right: _json(left) == _json(right),
    "!=": lambda left, right: _json(left) != _json(right),
    "in": lambda left, right: left in right,
    "outside": lambda left, right: left not in right,
    "starts": lambda left, right: left.startswith(right),
    "ends": lambda left, right: left.endswith(right),
}
_OF_NUMBERS: Mapping[str, Any] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
EXACT = Context(prec=80)


def _number(value: Any) -> float | None:
    """Return the number of a quantity as the chart computes it: a float before it is scaled, and after."""
    if isinstance(value, str):
        try:
            number, scale = quantity_parts(value)
        except ValueError:  # of which its form has told
            return None
        return float(EXACT.multiply(_decimal(number), _decimal(scale)))
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _decimal(value: Any) -> Decimal:
    return Decimal(repr(float(value)))


def _sentence(says: str, place: Place, known: Mapping[str, Any]) -> str:
    def text(match: re.Match[str]) -> str:
        value = known[match[1]] if match[1] in known else _operand(match[1], place)
        shown = ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)
        return _line(shown)[:MOST_CHARACTERS]

    return re.sub(r"\{([^}]*)\}", text, says)


def _path(keys: tuple[str | int, ...]) -> str:
    parts = (f"[{key}]" if isinstance(key, int) else "." + _line(key.replace(".", "\\.")) for key in keys)
    return "".join(parts).removeprefix(".")


def _line(text: str) -> str:
    return text.replace("\n", "\\n")


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else _json(value)
    number = float(value)
    if number.is_integer():
        return f"{number:.0f}"
    # As Go writes JSON, while Python takes an exponent for other numbers than Go does.
    return f"{_decimal(number):f}" if abs(number) >= 1e-6 else re.sub("e-0", "e-", repr(number))


def _json(value: Any) -> str:
    """Return ``value`` as Go writes it, but for its order of keys."""
    text = json.dumps(float(value) if type(value) is int else value, ensure_ascii=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
