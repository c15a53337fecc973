"""Reads the head of a request, and says as a problem what is wrong with it.

A target may be a path, a whole URL (RFC 9112, 3.2.2) or, with ``OPTIONS``, an asterisk.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from tornado.httputil import HTTPHeaders, HTTPInputError, RequestStartLine, parse_request_start_line

from server.problems import Problem
from server.redaction import redacted

HEAD_BYTES, HEAD_LINES, QUERY_FIELDS = 16 * 1024, 100, 100
# Matches the end of a head, or where there is none, the end of what has come once that is too long for a head.
END = rb"\r?\n\r?\n|\Z(?<=(?s:.{%d}))" % (HEAD_BYTES + 1)
OTHER_VERSION = re.compile(r".* HTTP/(?!1\.)[0-9]\.[0-9]")
# Stricter than Tornado, which raises errors of its own for what it does not accept.
HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::[0-9]{0,5})?")

URL = re.compile(r"(?i:https?)://([^/?#]*)([^#]*)")
# Percent-encoded or not, these characters mean the same (RFC 3986, 6.2.2.2); many programs encode a colon, too.
ENCODED, NEEDLESS = re.compile("%([0-9A-Fa-f]{2})"), re.compile("[A-Za-z0-9._~:-]")


def read(data: bytes) -> tuple[str, HTTPHeaders]:
    """Return the request line and the headers. Raises ``Problem`` with 400 or 431."""
    if len(data) > HEAD_BYTES:
        detail = f"the head of the request is longer than {HEAD_BYTES} bytes"
        raise _problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", detail, limit_bytes=HEAD_BYTES)
    if data.count(b"\n") > HEAD_LINES:
        detail = f"the head of the request has more than {HEAD_LINES} lines"
        raise _problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", detail, limit_lines=HEAD_LINES)
    # An empty line before a request is allowed: some clients send one after a body.
    line, _, rest = data.decode("latin1").lstrip("\r\n").partition("\n")
    line = line.rstrip("\r")
    asked = _request_line(line)
    target, authority = _target(asked)
    try:
        headers = HTTPHeaders.parse(rest)
    except HTTPInputError as error:
        raise _problem(HTTPStatus.BAD_REQUEST, "bad_header", str(error)) from error
    _check_host(asked.version, headers)
    _check_length(asked.version, headers)
    if authority is not None:
        headers["Host"] = authority
    return (line if target == asked.path else f"{asked.method} {target} {asked.version}"), headers


def _request_line(line: str) -> RequestStartLine:
    try:
        asked = parse_request_start_line(line)
    except HTTPInputError as error:
        if OTHER_VERSION.fullmatch(line):
            detail = "this server speaks HTTP/1.1 only"
            raise _problem(HTTPStatus.BAD_REQUEST, "bad_http_version", detail) from error
        detail = f"the request does not begin with a method, a target and HTTP/1.1, but with {line[:80]!r}"
        raise _problem(HTTPStatus.BAD_REQUEST, "bad_request_line", detail) from error
    if asked.path.count("&") >= QUERY_FIELDS:
        detail = f"the query has more than {QUERY_FIELDS} fields"
        raise _problem(HTTPStatus.BAD_REQUEST, "bad_target", detail, limit_fields=QUERY_FIELDS)
    return asked


def _target(asked: RequestStartLine) -> tuple[str, str | None]:
    """The path and query, or the asterisk, that are asked for, and the host that a whole URL names beside them."""
    target, authority = asked.path, None
    if match := URL.fullmatch(target):
        authority, rest = match.groups()
        target = rest if rest.startswith("/") else f"/{rest}"
    is_path = target.startswith("/") or (target == "*" and asked.method == "OPTIONS")
    if not (is_path and target.isascii() and (authority is None or HOST.fullmatch(authority))):
        detail = f"the target of a request is a path in ASCII, such as /healthz, not {asked.path[:80]!r}"
        raise _problem(HTTPStatus.BAD_REQUEST, "bad_target", detail)
    path, mark, query = target.partition("?")
    return (ENCODED.sub(_decoded, path) + mark + query if "%" in path else target), authority


def _decoded(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if NEEDLESS.fullmatch(character) else match[0]


def _check_host(version: str, headers: HTTPHeaders) -> None:
    hosts = headers.get_list("Host")
    if not hosts and version == "HTTP/1.0":
        return
    if len(hosts) != 1:
        raise _problem(HTTPStatus.BAD_REQUEST, "bad_host", f"a request has one Host header, not {len(hosts)}")
    if not HOST.fullmatch(hosts[0]):
        raise _problem(HTTPStatus.BAD_REQUEST, "bad_host", f"Host is {hosts[0][:80]!r}, not a name and a port")


def _check_length(version: str, headers: HTTPHeaders) -> None:
    """Refuse whatever leaves in doubt where the body ends: a proxy might see another end than this server."""
    codings, lengths = headers.get_list("Transfer-Encoding"), headers.get_list("Content-Length")
    if codings:
        if lengths or version == "HTTP/1.0":
            beside = "Content-Length" if lengths else "HTTP/1.0"
            raise _problem(HTTPStatus.BAD_REQUEST, "bad_length", f"Transfer-Encoding cannot stand beside {beside}")
        if [coding.lower() for coding in codings] != ["chunked"]:
            detail = f"Transfer-Encoding is {', '.join(codings)[:80]!r}; this server knows chunked only"
            raise _problem(HTTPStatus.BAD_REQUEST, "bad_transfer_encoding", detail)
    if len(lengths) > 1:
        raise _problem(HTTPStatus.BAD_REQUEST, "bad_length", f"there are {len(lengths)} headers Content-Length")
    if lengths and not _is_number(lengths[0]):
        raise _problem(HTTPStatus.BAD_REQUEST, "bad_length", f"Content-Length is {lengths[0][:40]!r}, not a number")


def _is_number(given: str) -> bool:
    try:
        return given.isascii() and given.isdigit() and int(given) >= 0
    except ValueError:  # more digits than Python reads
        return False


def _problem(status: HTTPStatus, code: str, detail: str, **numbers: int) -> Problem:
    # It may quote what a client sent, with a key in it; a proxy may log it.
    return Problem(status, code, redacted(detail[:300]), **numbers)
