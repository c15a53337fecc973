"""Takes secrets out of text that is printed: keys, and those in URLs, ``key=value`` pairs and Authorization headers."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"

_NAME = r"[A-Za-z0-9_.=-]+"
_HOST = rf"(?:{_NAME}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}\Z")
# A URL of any other form may have a password with a delimiter that is not encoded, and then no part of it is where it
# seems to be.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30})://"
    r"(?:(?P<user>[^:/?#@\s]*)(?::(?P<password>[^:/?#@\s]*))?@)?"
    rf"(?P<hosts>(?:{_HOST}(?:,{_HOST})*)?)(?P<path>(?:/{_NAME})*/?)(?:\?(?P<query>[^#@\s]*))?"
)
# The path of a URL of any other scheme may be its secret, as that of a webhook is.
_POSTGRESQL = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
_PLAIN_PATHS = _POSTGRESQL | {"s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "file"}
# Options of PostgreSQL's URLs whose values may stand in the driver's errors.
_PLAIN_OPTIONS = frozenset(
    {
        *("application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "gssencmode", "host"),
        *("hostaddr", "load_balance_hosts", "options", "port", "sslmode", "target_session_attrs", "user"),
    }
)
_LEAST = 4  # shorter parts of a URL also stand in words that have nothing to do with it

# The patterns below read text that strangers can make long, such as the path of a request: all repeats are bounded.
_WORD = re.compile(r"\S+")
_BEHIND = re.compile(r"[\"'<>()\[\]{}.,;:!?]{0,8}\Z")  # may stand right behind a URL in a sentence
_SENSITIVE = r"(?:pass(?:word|wd|file|phrase|code)|pwd|secret|token|credential|signature|(?:api|access|account)_?key)"
_VALUE = r"(?:(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")[^\s,}]*|\S+)"
_PAIR = re.compile(
    rf"((?:{_SENSITIVE}[\w-]{{0,40}}|\bsig)(?:\s{{0,3}}=|[\"']\s{{0,3}}:)\s{{0,3}}){_VALUE}", re.IGNORECASE
)
_HEADER = re.compile(
    r"(authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:(?:bearer|basic)\s{1,3})?)[^\s\"']+", re.IGNORECASE
)

# Of keys (tsk_ID_SECRET) the id stays; of admin tokens (tsa_SECRET) nothing.
_KEY = re.compile(r"(ts[ak](?:_|%5F)(?:[0-9a-z]{12}(?:_|%5F))?)\w+", re.IGNORECASE)


def shown(url: str) -> str:
    """Return what may be printed of a URL: scheme, hosts and ports, and the path if it cannot be a secret.

    Three dots stand for what is left out, and for everything behind the scheme of a URL whose parts are in doubt.
    """
    parts = _URL.fullmatch(url)
    if parts is None or not (parts["hosts"] or parts["path"]):
        scheme, separator, _ = url.partition("://")
        return f"{scheme}://..." if separator and _SCHEME.match(scheme) else "..."
    hidden = parts["path"] not in ("", "/") and parts["scheme"].lower() not in _PLAIN_PATHS
    return f"{parts['scheme']}://{parts['hosts']}{'/...' if hidden else parts['path']}"


def redacted(text: str, *urls: str) -> str:
    """Return ``text`` without the secrets of the URLs that stand in it, and of ``urls``.

    ``urls`` are those that the text is about: errors of libraries quote parts of the URL that they were given.
    """
    given = [url for url in urls if _may_hold_secrets(url)]
    for url in given:
        text = text.replace(url, shown(url))
    for secret in sorted({one for url in given for one in _secrets(url)}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if "://" in text or "@" in text:
        text = _WORD.sub(_redacted_word, text)
    text = _KEY.sub(rf"\g<1>{HIDDEN}", text)
    return _HEADER.sub(rf"\g<1>{HIDDEN}", _PAIR.sub(rf"\g<1>{HIDDEN}", text))


class RedactingFormatter(logging.Formatter):
    """Writes log lines and tracebacks without secrets; ``urls`` are those that the process was started with."""

    def __init__(self, form: str, *urls: str) -> None:
        super().__init__(form)
        self._urls = urls

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, with its traceback."""
        return redacted(super().format(record), *self._urls)


def _redacted_word(found: re.Match[str]) -> str:
    word = found[0]
    before, separator, _ = word.partition("://")
    if separator and (scheme := _SCHEME.search(before[-31:])):
        start = len(before[:-31]) + scheme.start()
        behind = _BEHIND.search(word, len(word) - 8)
        end = behind.start() if behind else len(word)
        return word[:start] + shown(word[start:end]) + word[end:]
    before, separator, after = word.rpartition("@")
    return f"{HIDDEN}@{after}" if separator and ":" in before else word


def _may_hold_secrets(url: str) -> bool:
    """Whether it is a URL or a driver's ``key=value`` string, and not a path of this machine."""
    return "://" in url or (not url.startswith((".", "/")) and ("=" in url or "@" in url))


def _secrets(url: str) -> Iterator[str]:
    """Iterate over the parts of a URL that may be secrets: as they are, decoded, and encoded in other ways."""
    for part in _secret_parts(url):
        for form in (part, unquote(part), unquote_plus(part)):
            for one in (form, quote(form, safe=""), quote(form), quote_plus(form), repr(form)[1:-1]):
                if len(one) >= _LEAST:
                    yield one


def _secret_parts(url: str) -> Iterator[str]:
    parts = _URL.fullmatch(url)
    if parts is None:
        rest = url.partition("://")[2] or url
        yield rest
        yield from (
            part.strip("'\"") for part in re.split(r"[/:@?&=#,;\s]+", rest) if not re.fullmatch(_SENSITIVE, part)
        )
        return
    yield parts["password"] or ""
    if parts["password"] is None and parts["scheme"] not in _POSTGRESQL:
        yield parts["user"] or ""  # a token; the user of a database is named in its errors
    for pair in (parts["query"] or "").split("&"):
        key, _, value = pair.partition("=")
        if key not in _PLAIN_OPTIONS:
            yield value
            yield "" if re.search(_SENSITIVE, key) else key
