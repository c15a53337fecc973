"""Decodes a picture that is written as base64, in any of the ways in which programs write it, piece by piece.

Sources: RFC 4648 (base64, also for URLs), RFC 2045 (its lines) and RFC 2397 (data URLs).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from urllib.parse import unquote

from server.intake.names import file_name

PREFIX_LONGEST = 1024  # of a data URL, before its comma
PADDING_MOST = 3
SCHEME_LONGEST = 8  # https://
ESCAPE_LONGEST = 6  # \u002f
BLANKS = b" \t\r\n"
_DATA = b"data:"
_DATA_URL = re.compile(rb"data:([^,]*),", re.IGNORECASE)
_ELSEWHERE = re.compile(rb"(https?|ftp|file|s3|gs)://?", re.IGNORECASE)
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/=]")
_LOST_PLUS = re.compile(rb"(?<=\S) +(?=\S)")
_FOR_URLS = bytes.maketrans(b"-_", b"+/")
_PERCENT = ((b"%2B", b"+"), (b"%2F", b"/"), (b"%3D", b"="), (b"%0A", b"\n"), (b"%0D", b"\r"))


class Base64Text:
    """Passes on the bytes of a picture while its base64, or a data URL that contains it, arrives.

    Padding may be missing. Lines may be broken, and ``-`` and ``_`` may stand for ``+`` and ``/``.
    """

    def __init__(self, add: Callable[[bytes], None]) -> None:
        self.file: str | None = None
        """The file's name, if a data URL tells it."""
        self._add = add
        self._begun = self._is_url = False  # once it is known where the base64 begins
        self._padded = False
        self._gap = b""  # blanks that came last
        self._came = 0  # characters of the base64
        self._percent = self._rest = b""

    def feed(self, text: bytes) -> None:
        """Take the next bytes of the text. Raises ``ValueError``, and what ``add`` raises."""
        self._read(text, last=False)

    def finish(self) -> None:
        """The text has ended. Raises ``ValueError``, and what ``add`` raises."""
        self._read(b"", last=True)

    def _read(self, text: bytes, *, last: bool) -> None:
        if not self._begun:
            text = (self._rest + text).lstrip(BLANKS)
            if not last and _may_be_prefix(text):
                self._rest = text
                return
            self._begun, self._rest = True, b""
            text = self._after_prefix(text)
        if self._is_url:
            text = self._without_percent(text, last=last)
        self._decode(self._rest + self._without_blanks(text), last=last)

    def _after_prefix(self, text: bytes) -> bytes:
        """What follows the prefix of a data URL, if there is one."""
        start = text[:PREFIX_LONGEST]
        if start[: len(_DATA)].lower() != _DATA:
            if _ELSEWHERE.match(start):
                raise ValueError("it is a URL, and URLs are not fetched: send the picture itself")
            if start[:2] in (b"b'", b'b"'):
                raise ValueError("it begins as Python shows bytes: decode them, as in b64encode(picture).decode()")
            return text
        found = _DATA_URL.match(start)
        if found is None:
            raise ValueError(f"it is a data URL without a comma in its first {PREFIX_LONGEST} characters")
        _, *parameters = found[1].decode("utf-8", "replace").split(";")
        if "base64" not in (one.strip().lower() for one in parameters):
            raise ValueError("it is a data URL that is not in base64: send data:image/png;base64,...")
        for name, _, value in (one.partition("=") for one in parameters):
            if name.strip().lower() in ("name", "filename"):
                self.file = file_name(unquote(value))
        self._is_url = True
        return text[found.end() :]

    def _without_percent(self, text: bytes, *, last: bool) -> bytes:
        """Replace in a data URL what stands for characters of base64. What else is escaped is none."""
        text, self._percent = self._percent + text, b""
        if b"%" not in text:
            return text
        if not last and (at := text.rfind(b"%", -2)) >= 0:
            text, self._percent = text[:at], text[at:]
        for escape, character in _PERCENT:
            text = text.replace(escape, character).replace(escape.lower(), character)
        return text

    def _without_blanks(self, text: bytes) -> bytes:
        """Leave out line breaks, and blanks around lines. Within a line, blanks were something else once."""
        if not any(blank in text for blank in (b" ", b"\n", b"\r", b"\t")) and not self._gap:
            return text
        shown = text.rstrip(BLANKS)
        tail = text[len(shown) :]
        if shown:
            before = b"A" if self._came else b""
            if b" " in self._gap + shown and _LOST_PLUS.search(before + self._gap + shown):
                detail = "there are spaces in it. If each was a + before, a form has decoded it: send + as %2B"
                raise ValueError(detail)
            self._gap = b""
        if tail or self._gap:
            # As little of it as tells whether there was a line break: there may be any number of blanks.
            self._gap = b" " if (self._gap + tail).strip(b" ") == b"" else b"\n"
        return shown.translate(None, BLANKS)

    def _decode(self, text: bytes, *, last: bool) -> None:
        if b"-" in text or b"_" in text:
            text = text.translate(_FOR_URLS)
        if last:
            text = _padded(text)
        whole = len(text) // 4 * 4
        if whole:
            if self._padded:
                raise ValueError("there is more after its padding")
            self._padded = text.endswith(b"=", 0, whole)
            try:
                decoded = binascii.a2b_base64(memoryview(text)[:whole], strict_mode=True)
            except binascii.Error as error:
                raise ValueError(self._why(text) or str(error)) from error
            self._came += whole
            self._add(decoded)
        self._rest = text[whole:]

    def _why(self, text: bytes) -> str:
        found = _FOREIGN.search(text)
        if found is None:
            return ""
        return f"character {self._came + found.start() + 1} of it is {chr(found[0][0])!r}"


class Base64String(Base64Text):
    """The same in a string of JSON, with its escapes."""

    def __init__(self, add: Callable[[bytes], None]) -> None:
        super().__init__(add)
        self._escape = b""

    def feed(self, text: bytes) -> None:
        """Take the next bytes of the string. Raises ``ValueError``, and what ``add`` raises."""
        text, self._escape = self._escape + text, b""
        if b"\\" in text:
            last = text.rfind(b"\\")
            if len(text) - last < (ESCAPE_LONGEST if text[last + 1 : last + 2] in (b"", b"u") else 2):
                text, self._escape = text[:last], text[last:]
            text = _unescape(text)
        super().feed(text)

    def finish(self) -> None:
        """The string has ended. Raises ``ValueError``, and what ``add`` raises."""
        super().feed(_unescape(self._escape))
        super().finish()


def _may_be_prefix(text: bytes) -> bool:
    """Whether it cannot be said yet where the base64 begins behind this."""
    if text[: len(_DATA)].lower() == _DATA[: len(text)]:
        return b"," not in text and len(text) < PREFIX_LONGEST
    return len(text) < SCHEME_LONGEST


def _padded(text: bytes) -> bytes:
    """The end of a text, with the padding that it needs. It may have had one character of it too many."""
    bare = text.rstrip(b"=")
    text = bare if len(text) - len(bare) <= PADDING_MOST else text
    if len(text) % 4 == 1:
        raise ValueError("a character is missing at its end, or it was cut off")
    return text + b"=" * (-len(text) % 4)


def _unescape(raw: bytes) -> bytes:
    r"""Replace ``\/``, ``\n``, ``\r``, ``\t`` and ``\u002f``. Other escapes are no base64. Raises ``ValueError``."""
    if b"\\" in raw:
        for escape, character in ((b"\\/", b"/"), (b"\\n", b"\n"), (b"\\r", b"\r"), (b"\\t", b"\t")):
            raw = raw.replace(escape, character)
        try:
            # In C, as a loop over escapes would hold up the event loop. It would also read escapes that JSON lacks.
            if raw.count(b"\\") == raw.count(b"\\u00"):
                return raw.decode("unicode_escape").encode("ascii")
        except UnicodeError:
            pass
        raise ValueError("there is an escaped character in it that is not base64")
    return raw
