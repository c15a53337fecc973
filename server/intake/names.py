"""What a client calls its pictures: the field of a form and the name of a file, which go back to it with the results.

Sources: RFC 7578 (forms), RFC 6266 and RFC 8187 (``filename*``), and the form submission of WHATWG's HTML standard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

FIELD_LONGEST, FILE_LONGEST = 100, 255  # characters
UNPRINTABLE = "\ufffd"
_EXTENDED = re.compile(r";\s*filename\*\s*=\s*(?:\"([^\"]*)\"|([^;\s\"]+))", re.IGNORECASE)
_CHARSETS = ("utf-8", "iso-8859-1")  # those of RFC 8187


class Name(NamedTuple):
    """What one picture is called; None where it has no such name."""

    field: str | None = None
    file: str | None = None


NAMELESS = Name()


def written(names: Sequence[Name]) -> str | None:
    """The names as a row of the queue keeps them; None if nothing has a name."""
    if not any(field or file for field, file in names):
        return None
    return json.dumps([list(name) for name in names], separators=(",", ":"), ensure_ascii=False)


def read(text: str | None) -> Sequence[Name]:
    """The names that ``written`` wrote."""
    return [Name(*pair) for pair in json.loads(text)] if text else []


def of_part(field: str | None, file: str | None, disposition: str) -> Name:
    """The names of a part of a form, as its ``Content-Disposition`` has them, each byte as a character of latin-1."""
    return Name(shown(text_of(field), FIELD_LONGEST), file_name(_extended(disposition) or text_of(file)))


def file_name(given: str | None) -> str | None:
    """A file's name without its folders."""
    return shown(None if given is None else given.rpartition("/")[2], FILE_LONGEST)


def shown(given: str | None, longest: int) -> str | None:
    """A name of ``longest`` characters at most, each of which can be printed; None if it is empty."""
    if not given:
        return None
    return "".join(one if one.isprintable() else UNPRINTABLE for one in given[:longest])


def text_of(given: str | None) -> str | None:
    """The text of a header's bytes: UTF-8, or else what older programs send, Windows' form of latin-1."""
    if given is None or given.isascii():
        return given
    raw = given.encode("latin-1", "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _extended(disposition: str) -> str | None:
    """The name in ``filename*``, which counts before ``filename``; None if there is none that can be read."""
    found = _EXTENDED.search(disposition)
    if found is None:
        return None
    charset, _, rest = (found[1] or found[2] or "").partition("'")
    encoded = rest.partition("'")[2]
    if charset.lower() not in _CHARSETS:
        return None
    return unquote_to_bytes(encoded.encode("latin-1")).decode(charset, "replace")
