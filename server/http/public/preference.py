"""How long a client would like to wait for its answer: the header ``Prefer`` of RFC 7240."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

LONGEST_WAIT = 60.0
# No text takes either of them longer than in proportion to its length: a quotation mark without a second one ends it.
_PARTS = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+')
_WORD = r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+|"(?:[^"\\]|\\.)*")"""
_PREFERENCE = re.compile(rf"\s*{_WORD}(?:\s*=\s*{_WORD})?\s*(?:;|\Z)")
_SECONDS = re.compile("[0-9]{1,20}")


class Preference:
    """How long to wait, and what of the client's preference was heeded."""

    def __init__(self, seconds: float, applied: str) -> None:
        self.seconds = seconds
        self.applied = applied

    @classmethod
    def of(cls, headers: Sequence[str], default: float) -> Preference:
        """Read the ``Prefer`` headers; what is not understood is ignored, as the RFC asks."""
        asked: dict[str, str] = {}
        for header in headers:
            for name, value in _preferences(header):
                asked.setdefault(name, value)  # the RFC: of several with one name, the first counts
        if _SECONDS.fullmatch(wait := asked.get("wait", "")):
            seconds = min(float(wait), LONGEST_WAIT)
            return cls(seconds, f"wait={seconds:g}")
        if "respond-async" in asked:
            return cls(0.0, "respond-async")
        return cls(default, "")


def _preferences(header: str) -> Iterator[tuple[str, str]]:
    """The names in lower case and the values of the preferences in a header, without their parameters."""
    for part in _PARTS.findall(header):
        if match := _PREFERENCE.match(part):
            yield match[1].lower(), _plain(match[2] or "")


def _plain(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word
