"""An object store that fails: errors come in time and say why, and nothing is half-written or lost."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from server import points
from server.blobs import BlobError, BlobMissing, Blobs, BlobsFull, open_blobs
from server.points import Point
from tests.server import object_store
from tests.server.object_store import KEY_ID, SECRET, Fault, Proxy, refuse

LONGEST = 15.0  # seconds; on an idle machine a call ends within 9
PICTURE = bytes(range(256)) * 4000

Verb = Callable[[Blobs], object]

VERBS: dict[str, Verb] = {
    "put": lambda blobs: blobs.put("pnew", [[PICTURE]]),
    "get": lambda blobs: blobs.get("pkept"),
    "delete": lambda blobs: blobs.delete(["pkept"]),
    "list": lambda blobs: list(blobs.older_than(0)),
}


@pytest.fixture
def place(proxy: Proxy) -> str:
    return proxy.place()


@pytest.fixture
def blobs(proxy: Proxy, place: str) -> Blobs:
    blobs = open_blobs(f"s3://{place}")
    blobs.put("pkept", [[PICTURE]])
    proxy.seen.clear()
    return blobs


def failure(blobs: Blobs, verb: Verb) -> BlobError:
    with pytest.raises(BlobError) as caught:
        verb(blobs)
    assert not isinstance(caught.value, BlobMissing)
    return caught.value


@pytest.mark.parametrize("verb", VERBS)
def test_a_short_slow_down_is_waited_out(proxy: Proxy, blobs: Blobs, verb: str) -> None:
    proxy.faults.extend([object_store.slow_down] * 2)
    VERBS[verb](blobs)
    assert len(proxy.seen) == (6 if verb == "list" else 3), "a listing also asks what time it is for the store"


@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_connection_that_breaks_is_tried_anew(proxy: Proxy, blobs: Blobs, verb: str) -> None:
    proxy.faults.append(object_store.drop)
    VERBS[verb](blobs)
    assert len(proxy.seen) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (object_store.slow_down, "SlowDown (503)"),
        (object_store.hang, "no answer in time"),
        (object_store.drop, "the connection broke off"),
    ],
)
def test_a_long_failure_is_told_in_time_and_ends(
    proxy: Proxy, blobs: Blobs, place: str, fault: Fault, words: str
) -> None:
    proxy.always = fault
    began = time.monotonic()
    with ThreadPoolExecutor(len(VERBS)) as pool:
        told = [str(error) for error in pool.map(lambda verb: failure(blobs, verb), VERBS.values())]
    assert time.monotonic() - began < LONGEST
    what = ["keep the picture", "read blob pkept", "delete blobs", "list blobs"]
    assert told == [f"cannot {each}: {words}" for each in what]
    proxy.released.set()
    proxy.reset()
    assert proxy.names(place) == ["pkept"]
    blobs.put("pnew", [[PICTURE]])
    assert blobs.get("pkept")[8:] == blobs.get("pnew")[8:] == PICTURE
    blobs.delete(["pkept"])
    assert list(blobs.older_than(0)) == ["pnew"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "QuotaExceeded"),
        (400, "XMinioAdminBucketQuotaExceeded"),
        (507, "XMinioStorageFull"),
        (507, ""),
        (409, "AccountLimitExceeded"),
    ],
)
def test_a_bucket_over_its_quota_is_told_apart(proxy: Proxy, blobs: Blobs, status: int, code: str) -> None:
    proxy.always = refuse(status, code)
    error = failure(blobs, VERBS["put"])
    assert isinstance(error, BlobsFull)
    assert error.code == "bucket_full"
    assert str(error) == f"cannot keep the picture: {f'{code} ({status})' if code else f'it answered {status}'}"
    with pytest.raises(BlobsFull):
        blobs.try_out()
    proxy.reset()
    blobs.try_out()
    assert list(blobs.older_than(0)) == ["pkept"]


def test_other_refusals_do_not_look_like_a_full_bucket(proxy: Proxy, blobs: Blobs) -> None:
    proxy.always = refuse(403, "AccessDenied")
    assert not isinstance(failure(blobs, VERBS["put"]), BlobsFull)


@pytest.mark.parametrize("verb", VERBS)
def test_a_bucket_that_is_gone_loses_no_prediction(proxy: Proxy, blobs: Blobs, verb: str) -> None:
    proxy.always = refuse(404, "NoSuchBucket")
    assert str(failure(blobs, VERBS[verb])).endswith(": NoSuchBucket (404)")


def test_only_the_store_itself_may_say_that_a_blob_is_missing(proxy: Proxy, blobs: Blobs) -> None:
    with pytest.raises(BlobMissing, match="no blob pnone"):
        blobs.get("pnone")
    proxy.faults.append(refuse(404, ""))
    assert str(failure(blobs, VERBS["get"])) == "cannot read blob pkept: it answered 404"
    proxy.faults.append(refuse(403, "AccessDenied"))
    assert str(failure(blobs, VERBS["get"])) == "cannot read blob pkept: AccessDenied (403)"


def test_a_download_that_breaks_off_is_resumed(proxy: Proxy, blobs: Blobs) -> None:
    proxy.faults.append(object_store.break_off)
    assert blobs.get("pkept")[8:] == PICTURE
    assert len(proxy.seen) == 2


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ([object_store.break_off] * 50, "the connection broke off"),
        ([object_store.cut_short], "are not all of it"),
        ([object_store.break_off, object_store.changed], "the connection broke off"),
    ],
)
def test_less_than_the_whole_is_no_blob(proxy: Proxy, blobs: Blobs, faults: list[Fault], words: str) -> None:
    proxy.faults.extend(faults)
    assert str(failure(blobs, VERBS["get"])).endswith(words)
    proxy.faults.clear()
    assert blobs.get("pkept")[8:] == PICTURE


def test_nothing_secret_is_told(proxy: Proxy, blobs: Blobs) -> None:
    more = f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId><StringToSign>{SECRET}</StringToSign>"
    proxy.always = refuse(403, "SignatureDoesNotMatch", more)
    for verb in VERBS.values():
        error = failure(blobs, verb)
        assert str(error).endswith(": SignatureDoesNotMatch (403)")
        told = "".join(traceback.format_exception(error))
        assert KEY_ID not in told
        assert SECRET not in told


def test_a_put_that_failed_is_not_told_as_kept(
    proxy: Proxy, blobs: Blobs, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    told: list[Point] = []
    monkeypatch.setattr(points, "_watcher", told.append)
    proxy.faults.append(refuse(403, "AccessDenied"))
    failure(blobs, VERBS["put"])
    assert told == [Point.BLOB_OPENED]
    assert proxy.names(place) == ["pkept"]


def test_the_same_put_again_is_the_same_blob(proxy: Proxy, blobs: Blobs, place: str) -> None:
    blobs.put("pkept", [[PICTURE]])
    assert proxy.names(place) == ["pkept"]
    assert blobs.get("pkept")[8:] == PICTURE


def test_many_blobs_go_by_the_thousand(proxy: Proxy, blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Point] = []
    monkeypatch.setattr(points, "_watcher", told.append)
    blobs.delete([*(f"p{number}" for number in range(2000)), "pkept"])
    assert proxy.seen == ["POST /blobs?delete"] * 3
    assert told == [Point.BLOB_DELETED] * 3
    with pytest.raises(BlobMissing):
        blobs.get("pkept")


def test_one_blob_that_may_not_be_deleted_is_an_error(proxy: Proxy, blobs: Blobs, place: str) -> None:
    key = f"{place.partition('/')[2]}/pkept"
    refused = f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
    content = f"<DeleteResult>{refused}</DeleteResult>"

    def partly(request: object_store.Request) -> None:
        request.body()
        request.answer(200, content.encode())

    proxy.faults.append(partly)
    error = failure(blobs, lambda blobs: blobs.delete(["pother", "pkept"]))
    assert str(error) == "cannot delete blobs: AccessDenied"


def test_a_listing_goes_page_by_page_and_ignores_what_is_not_ours(proxy: Proxy, blobs: Blobs, place: str) -> None:
    for name in ("", "sub/pone", "p_1", "lost+found", "pä"):
        proxy.write(f"{place}/{name}".replace("ä", "%C3%A4"), b"")
    proxy.write(f"{place}side", b"")
    keys = {f"p{number}" for number in range(1005)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: proxy.write(f"{place}/{key}", b""), keys))
    found = blobs.older_than(0)
    first = next(found)
    probed = 3  # requests by which the store told what time it is
    assert len(proxy.seen) == 1 + probed
    assert {first, *found} == {*keys, "pkept"}
    assert len(proxy.seen) == 2 + probed


def test_google_may_tell_that_an_object_is_gone_already(
    proxy: Proxy, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = {"gcs_base_url": proxy.url, "disable_oauth": True, "client_email": "", "private_key": ""}
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account | {"private_key_id": ""}))
    monkeypatch.setenv("GOOGLE_BASE_URL", proxy.url)
    proxy.always = object_store.google
    blobs = open_blobs(f"gs://{place}")
    for number in range(30):
        blobs.put(f"p{number}", [[PICTURE]])
    assert blobs.get("p7")[8:] == PICTURE
    blobs.delete(["pgone", *(f"p{number}" for number in range(29)), "pgone"])
    assert list(blobs.older_than(0)) == ["p29"]
    proxy.always = refuse(404, "NoSuchBucket")
    failure(blobs, VERBS["delete"])
