"""A real S3 server that keeps objects in memory, and a proxy in front of it that fails on purpose."""

from __future__ import annotations

import http.client
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.s3 import s3

KEY_ID, SECRET = "AKIDOFTHETESTS", "secret-of-the-tests"
HOP_BY_HOP = {"connection", "transfer-encoding", "host"}


class Request(BaseHTTPRequestHandler):
    """A request on its way to the real server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def relay(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}")
        faults = self.server.faults
        (faults.popleft() if faults else self.server.always)(self)

    do_GET = do_PUT = do_POST = do_DELETE = relay  # noqa: N815 (the base class gives these names)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def ask(self, method: str = "") -> tuple[int, dict[str, str], bytes]:
        """Send the request to the real server and return its answer."""
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        if not headers.get("authorization", "").startswith("AWS4"):  # a token for Google, which the server cannot read
            headers["authorization"] = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, Signature=s"
        return self.server.ask(method or self.command, self.path, b"" if method else self.body(), headers)

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None, length: int = -1) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            if name.lower() not in {*HOP_BY_HOP, "content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length < 0 else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


Fault = Callable[[Request], None]


def pass_on(request: Request) -> None:
    status, headers, content = request.ask()
    request.answer(status, content, headers)


def refuse(status: int, code: str, more: str = "") -> Fault:
    """Makes a fault that refuses as S3 does, or without a code as some other server on the way does."""
    xml = f"<Error><Code>{code}</Code><Message>no</Message>{more}</Error>" if code else "default backend"

    def fault(request: Request) -> None:
        request.body()
        request.answer(status, xml.encode())

    return fault


slow_down = refuse(503, "SlowDown")


def hang(request: Request) -> None:
    request.server.released.wait()
    request.close_connection = True


def drop(request: Request) -> None:
    """Break the connection in the middle of the request's body, before any answer."""
    request.rfile.read(int(request.headers.get("Content-Length", 0)) // 2)
    request.close_connection = True


def break_off(request: Request) -> None:
    """Break the connection in the middle of the answer."""
    status, headers, content = request.ask()
    request.answer(status, content[: len(content) // 2], headers, length=len(content))
    request.close_connection = True


def cut_short(request: Request) -> None:
    """Answer with half of the object as if it were all of it."""
    status, headers, content = request.ask()
    request.answer(status, content[: len(content) // 2], headers)


def changed(request: Request) -> None:
    """Answer as if the object had been replaced by another one."""
    status, headers, content = request.ask()
    request.answer(status, content, {**headers, "ETag": '"another"'})


def google(request: Request) -> None:
    """Answer as Google does, where it differs from S3: deleting an object that is gone is an error."""
    if request.command == "DELETE" and request.ask("HEAD")[0] == 404:
        return refuse(404, "NoSuchKey")(request)
    return pass_on(request)


class Proxy(ThreadingHTTPServer):
    """Applies the next of ``faults`` to each request, and ``always`` when none are left."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.target = target
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.bucket = "blobs"
        self.reset()

    def reset(self) -> None:
        self.faults: deque[Fault] = deque()
        self.always: Fault = pass_on
        self.released = threading.Event()
        self.seen: list[str] = []

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.target)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def place(self) -> str:
        """A new prefix in the bucket."""
        return f"{self.bucket}/{uuid.uuid4().hex}/pictures"

    def write(self, path: str, content: bytes) -> None:
        """Put an object there, as somebody else would."""
        assert self.ask("PUT", f"/{path}", content, {})[0] == 200

    def names(self, place: str) -> list[str]:
        """The names of the objects that the real server has below a prefix."""
        bucket, _, prefix = place.partition("/")
        listing = self.ask("GET", f"/{bucket}?list-type=2&prefix={prefix}/", b"", {})[2].decode()
        return [name.removeprefix(f"{prefix}/") for name in re.findall(r"<Key>(.*?)</Key>", listing)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        raise


@contextmanager
def running(log: Path) -> Iterator[Proxy]:
    """Run the server and its proxy, and set the environment that leads clients to the proxy."""
    with s3("127.0.0.1", log) as address, pytest.MonkeyPatch.context() as environment:
        proxy = Proxy(address)
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            environment.delenv(name, raising=False)
        environment.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_REGION", "us-east-1")
        environment.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.write(proxy.bucket, b"")
        yield proxy
        proxy.released.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()
