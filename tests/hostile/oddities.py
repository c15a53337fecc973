"""Odd values for every part of a request, and changes to bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

SECRET = "wellknownsecretwellknownsecret22"  # of no key; it must come back in no answer and in no log
GUESSED = f"tsk_0123456789ab_{SECRET}"
KEYS = (
    GUESSED,
    f"TSK_0123456789AB_{SECRET}",
    f"tsk_0123456789ab_{SECRET}\u00e9",
    f"tsk_0123456789ab_{SECRET}_{SECRET}",
    f"tsk__{SECRET}",
    f"tsk_%00_{SECRET}",
    f"tsk_' or 1=1 --_{SECRET}",
    "tsk_0123456789ab_",
    "tsk_",
    f"tsk_{'0' * 5000}_{SECRET}",
    f"tsk_0123456789ab_{SECRET * 500}",
    f" tsk_0123456789ab_{SECRET}, tsk_0123456789ab_{SECRET}",
)
FORWARDED = (
    "1.2.3.4",
    "1.2.3.4, 5.6.7.8, 127.0.0.1",
    "::1",
    "[2001:db8::1]:443",
    "fe80::1%eth0",
    "::ffff:1.2.3.4",
    "999.1.1.1",
    "127.0.0.1:99999999",
    "unknown, _hidden",
    "",
    ",,,,",
    "1.2.3.4\t,\t5.6.7.8",
    "\u00e9",
    "127.0.0.1, " * 3000,
    "1" * 9000,
    "' or 1=1 --",
    "<script>",
)

METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "M" * 300)
PATHS = (
    "/",
    "*",
    "/nope",
    "//healthz",
    "/healthz/",
    "/HEALTHZ",
    "/../healthz",
    "/v1/predictions/",
    "/v1/predictions/a/b",
    "/img-classification/",
    "/img-classification/free/",
    "/img-classification/../config",
    "/%68ealthz",
    "/healthz;a=b",
    "/healthz?" + "a=b&" * 500,
    "http://127.0.0.1/healthz",
    "http://[::1/healthz",
    "/" + "a" * 5000,
    "/\u00e9",
    f"/{GUESSED}",
    f"/v1/tiers?key={GUESSED}",
    f"/v1/tiers?{GUESSED}",
    f"/v1/tiers?key=%74sk_0123456789ab_{SECRET}",
    "/v1/predictions?tier=none-such",
    "/v1/predictions?status=done&limit=1000&since=x&cursor=y",
    "/v1/predictions?cursor=" + "A" * 5000,
)
SEGMENTS = (
    "free",
    "premium",
    "none-such",
    "%00",
    "a%00b",
    "%ed%a0%80",
    "%ff%fe",
    "%F0%9F%98%80",
    "%",
    "%2e%2e",
    "%2f",
    "'; drop table predictions; --",
    "0" * 32,
    "f" * 5000,
    "%0d%0aX-Evil:%201",
    "..",
    "\u00ff",
    GUESSED,
)
STATIC_PATHS = (
    "/page/style.css",
    "/page/",
    "/page/..%2f..%2f..%2fetc%2fpasswd",
    "/page/../../../../etc/passwd",
    "/page/..%5c..%5cetc%5cpasswd",
    "/page/%2fetc%2fpasswd",
    "/page//etc/passwd",
    "/page/%252e%252e%252fetc%252fpasswd",
    "/page/style.css/..",
    "/page/style.css%00.js",
    "/page/" + "../" * 500 + "etc/passwd",
    "/page/__init__.py",
    "/page/.",
    "/page/\u00e9",
    "/docs/..%2f..%2f..%2fetc%2fpasswd",
    "/docs/../page.py",
    "/docs/%00",
    "/openapi.json/",
    "/watch/../config",
    "/%2e%2e/%2e%2e/etc/passwd",
)
LAST_EVENT_IDS = ("", "0", "x" * 3000, "\u00e9", "a b", '"; drop table predictions', "%00", "0" * 32, "null")
NUMBERS = (
    "0",
    "1",
    "5",
    "100",
    "101",
    "-1",
    "0.05",
    "1e3",
    "nan",
    "inf",
    "-0",
    "+1",
    " 1",
    "1_0",
    "0x10",
    "",
    "9" * 5000,
    "%00",
    "\u0663",
    "%D9%A3",
    "true",
    "[]",
    "1&top_k=2",
    "0&wait=0",
    "61",
)
WAITS = tuple(number for number in NUMBERS if number not in ("1", "5"))  # those would be waited for
TYPES = (
    "image/png",
    "image/jpeg",
    "image/",
    "application/octet-stream",
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "multipart/form-data",
    'multipart/form-data; boundary=""',
    "multipart/form-data; boundary=\u00e9",
    "multipart/form-data; boundary=" + "b" * 5000,
    "multipart/mixed; boundary=b",
    "text/plain",
    "text/plain; charset=utf-16",
    ";",
    "",
    "a" * 5000,
)
HEADERS: dict[str, Sequence[str]] = {
    "Content-Type": TYPES,
    "Prefer": (
        "respond-async",
        "wait=0",
        "wait=-1",
        "wait",
        "wait=" + "9" * 500,
        "wait=0, respond-async",
        "\x7f",
        ",,,",
    ),
    "Idempotency-Key": ("a", "same", "k" * 255, "k" * 256, "", "\u00e9", "a b", '"q"', "\x01", "%00"),
    "Cancel-After": ("1s", "90s", "0s", "-1s", "1", "s", "9" * 400 + "h", "1.5m", "\u0661s", "1e9s", ""),
    "X-Request-Id": ("r", "x" * 64, "x" * 65, "\u00e9", "a\tb", ""),
    "Expect": ("100-continue", "200-ok", ""),
    "Connection": ("close", "keep-alive", "upgrade", "Keep-Alive, close", "\u00ff"),
    "Upgrade": ("h2c", "websocket"),
    "Origin": ("null", "http://evil.example", "http://127.0.0.1", ""),
    "Sec-Fetch-Site": ("cross-site", "same-origin", "none"),
    "Accept": ("*/*", "text/html", "application/json;q=x"),
    "Accept-Encoding": ("gzip", "identity;q=0", "*"),
    "Content-Encoding": ("gzip", "br", "identity"),
    "Authorization": (
        "Bearer ",
        "Bearer a.b.c",
        "Basic eDp4",
        "Bearer \u00e9",
        "Bearer " + "t" * 9000,
        *(f"Bearer {key}" for key in KEYS),
    ),
    "X-Api-Key": ("", "x", "\u00e9", *KEYS),
    "Range": ("bytes=0-0", "bytes=-1", "x"),
    "If-None-Match": ("*", '""'),
    "Last-Event-ID": LAST_EVENT_IDS,
    "Access-Control-Request-Method": ("POST", "DELETE", "BREW", ""),
    "Access-Control-Request-Headers": ("authorization", "x-evil, " * 500, ""),
    "X-Forwarded-For": FORWARDED,
    "Forwarded": ("for=1.2.3.4",),
    "Cookie": ("a=b", "=" * 3000, "\u00e9=\u00e9"),
    "X-Http-Method-Override": ("DELETE",),
    "X-Long": ("x" * 20_000, "x" * 70_000),
}
HOSTS = ("", "evil.example", "127.0.0.1:99999", "[::1]", "localhost", "\u00e9", "a b", "x" * 3000, "127.0.0.1\x00")
# Instead of the length: each breaks how the end of a request is found.
FRAMES = (
    "Content-Length: -1",
    "Content-Length: 9999999999999999999999",
    "Content-Length: " + "9" * 5000,
    "Content-Length: 3\r\nContent-Length: 4",
    "Content-Length: 3\r\nContent-Length: 3",
    "Content-Length: 3, 3",
    "Content-Length: +3",
    "Content-Length: 3_0",
    "Content-Length: 0x3",
    "Content-Length:",
    "Content-Length: 4\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\tchunked",
    " Content-Length: 3",
    "Content-Length\x00: 3",
    "NoColon",
    ": empty",
    "A: b\n folded",
)
LENGTH_TO_REPEAT = 2000
VALUES: Sequence[object] = (
    None,
    True,
    0,
    -1,
    65,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "\x00",
    "\ud800",
    "\U0001f600",
    "x" * 70_000,
    [],
    {},
    [[]],
    {"": None},
    {"__proto__": {}},
)


def flipped(chance: random.Random, data: bytearray) -> None:
    """Change some bits."""
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def cut(chance: random.Random, data: bytearray) -> None:
    """Take a piece away."""
    start = chance.randrange(len(data))
    del data[start : start + chance.randint(1, len(data))]


def doubled(chance: random.Random, data: bytearray) -> None:
    """Have a piece twice."""
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randint(1, 200)]
    data[start:start] = piece * chance.randint(1, 20)


def spliced(chance: random.Random, data: bytearray) -> None:
    """Put something strange in."""
    start = chance.randrange(len(data))
    odd = chance.choice(
        (b"\x00", b"\r\n", b"\r\n\r\n", b"\xff" * 9, b"[" * 999, b"\\u0000", b'"', b"--b--\r\n", b"%s%n")
    )
    data[start : start + chance.choice((0, len(odd)))] = odd


CHANGES: Sequence[Callable[[random.Random, bytearray], None]] = (flipped, cut, doubled, spliced)


def changed(chance: random.Random, data: bytes) -> bytes:
    """Bytes that are almost those given."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        if found:
            chance.choice(CHANGES)(chance, found)
    return bytes(found)


def odd_json(chance: random.Random, value: object, rate: float = 0.15) -> object:
    """A JSON value in which some parts have another type, are missing, come twice or are very large."""
    if chance.random() < rate:
        return chance.choice(VALUES)
    if isinstance(value, dict):
        kept = {key: odd_json(chance, part, rate) for key, part in value.items() if chance.random() > rate / 3}
        return (
            {**kept, chance.choice(("x", "", "top_k", "id")): chance.choice(VALUES)} if chance.random() < rate else kept
        )
    if isinstance(value, list):
        parts = [odd_json(chance, part, rate) for part in value]
        # Lists within lists must not multiply without end.
        return parts * chance.choice((1, 1, 1, 1, 1, 2, 65)) if len(repr(parts)) < LENGTH_TO_REPEAT else parts
    return value
