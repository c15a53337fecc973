"""Decodes a picture that is written as base64 in a JSON string, piece by piece."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

DATA_URL = re.compile(rb"data:[\w.+/-]*(?:;[\w=.+-]+)*;base64,")
DATA_URL_LONGEST = 256
ESCAPE_LONGEST = 6  # \u002f


class Base64Text:
    """Passes on the bytes of a picture while its base64, or a data URL that contains it, arrives."""

    def __init__(self, add: Callable[[bytes], None]) -> None:
        self._add = add
        self._begun = False  # once it is known where the base64 begins
        self._padded = False
        self._escape = self._rest = b""

    def feed(self, raw: bytes) -> None:
        """Take the next bytes of the string, with its escapes. Raises ``ValueError``, and what ``add`` raises."""
        raw = self._escape + raw
        self._escape = b""
        if b"\\" in raw:
            last = raw.rfind(b"\\")
            if len(raw) - last < (ESCAPE_LONGEST if raw[last + 1 : last + 2] in (b"", b"u") else 2):
                raw, self._escape = raw[:last], raw[last:]
            raw = _unescape(raw)
        self._decode(self._rest + raw, last=False)

    def finish(self) -> None:
        """The string has ended. Raises ``ValueError``, and what ``add`` raises."""
        self._decode(self._rest + _unescape(self._escape), last=True)

    def _decode(self, text: bytes, *, last: bool) -> None:
        if not self._begun:
            if not last and len(text) < DATA_URL_LONGEST:
                self._rest = text
                return
            self._begun = True
            prefix = DATA_URL.match(text[:DATA_URL_LONGEST])
            text = text[prefix.end() :] if prefix else text
        whole = len(text) if last else len(text) // 4 * 4
        if whole:
            if self._padded:
                raise ValueError("there is more after its padding")
            self._padded = text.endswith(b"=", 0, whole)
            self._add(binascii.a2b_base64(memoryview(text)[:whole], strict_mode=True))
        self._rest = text[whole:]


def _unescape(raw: bytes) -> bytes:
    r"""Replace ``\/`` and ``\u002f``. No other escape stands for a character of base64. Raises ``ValueError``."""
    if b"\\" in raw:
        raw = raw.replace(b"\\/", b"/")
        try:
            # In C, as a loop over escapes would hold up the event loop. It would also read escapes that JSON lacks.
            if raw.count(b"\\") == raw.count(b"\\u00"):
                return raw.decode("unicode_escape").encode("ascii")
        except UnicodeError:
            pass
        raise ValueError("only base64 data is allowed")
    return raw
