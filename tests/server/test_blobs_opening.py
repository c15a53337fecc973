"""A place for blobs is tried when it is opened by its URL. If it cannot be used, one sentence says why."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server.blobs import BlobsUnusable, DirectoryBlobs, open_blobs
from server.blobs.objects import ObjectBlobs
from tests.server.object_store import Fault, Proxy, pass_on, refuse


def told(url: str) -> str:
    with pytest.raises(BlobsUnusable) as caught:
        open_blobs(url)
    return str(caught.value)


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "file://{}/a%20b"])
def test_a_directory_may_be_a_path_or_a_url(tmp_path: Path, form: str) -> None:
    blobs = open_blobs(form.format(tmp_path / "blobs"))
    assert isinstance(blobs, DirectoryBlobs)
    blobs.put("p1", [[b"x"]])
    blobs.close()
    assert (tmp_path / "blobs" / ("a b" if "%" in form else "") / "p1").exists()


def test_a_relative_path_is_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_blobs("data/blobs").close()
    assert (tmp_path / "data" / "blobs").is_dir()


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert told(f"{tmp_path}/file/blobs") == f"cannot keep blobs in {tmp_path}/file/blobs: Not a directory"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3:bucket",
        "s3://",
        "s3:///prefix",
        "S3://bucket",
        "s3://bucket//prefix",
        "s3://bucket/../other",
        "file://data/blobs",
        "ftp://user:hunter2@host/path",
        "https://account.blob.core.windows.net/container?sig=hunter2",
        "memory:///",
        "s3://AKID:hunter2@bucket/prefix",
        "s3://hunter2@bucket",
        "s3://bucket/prefix?secret=hunter2",
        "az://container/prefix#hunter2",
        "hunter2@host://x",
    ],
)
def test_other_urls_are_told_what_works_and_never_repeated(url: str) -> None:
    sentence = told(url)
    assert "file:///path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix" in sentence
    assert "hunter2" not in sentence


def test_a_store_that_works_is_left_as_it_was(proxy: Proxy) -> None:
    place = proxy.place()
    assert isinstance(open_blobs(f"s3://{place}/"), ObjectBlobs)
    assert proxy.names(place) == []


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([refuse(403, "AccessDenied")], "cannot write: AccessDenied (403)"),
        ([pass_on, refuse(403, "AccessDenied")], "AccessDenied (403)"),
        ([pass_on, pass_on, refuse(403, "AccessDenied")], "cannot list: AccessDenied (403)"),
        ([pass_on, pass_on, pass_on, refuse(403, "AccessDenied")], "cannot delete: AccessDenied (403)"),
        ([pass_on, pass_on, pass_on, pass_on, refuse(403, "AccessDenied")], "AccessDenied (403)"),
        ([refuse(301, "")], "cannot write: the bucket is in another region"),
    ],
)
def test_every_permission_is_proven(proxy: Proxy, answers: list[Fault], words: str) -> None:
    proxy.faults.extend(answers)
    sentence = told(f"s3://{proxy.place()}")
    assert sentence.startswith("cannot use s3://blobs/")
    assert sentence.endswith(words)


def test_a_wrong_bucket_is_told(proxy: Proxy) -> None:
    assert told("s3://blubs/prefix") == "cannot use s3://blubs/prefix: cannot write: NoSuchBucket (404)"


def test_a_server_that_is_not_there_is_told(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert told("s3://blobs/x") == "cannot use s3://blobs/x: cannot write: connection refused"


def test_half_of_the_credentials_are_told(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert told("s3://blobs/x") == "cannot use s3://blobs/x: MissingSecretAccessKey"


def test_no_credentials_at_all_are_told(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{proxy.url}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nonexistent")
    assert told("s3://blobs/x").startswith("cannot use s3://blobs/x: cannot write: ")


def test_a_laptop_needs_no_client_until_it_is_asked_for(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["obstore"] = None
from server.blobs import BlobsUnusable, open_blobs
open_blobs(sys.argv[1]).put("p1", [[b"x"]])
try:
    open_blobs("s3://bucket/prefix")
except BlobsUnusable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("blobs in s3://bucket/prefix need obstore: pip install tierserve[objects]")
