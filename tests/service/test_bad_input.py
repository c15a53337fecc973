"""Whatever is sent: the right status, a stable code, the number that was exceeded; never a 500, never a traceback."""

from __future__ import annotations

import json
import operator
import socket
from contextlib import ExitStack, suppress

import pytest
from PIL import Image

from tests.running import Answer, Service
from tests.service import pictures
from tests.service.test_classify import is_cat, multipart
from tests.waiting import eventually

HEAD = b"POST /img-classification/free HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json.get("code")) == (status, code), answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["detail"]
    assert b"Traceback" not in answer.body


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(pictures.encode(pictures.cat().convert("CMYK"), "JPEG"), id="CMYK"),
        pytest.param(pictures.encode(pictures.cat().quantize(64), "PNG"), id="palette"),
        pytest.param(pictures.sixteen_bit(), id="16-bit"),
        pytest.param(pictures.rotated(), id="EXIF rotation"),
        pytest.param(pictures.animated(), id="animated GIF"),
        pytest.param(pictures.encode(pictures.cat(), "WEBP"), id="WebP"),
    ],
)
def test_odd_cats_are_cats(running: Service, picture: bytes) -> None:
    assert is_cat(running.post("premium", picture))


def test_one_pixel_is_a_picture(running: Service) -> None:
    answer = running.post("free", pictures.encode(Image.new("RGB", (1, 1)), "PNG"))
    assert (answer.status, answer.json["status"]) == (200, "succeeded")


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        pytest.param(pictures.CAT[: len(pictures.CAT) // 2], "image_truncated", id="truncated"),
        pytest.param(pictures.bomb(), "image_too_large", id="bomb of 50,000 x 50,000"),
        pytest.param(b"\xff\xd8\xff" + bytes(1000), "image_broken", id="only a JPEG's magic"),
    ],
)
def test_a_picture_that_cannot_be_decoded_is_a_result(running: Service, picture: bytes, code: str) -> None:
    running.post("free", pictures.CAT)
    answer = running.post("free", picture)
    assert_problem(answer, 422, code)
    prediction = answer.json["prediction"]
    assert prediction["status"] == "failed"
    assert prediction["error"]["code"] == code
    again = running.get(prediction["urls"]["get"])
    assert (again.status, again.json) == (200, prediction)
    assert is_cat(running.post("free", pictures.CAT))


def test_one_bad_picture_among_eight_leaves_seven(running: Service) -> None:
    body, headers = multipart([pictures.CAT] * 5 + [b"no picture"] + [pictures.CAT] * 2)
    answer = running.post("free", body, headers)
    assert answer.status == 200
    results = answer.json["results"]
    assert [result["status"] for result in results] == ["succeeded"] * 5 + ["failed"] + ["succeeded"] * 2
    assert results[5]["error"]["code"] == "image_unsupported"
    assert [result["index"] for result in results] == list(range(8))


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"this is no picture", "image/jpeg", 415, "unsupported_media_type"),
        (b"this is no picture", "application/octet-stream", 415, "unsupported_media_type"),
        (b"SIMPLE  =                    T", "image/fits", 415, "unsupported_media_type"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "image/jpeg", 415, "unsupported_media_type"),
        (pictures.CAT, "video/mp4", 415, "unsupported_media_type"),
        (b"", "image/jpeg", 400, "empty_body"),
        (b"{", "application/json", 400, "bad_json"),
        (b"[1]", "application/json", 400, "bad_json"),
        (b'{"inputs": NaN}', "application/json", 400, "bad_json"),
        (b"{}", "application/json", 422, "bad_inputs"),
        (b'{"inputs": []}', "application/json", 422, "bad_inputs"),
        (b'{"inputs": "***"}', "application/json", 422, "bad_base64"),
        (b'{"inputs": "data:image/png;base64,A"}', "application/json", 422, "bad_base64"),
        (b'{"inputs": "AAAA", "parameters": {"size": 1}}', "application/json", 422, "bad_parameters"),
        (b'{"inputs": "AAAA", "parameters": {"top_k": 0}}', "application/json", 422, "bad_top_k"),
        (b'{"inputs": "AAAA"}', "application/json", 415, "unsupported_media_type"),
        (b"no boundary", "multipart/form-data", 400, "bad_multipart"),
        (b"--XX\r\n", "multipart/form-data; boundary=XX", 400, "bad_multipart"),
        (multipart([], {"a": "b"})[0], "multipart/form-data; boundary=XX", 400, "no_image"),
        (multipart([pictures.CAT] * 9)[0], "multipart/form-data; boundary=XX", 413, "too_many_images"),
        (multipart([pictures.CAT] * 200)[0], "multipart/form-data; boundary=XX", 400, "bad_multipart"),
    ],
)
def test_bodies_that_cannot_be_read(running: Service, body: bytes, kind: str, status: int, code: str) -> None:
    assert_problem(running.post("free", body, {"Content-Type": kind}), status, code)


@pytest.mark.parametrize(
    ("headers", "query", "status", "code"),
    [
        ({"Cancel-After": "tomorrow"}, "", 400, "bad_cancel_after"),
        ({"Cancel-After": "2h"}, "", 400, "bad_cancel_after"),
        ({"Idempotency-Key": "k" * 300}, "", 400, "bad_idempotency_key"),
        ({}, "?top_k=many", 422, "bad_top_k"),
        ({}, "?top_k=101", 422, "bad_top_k"),
    ],
)
def test_parameters_out_of_range(running: Service, headers: dict[str, str], query: str, status: int, code: str) -> None:
    assert_problem(running.post("free", pictures.CAT, headers, query), status, code)


def test_preferences_that_mean_nothing_are_ignored(running: Service) -> None:
    assert is_cat(running.post("free", pictures.CAT, {"Prefer": "wait=soon, handling=lenient"}))


def test_unknown_tiers_routes_and_methods(running: Service) -> None:
    answer = running.post("gold", pictures.CAT)
    assert_problem(answer, 404, "no_such_tier")
    assert answer.json["tiers"] == ["free", "premium"]
    assert_problem(running.get("/v2/nothing"), 404, "no_such_route")
    assert_problem(running.ask("PUT", "/img-classification/free", pictures.CAT), 405, "method_not_allowed")
    assert_problem(running.get("/v1/predictions/x?wait=soon"), 400, "bad_wait")
    assert_problem(running.ask("POST", "/work/lease", b"{}"), 404, "no_such_route")


def test_too_many_bytes_are_refused_before_they_are_sent(running: Service) -> None:
    head = HEAD + b"Content-Length: 99999999\r\n\r\n"
    answer = exchange(running, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (problem["code"], problem["limit_bytes"]) == ("too_many_bytes", 10 * 1024 * 1024)


def test_too_many_bytes_without_a_length_are_refused_when_they_come(running: Service) -> None:
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    assert exchange(running, head + 11 * chunk).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"", 411),
        (b"Content-Length: ten\r\n", 400),
        (b"Content-Length: -1\r\n", 400),
        (b"Content-Length: 10\r\nContent-Length: 20\r\n", 400),
        (b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n", 400),
    ],
)
def test_missing_and_lying_lengths(running: Service, headers: bytes, status: int) -> None:
    assert exchange(running, HEAD + headers + b"\r\n").startswith(f"HTTP/1.1 {status} ".encode())


def test_uploads_together_are_bounded_and_a_hung_up_one_counts_no_more(running: Service) -> None:
    head = HEAD.replace(b"image/jpeg", b"multipart/form-data; boundary=XX") + b"Content-Length: 80000000\r\n\r\n"
    with ExitStack() as held:
        for _ in range(3):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=10))
            connection.sendall(head + b"--XX")
        refused = "a further upload is refused"
        eventually(lambda: asked(running, head), 30, refused, lambda said: said.startswith(b"HTTP/1.1 503 "))
        assert is_cat(running.post("free", pictures.CAT))
    free = "the bytes of three lost uploads are free"
    eventually(lambda: asked(running, head), 30, free, lambda said: said.startswith(b"HTTP/1.1 100 "))


def asked(running: Service, head: bytes) -> bytes:
    """What the server says to a client that asks whether it may send its body."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        return connection.recv(100)


def test_a_body_shorter_than_its_length_leaves_nothing_behind(running: Service) -> None:
    assert running.process is not None
    process = running.process
    head = (
        b"POST /img-classification/free HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(head + pictures.CAT[:1000])
        port = connection.getsockname()[1]

        def ends() -> list[str]:
            """The server's ends of this connection."""
            return [one.status for one in process.net_connections() if one.raddr and one.raddr.port == port]

        eventually(ends, 20, "the server has the connection")
    eventually(ends, 20, "the server has noticed that it broke", operator.not_)
    empty = "nothing waits, and no picture is kept"
    eventually(lambda: (waiting(running), kept(running)), 20, empty, lambda found: found == ([0, 0], []))


def waiting(running: Service) -> list[int]:
    return [tier["queued"] for tier in running.get("/v1/tiers").json["tiers"]]


def kept(running: Service) -> list[str]:
    return [path.name for path in (running.state / "data" / "blobs").rglob("*") if path.is_file()]


def exchange(running: Service, data: bytes) -> bytes:
    """What the server answers to these bytes before it closes the connection or says no more."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        with suppress(OSError):
            connection.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            if not (part := connection.recv(65536)):
                break
            answer += part
        return answer
