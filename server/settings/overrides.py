"""Applies flags such as ``--set a.b[0]=v,c=w`` to values, as Helm's package strvals does.

Helm drops what has no key and no value, such as ``--set server..port=1``, without a word. Here that is refused.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from server.settings.documents import Document, DocumentError, Finding, Location, pointer
from server.settings.merging import merge

OPTIONS = ("set-json", "set", "set-string", "set-file", "set-literal")
"""In the order in which Helm applies them, whatever their order in the command is."""
MOST_ITEMS, MOST_NAMES = 65536, 31  # as in Helm
MOST_SHOWN = 200
_WHOLE, _BITS = re.compile(r"[-+]?[0-9]+"), 63

Keys = list[str | int]


def override(document: Document, option: str, text: str, read: Callable[[str], str]) -> Document:
    """Return ``document``, a mapping, with the flag ``--option text`` applied to it.

    ``read`` returns the text of a file that ``--set-file`` names. Raises ``DocumentError``.
    """
    flag = _Flag(option, text)
    if flag.is_object:
        return merge(document, Document(flag.object, flag.source, {"": flag.place}))
    value, locations = copy.deepcopy(document.value), dict(document.locations)
    for keys, read_value in flag.pairs():
        flag.put(value, keys, read_value(read))
        at = pointer(*keys)
        for inner in [known for known in locations if known.startswith(f"{at}/")]:
            del locations[inner]
        locations |= {pointer(*keys[:depth]): flag.place for depth in range(len(keys) + 1)}
    return Document(value, flag.source, locations)


def files_of(text: str) -> list[str]:
    """Return the names of the files that ``--set-file text`` reads. Raises ``DocumentError``."""
    names: list[str] = []

    def read(name: str) -> str:
        names.append(name)
        return ""

    for _, read_value in _Flag("set-file", text).pairs():
        read_value(read)
    return names


def named(option: str, text: str) -> str:
    """Return how people are shown a flag."""
    return f"--{option} {text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + '...'}"


class _Flag:
    """Reads the text of one flag from left to right."""

    def __init__(self, option: str, text: str) -> None:
        self.source = named(option, text)
        self.place = Location(self.source, 0)
        self._option, self._text, self._at = option, text, 0
        self._ends_of_key = "=[." if option == "set-literal" else "=[.,"

    @property
    def is_object(self) -> bool:
        """Whether it is a whole mapping: ``--set-json '{"server": {}}'``."""
        return self._option == "set-json" and self._text.lstrip().startswith("{")

    @property
    def object(self) -> Any:
        """Such a mapping. Raises ``DocumentError``."""
        self._at = len(self._text) - len(self._text.lstrip())
        value = self._json()
        if self._text[self._at :].strip():
            self._refuse("has something behind its JSON")
        return value

    def pairs(self) -> Iterator[tuple[Keys, Callable[[Callable[[str], str]], Any]]]:
        """Yield each key, and what reads its value; it must be called before the next key is asked for."""
        while self._at < len(self._text):
            yield self._keys(), self._value

    def put(self, value: Any, keys: Keys, new: Any) -> None:
        """Put ``new`` where ``keys`` lead, through mappings and lists that are made where there are none."""
        here = value
        for depth, (key, after) in enumerate(pairwise(keys), start=1):
            kind: type = list if isinstance(after, int) else dict
            if isinstance(key, str):
                there = here.get(key) if key in here else kind()
            else:
                there = here[key] if key < len(here) else None
                # Helm replaces an item of a list by a mapping, but nothing else by what is needed.
                there = kind() if there is None or (kind is dict and not isinstance(there, dict)) else there
            if not isinstance(there, kind):
                what = "a list" if kind is list else "a mapping"
                self._refuse(f"needs {what} at {pointer(*keys[:depth])}, where {json.dumps(there)[:60]} is")
            self._set(here, key, there)
            here = there
        self._set(here, keys[-1], new)

    def _set(self, holder: Any, key: str | int, new: Any) -> None:
        if isinstance(key, int):
            holder.extend([None] * (key + 1 - len(holder)))
        holder[key] = new

    def _keys(self) -> Keys:
        keys: Keys = []
        end = "."
        while end == ".":
            name, end = self._until(self._ends_of_key)
            if not name:
                self._refuse("must look like server.port=8080: a name is empty")
            keys.append(name)
            while end == "[":
                keys.append(self._index())
                rest, end = self._until("=[.")
                if rest:
                    self._refuse(f'has "{rest}" behind an index')
        if end != "=":
            self._refuse(f'must look like server.port=8080: "{keys[-1]}" has no value')
        if sum(isinstance(key, str) for key in keys) > MOST_NAMES:
            self._refuse(f"has more than {MOST_NAMES} names, one within the other")
        return keys

    def _index(self) -> int:
        text, end = self._until("]")
        if not end or not _WHOLE.fullmatch(text) or len(text) > 20 or not 0 <= int(text) <= MOST_ITEMS:
            self._refuse(f'has the index "{text}"; there are [0] to [{MOST_ITEMS}]')
        return int(text)

    def _value(self, read: Callable[[str], str]) -> Any:
        if self._option == "set-json":
            return self._json_member()
        if self._option == "set-literal":
            self._at, begin = len(self._text), self._at
            return self._text[begin:]
        if not self._text.startswith("{", self._at):
            return self._typed(self._until(",")[0], read)
        self._at += 1
        items, end = [], ","
        while end == ",":
            item, end = self._until(",}")
            items.append(self._typed(item, read))
        if not end:
            self._refuse("has a list that does not end: } is missing")
        if self._text.startswith(",", self._at):
            self._at += 1
        return items

    def _typed(self, text: str, read: Callable[[str], str]) -> Any:
        if self._option == "set-file":
            return read(text)
        if self._option == "set-string":
            return text
        words: dict[str, Any] = {"true": True, "false": False, "null": None, "0": 0}
        if text.lower() in words:
            return words[text.lower()]
        if not text.startswith("0") and _WHOLE.fullmatch(text) and len(text) <= 20:
            number = int(text)
            if -(1 << _BITS) <= number < 1 << _BITS:
                return number
        return text

    def _json_member(self) -> Any:
        if self._blank():
            return None
        value = self._json()
        self._blank()
        return value

    def _blank(self) -> bool:
        """Read blanks and a comma; return whether there was no other character before the comma or the end."""
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        if self._at == len(self._text):
            return True
        comma = self._text[self._at] == ","
        self._at += comma
        return comma

    def _json(self) -> Any:
        def refuse(word: str) -> NoReturn:
            self._refuse(f"{word} is not a value of JSON")

        def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for name, value in pairs:
                if name in found:
                    self._refuse(f'has the key "{name}" twice')
                found[name] = value
            return found

        try:
            decoder = json.JSONDecoder(parse_constant=refuse, object_pairs_hook=unique)
            value, self._at = decoder.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            self._refuse(f"is not JSON at character {error.pos + 1}: {error.msg}")
        except ValueError as error:  # a number of more digits than Python reads
            self._refuse(f"is not JSON: {error}")
        return value

    def _until(self, ends: str) -> tuple[str, str]:
        """Read up to one of ``ends``, which a backslash makes an ordinary character; return it, or "" at the end."""
        found: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character in ends:
                return "".join(found), character
            if character == "\\" and self._option != "set-literal":
                character = self._text[self._at : self._at + 1]
                self._at += 1
            found.append(character)
        return "".join(found), ""

    def _refuse(self, message: str) -> NoReturn:
        raise DocumentError([Finding(file=self.source, line=0, pointer="", rule="override", message=message)])
