"""Text of others, as it is shown on a terminal."""

from __future__ import annotations

import unicodedata

from rich.text import Text


def cell(*lines: str) -> Text:
    """The lines as they are: no markup, no names of emojis, and control characters escaped."""
    return Text("\n".join(visible(line) for line in lines))


def visible(text: str) -> str:
    """The text with its control characters escaped."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cs")
    return character.encode("unicode_escape").decode() if hidden else character
