"""Bad requests get the right status, a stable code and the limit that they exceed, but never a 500 or a traceback."""

from __future__ import annotations

import json

import pytest

from server.http import lingering
from tests.server.http.http_site import ADMIN_TOKEN, ANSWER_SECONDS, PICTURE, Site, assert_problem
from tests.service.test_classify import multipart

HEAD = b"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MEGABYTE = b"100000\r\n" + bytes(0x100000) + b"\r\n"
IMAGE_BYTES = 10 * 1024 * 1024


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"this is no picture", "image/jpeg", 415, "unsupported_media_type"),
        (b"this is no picture", "application/octet-stream", 415, "unsupported_media_type"),
        (b"SIMPLE  =                    T", "image/fits", 415, "unsupported_media_type"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "image/jpeg", 415, "unsupported_media_type"),
        (b"this is no picture", "video/mp4", 415, "unsupported_media_type"),
        (b'\xff\xfe{\0"\0', "application/json", 400, "bad_json"),
        (b'{"inputs": "AAAA", "top_k": 3}', "application/json", 422, "bad_parameters"),
        (b'{"input": "AAAA"}', "application/json", 422, "bad_parameters"),
        (b'{"inputs": "AAAA", "parameters": {"top_k": " 5"}}', "application/json", 422, "bad_top_k"),
        (b'{"inputs": "/9j/"}', "image/jpeg", 415, "unsupported_media_type"),
        (b"", "image/jpeg", 400, "empty_body"),
        (b"{", "application/json", 400, "bad_json"),
        (b"[1]", "application/json", 400, "bad_json"),
        (b'{"inputs": NaN}', "application/json", 400, "bad_json"),
        (b"[" * 100_000, "application/json", 400, "bad_json"),
        (b"{}", "application/json", 422, "bad_inputs"),
        (b'{"inputs": []}', "application/json", 422, "bad_inputs"),
        (b'{"inputs": "***"}', "application/json", 422, "bad_base64"),
        (b'{"inputs": "data:image/png;base64,A"}', "application/json", 422, "bad_base64"),
        (b'{"inputs": "AAAA", "parameters": {"size": 1}}', "application/json", 422, "bad_parameters"),
        (b'{"inputs": "AAAA", "parameters": false}', "application/json", 422, "bad_parameters"),
        (b'{"inputs": "AAAA", "parameters": {"top_k": 0}}', "application/json", 422, "bad_top_k"),
        (b'{"inputs": "AAAA", "parameters": {"top_k": true}}', "application/json", 422, "bad_top_k"),
        (b'{"inputs": "AAAA", "parameters": {"top_k": 1.5}}', "application/json", 422, "bad_top_k"),
        (b'{"inputs": "AAAA", "parameters": {"top_k": 1e300}}', "application/json", 422, "bad_top_k"),
        (b'{"inputs": "AAAA", "parameters": {"function_to_apply": "relu"}}', "application/json", 422, "bad_function"),
        (b'{"inputs": "AAAA", "parameters": {"function_to_apply": ["none"]}}', "application/json", 422, "bad_function"),
        (b'{"inputs": "AAAA", "parameters": {"function_to_apply": true}}', "application/json", 422, "bad_function"),
        (b'{"inputs": "AAAA", "parameters": {"function": "none"}}', "application/json", 422, "bad_parameters"),
        (b'{"inputs": "AAAA"}', "application/json", 415, "unsupported_media_type"),
        (b"no boundary", "multipart/form-data", 400, "bad_multipart"),
        (b"--XX\r\n", "multipart/form-data; boundary=XX", 400, "bad_multipart"),
        (multipart([], {"top_k": "1"})[0], "multipart/form-data; boundary=XX", 400, "no_image"),
        (multipart([PICTURE], {"topk": "1"})[0], "multipart/form-data; boundary=XX", 422, "bad_parameters"),
        (
            multipart([PICTURE], {"a": "a longer text, of more than sixty-four characters " + 20 * "x"})[0],
            "multipart/form-data; boundary=XX",
            422,
            "bad_parameters",
        ),
        (multipart([PICTURE], {"top_k": "\uff15"})[0], "multipart/form-data; boundary=XX", 422, "bad_top_k"),
        (multipart([PICTURE], {"top_k": "5\n"})[0], "multipart/form-data; boundary=XX", 422, "bad_top_k"),
        (multipart([PICTURE], {"top_k": "x"})[0], "multipart/form-data; boundary=XX", 422, "bad_top_k"),
        (multipart([PICTURE], {"function_to_apply": ""})[0], "multipart/form-data; boundary=XX", 422, "bad_function"),
        (multipart([PICTURE] * 9)[0], "multipart/form-data; boundary=XX", 413, "too_many_images"),
        (
            200 * b'--XX\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\n\r\n' + b"--XX--",
            "multipart/form-data; boundary=XX",
            400,
            "bad_multipart",
        ),
        (multipart([PICTURE], {"top_k": 70_000 * "1"})[0], "multipart/form-data; boundary=XX", 413, "too_many_bytes"),
    ],
)
def test_bodies_that_cannot_be_read(shared: Site, body: bytes, kind: str, status: int, code: str) -> None:
    assert_problem(shared.post("free", body, {"Content-Type": kind}), status, code)
    assert_nothing_is_kept(shared)


@pytest.mark.parametrize(
    ("headers", "query", "status", "code"),
    [
        ({"Cancel-After": "tomorrow"}, "", 400, "bad_cancel_after"),
        ({"Cancel-After": "2h"}, "", 400, "bad_cancel_after"),
        ({"Cancel-After": "0.5s"}, "", 400, "bad_cancel_after"),
        ({"Idempotency-Key": "k" * 300}, "", 400, "bad_idempotency_key"),
        ({"Idempotency-Key": ""}, "", 400, "bad_idempotency_key"),
        ({"Idempotency-Key": "cl\xe9"}, "", 400, "bad_idempotency_key"),
        ({"Idempotency-Key": "a\tb"}, "", 400, "bad_idempotency_key"),
        ({"Cancel-After": "\xb2s"}, "", 400, "bad_cancel_after"),
        ({"Cancel-After": "90s, 90s"}, "", 400, "bad_cancel_after"),
        ({}, "?top_k=many", 422, "bad_top_k"),
        ({}, "?top_k=0", 422, "bad_top_k"),
        ({}, "?function_to_apply=Softmax", 422, "bad_function"),
        ({}, "?function_to_apply=none&function_to_apply=%ff", 422, "bad_function"),
        ({}, "?top_k=101", 422, "bad_top_k"),
        ({}, "?top_k=%00", 422, "bad_top_k"),
        ({}, "?top_k=%ff", 422, "bad_top_k"),
        ({}, "?top_k=%D9%A3", 422, "bad_top_k"),
        ({}, "?top_k=1_0", 422, "bad_top_k"),
        ({}, "?top_k=5&top_k=many", 422, "bad_top_k"),
        ({}, "?top_k=+5", 422, "bad_top_k"),
        ({}, "?top_k=5%20", 422, "bad_top_k"),
        ({}, "?top_k=%2B5", 422, "bad_top_k"),
        ({}, "?top_k=5.0", 422, "bad_top_k"),
        ({}, "?top_k=1e1", 422, "bad_top_k"),
        ({}, "?top_k=0x5", 422, "bad_top_k"),
        ({}, "?top_k=%EF%BC%95", 422, "bad_top_k"),
        ({}, "?top_k=" + 5000 * "9", 422, "bad_top_k"),
        ({}, "?top_k=", 422, "bad_top_k"),
        ({}, "?topk=5", 422, "bad_parameters"),
        ({}, "?top_k=5&%ff", 422, "bad_parameters"),
        ({}, "?Top_K=5", 422, "bad_parameters"),
    ],
)
def test_parameters_out_of_range(shared: Site, headers: dict[str, str], query: str, status: int, code: str) -> None:
    assert_problem(shared.post("free", PICTURE, headers, query), status, code)
    assert_nothing_is_kept(shared)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "Deflate", "br", "zstd", "identity, gzip"])
@pytest.mark.parametrize(
    ("method", "path", "internal"),
    [
        ("POST", "/img-classification/free", False),
        ("POST", "/hf/free", False),
        ("POST", "/predictions/free", False),
        ("POST", "/v1/models/free:predict", False),
        ("POST", "/v2/models/free/infer", False),
        ("POST", "/v1/keys", True),
        ("PUT", "/v1/model-files/" + 64 * "0", True),
    ],
)
def test_a_compressed_body_is_refused_on_every_route_that_reads_one(
    shared: Site, method: str, path: str, internal: bool, coding: str
) -> None:
    headers = {"Content-Encoding": coding, "Content-Type": "image/jpeg", "Authorization": f"Bearer {ADMIN_TOKEN}"}
    answer = (shared.internal if internal else shared).ask(method, path, PICTURE, headers)
    assert (answer.status, b"send it as it is, without that header" in answer.body) == (415, True), answer.body


@pytest.mark.parametrize("coding", ["", "identity", "utf-8", "aws-chunked"])
def test_other_codings_change_nothing(site: Site, coding: str) -> None:
    assert site.submit(headers={"Content-Encoding": coding}).status == 202


def assert_nothing_is_kept(site: Site) -> None:
    assert site.queue.depths().result(ANSWER_SECONDS) == {}
    assert list(site.blobs.older_than(-3600)) == []


def test_unknown_tiers_routes_and_methods(shared: Site) -> None:
    answer = shared.post("gold", PICTURE)
    assert_problem(answer, 404, "no_such_tier")
    assert answer.json["tiers"] == ["free", "premium"]
    for tier in ("%ff", "%00", "%ED%A0%80", "x" * 5000):
        assert_problem(shared.post(tier, PICTURE), 404, "no_such_tier")
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert_problem(shared.ask(method, "/v2/nothing"), 404, "no_such_route")
    assert shared.ask("HEAD", "/v2/nothing").status == 404
    for path in ("/v2/nothing", "/img-classification/free", "/healthz"):
        assert_problem(shared.ask("PURR", path), 405, "method_not_allowed")
    assert_problem(shared.ask("PUT", "/img-classification/free", PICTURE), 405, "method_not_allowed")
    assert_problem(shared.ask("POST", "/v1/tiers", b"{}"), 405, "method_not_allowed")
    assert_problem(shared.get("/work/channel"), 404, "no_such_route")
    assert_problem(shared.internal.get("/v1/tiers"), 404, "no_such_route")


def test_a_refused_client_may_go_on_with_its_connection(shared: Site) -> None:
    """The server reads the body of a refused request to its end, so that the next request begins in the right place."""
    asked = HEAD.replace(b"/free", b"/gold") + b"Content-Length: 5\r\n\r\nabcde"
    with shared.connected() as connection:
        for _ in range(2):
            connection.sendall(asked)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert b"Connection: close" not in answer


def test_too_many_bytes_are_refused_before_they_are_sent(shared: Site) -> None:
    answer = shared.exchange(HEAD + b"Content-Length: 99999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (problem["code"], problem["limit_bytes"]) == ("too_many_bytes", IMAGE_BYTES)


def test_a_refused_body_that_does_not_end_is_cut_off(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_BYTES", len(MEGABYTE))
    endless = CHUNKED.replace(b"/free", b"/gold")
    with shared.connected() as connection:
        connection.sendall(endless)
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
        sent = 0
        with pytest.raises(OSError):
            while sent < 100 * len(MEGABYTE):
                connection.sendall(MEGABYTE)
                sent += len(MEGABYTE)
    shared.idle()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (b"", 411, "no_length"),
        (b"Content-Length: ten\r\n", 400, "bad_length"),
        (b"Content-Length: \xb2\r\n", 400, "bad_length"),
        (b"Content-Length: -1\r\n", 400, "bad_length"),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", 400, "bad_length"),
        (b"Content-Length: " + b"9" * 500 + b"\r\n", 413, "too_many_bytes"),
        (b"Content-Length: 10\r\nContent-Length: 20\r\n", 400, "bad_length"),
    ],
)
def test_missing_and_lying_lengths(shared: Site, headers: bytes, status: int, code: str) -> None:
    answer = shared.exchange(HEAD + headers + b"\r\n")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert json.loads(answer.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1")[0])["code"] == code


def test_a_length_beside_chunks_is_refused(shared: Site) -> None:
    both = b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert shared.exchange(HEAD + both).startswith(b"HTTP/1.1 400 ")


def test_too_many_pictures_name_the_limit(shared: Site) -> None:
    body, headers = multipart([PICTURE] * 9)
    answer = shared.post("free", body, headers)
    assert_problem(answer, 413, "too_many_images")
    assert answer.json["limit_images"] == 8
