"""Reads YAML as Helm does, into what JSON can express, with the line of each value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

MAX_DEPTH, MOST_PARTS = 64, 50_000
NUMBER_CHARACTERS = 64  # Python takes quadratic time for longer ones, and refuses to print them


@dataclass(frozen=True, slots=True)
class Location:
    """The place of a value. ``line`` is 0 where the source has no lines."""

    file: str
    line: int


def pointer(*keys: str | int) -> str:
    """Return the JSON pointer that leads along ``keys`` from the root."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def read(text: str, file: str, aliases: bool) -> tuple[Any, dict[str, Location]]:
    """Return the one document of ``text``, and the locations of its parts. Raises ``yaml.YAMLError``."""
    if _ReadingInC is not None and not _ODD.search(text):
        try:
            return _ReadingInC(text, file, aliases).value()
        except yaml.YAMLError:
            pass  # PyYAML's own parser has other words for it, which we know
    return _ReadingInPython(text, file, aliases).value()


class _Reading(Composer, SafeConstructor, Resolver):
    """Makes values of what a parser finds in one text, and notes the location of each."""

    check_event: Callable[..., bool]
    get_event: Callable[[], Any]
    peek_event: Callable[[], Any]

    def __init__(self, file: str, aliases: bool) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self.file, self._aliases = file, aliases
        self.locations: dict[str, Location] = {}
        self._depth = self._parts = 0

    def value(self) -> tuple[Any, dict[str, Location]]:
        """Return the one document of the text, and the locations of its parts. Raises ``yaml.YAMLError``."""
        node = self.get_single_node()
        return self._value(node, "") if node else None, self.locations

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose what the next event begins, as PyYAML, within limits."""
        if not self._aliases and self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(None, None, "aliases are not allowed", self.get_event().start_mark)
        with self._deeper(lambda: self.peek_event().start_mark):
            return super().compose_node(parent, index)

    @contextmanager
    def _deeper(self, mark: Callable[[], Any]) -> Iterator[None]:
        if self._depth == MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, f"is nested more than {MAX_DEPTH} deep", mark())
        self._depth += 1
        yield
        self._depth -= 1

    def _value(self, node: yaml.Node, at: str) -> Any:
        # By aliases within aliases, a few lines become gigabytes; by one within itself, they have no end.
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise yaml.MarkedYAMLError(None, None, f"has more than {MOST_PARTS} parts", node.start_mark)
        self.locations[at] = Location(self.file, node.start_mark.line + 1)
        with self._deeper(lambda: node.start_mark):
            if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
                return self._mapping(node, at)
            if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
                return [self._value(item, at + pointer(index)) for index, item in enumerate(node.value)]
            return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, at: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        keys: set[str] = set()
        for name, value in node.value:
            if self._aliases and name.tag == "tag:yaml.org,2002:merge":
                found |= self._merged(value, at)
                continue
            if name.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(None, None, "a key must be text: put it in quotes", name.start_mark)
            if name.value in keys:  # PyYAML would silently take the last one
                raise yaml.MarkedYAMLError(None, None, f'the key "{name.value}" is there twice', name.start_mark)
            keys.add(name.value)
            found[name.value] = self._value(value, at + pointer(name.value))
            self.locations[at + pointer(name.value)] = Location(self.file, name.start_mark.line + 1)
        self.locations[at] = Location(self.file, node.start_mark.line + 1)
        return found

    def _merged(self, node: yaml.Node, at: str) -> dict[str, Any]:
        """Return what the mapping, or the list of mappings, behind a merge key stands for."""
        found: dict[str, Any] = {}
        for one in reversed(node.value if isinstance(node, yaml.SequenceNode) else [node]):  # the first has precedence
            if not isinstance(one, yaml.MappingNode):
                raise yaml.MarkedYAMLError(None, None, "<< needs a mapping or a list of them", one.start_mark)
            found |= self._value(one, at)
        return found

    def _scalar(self, node: yaml.Node) -> Any:
        # NaN stands for every value that JSON does not have, such as a binary: it is refused below.
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind in {"value", "merge"}:  # "=" and "<<", which are nothing but text to Helm, and so it writes them
            return node.value
        if kind == "timestamp" or (kind in {"int", "float"} and ":" in node.value):
            return node.value  # dates, and numbers of 60 such as 1:30, which Helm leaves as they are written
        if kind in {"int", "float"} and len(node.value) > NUMBER_CHARACTERS:
            raise yaml.MarkedYAMLError(None, None, "is too long for a number: put text in quotes", node.start_mark)
        try:
            value = self.construct_object(node) if kind in {"str", "int", "float", "bool", "null"} else math.nan
        except (ValueError, LookupError):
            value = math.nan
        if isinstance(value, float) and not math.isfinite(value):
            raise yaml.MarkedYAMLError(None, None, "is not a value of JSON: put text in quotes", node.start_mark)
        return value


# What Helm knows and PyYAML does not.
_Reading.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?0o[0-7_]+\Z"), list("-+0"))
_Reading.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]\Z"), list("yYnN"))
_Reading.bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}
# YAML 1.1 requires a point in front of the exponent; JSON does not, and Go writes none.
_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+\Z")
_Reading.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


class _ReadingInPython(Reader, Scanner, Parser, _Reading):
    def __init__(self, text: str, file: str, aliases: bool) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        _Reading.__init__(self, file, aliases)


_ReadingInC: Callable[[str, str, bool], _Reading] | None = None
if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class _InC(_Reading, CParser):
        """In a quarter of the time."""

        def __init__(self, text: str, file: str, aliases: bool) -> None:
            CParser.__init__(self, text)
            _Reading.__init__(self, file, aliases)

    _ReadingInC = _InC

# What the two parsers do not understand alike: tabs, byte order marks, question marks within brackets, and comments
# right behind the sign of a block of text. All that is not printable ASCII is left to the parser in Python, too.
_ODD = re.compile(r"[^\n !->@-~]|[|>][-+0-9]*#")
