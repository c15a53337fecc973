"""Pictures on their way to workers: large ones are streamed, and all together are bounded."""

from __future__ import annotations

import pytest

from server.blobs import pack_header
from server.http.internal import delivery
from server.http.services import FRAME_BYTES
from tests.channel import Closed
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, QUIET_SECONDS, Site, waits
from tests.waiting import eventually

MEGABYTE = 1024 * 1024
LARGE = PICTURE + bytes(delivery.FRAME_BYTES)


def submit_large(site: Site) -> str:
    answer = site.submit(body=LARGE)
    assert answer.status == 202
    return answer.headers["Location"]


def test_a_prediction_of_many_bytes_is_sent_alone_and_in_pieces(site: Site) -> None:
    submit_large(site)
    site.submit()
    channel = site.worker(site.job())
    channel.grant(2)
    assert len(channel.receive()["predictions"]) == 1
    assert len(channel.parts) >= len(LARGE) / MEGABYTE
    assert max(channel.parts) <= MEGABYTE + 4096
    assert len(channel.receive()["predictions"]) == 1
    one, _ = channel.lease(2)
    assert one["blob"] == pack_header([len(LARGE)]) + LARGE
    frames_are_free(site)


def frames_are_free(site: Site) -> None:
    """The memory is given back a moment after the worker has the last piece."""
    used = site.services.frames.used
    eventually(lambda: site.call(used), ANSWER_SECONDS, "no frame is in memory", lambda size: size == 0)


def test_a_large_prediction_whose_picture_is_gone_fails(site: Site) -> None:
    url = submit_large(site)
    site.blobs.delete([url.rpartition("/")[2]])
    assert site.lease(site.job(), wait=QUIET_SECONDS) == []
    assert site.get(url).json["error"]["code"] == "blob_missing"


def test_a_large_prediction_that_cannot_be_read_to_its_end_waits_again(site: Site) -> None:
    url, token = submit_large(site), site.job()
    site.blobs.breaks_after = 2
    with pytest.raises(Closed):
        site.lease(token)
    answer = eventually(
        lambda: site.get(url).json, ANSWER_SECONDS, "it waits again", lambda found: found["status"] == "queued"
    )
    assert answer["attempts"] == 0


def test_while_many_pictures_are_on_their_way_one_prediction_goes_alone(site: Site) -> None:
    """The memory of frames is bounded, and a worker gets something nevertheless."""
    for _ in range(3):
        site.submit()
    frames, channel = site.services.frames, site.worker(site.job())
    held = site.call(lambda: frames.hold("free", "another", {"free": FRAME_BYTES, "premium": 0}))
    site.call(lambda: held.take(FRAME_BYTES))
    channel.grant(3)
    assert [len(channel.receive()["predictions"]) for _ in range(3)] == [1, 1, 1]
    assert (waits(site), waits(site, leased=True)) == (0, 3)
    site.call(held.release)
    frames_are_free(site)
