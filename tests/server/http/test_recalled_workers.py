"""A recalled worker, as it sees that over its channel, and as clients see it in their answers and in the tiers."""

from __future__ import annotations

from server.access.keys import time_text
from tests.channel import Channel
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, QUIET_SECONDS, Site, waits
from tests.waiting import eventually

WHY = "lent quota went back to premium"


def recall(site: Site, job: str) -> None:
    """What the leader does."""
    assert site.queue.recall_job(job, WHY).result(ANSWER_SECONDS)


def is_told_why(channel: Channel) -> None:
    channel.receive_until(lambda: channel.retire)
    assert channel.retire == WHY


def test_a_recalled_worker_is_told_why_hands_back_what_it_has_not_begun_and_gets_nothing_more(site: Site) -> None:
    token = site.job("lent")
    urls = [site.submit().headers["Location"] for _ in range(3)]
    begun, *rest = site.lease(token, 3)
    channel = site.worker(token)
    recall(site, "lent")
    is_told_why(channel)
    channel.release(rest)
    channel.grant(1)
    assert channel.lease(1, QUIET_SECONDS) == []
    assert site.complete(begun, token) == ["accepted"]
    assert [site.get(url).json["status"] for url in urls] == ["succeeded", "queued", "queued"]
    again = site.lease(other := site.job("other"), 2)
    assert [one["id"] for one in again] == [one["id"] for one in rest]
    assert [site.complete(one, other) for one in again] == [["accepted"]] * 2
    assert [site.get(url).json["attempts"] for url in urls] == [1, 1, 1]


def test_a_request_that_waits_is_answered_by_another_worker_than_the_recalled_one(site: Site) -> None:
    lent = site.job("lent")
    site.worker(lent).grant(1)
    answer = site.callers.submit(site.post, "free", PICTURE)
    (held,) = site.worker(lent).lease()
    recall(site, "lent")
    is_told_why(site.worker(lent))
    site.worker(lent).release([held])
    (again,) = site.lease(other := site.job("other"))
    assert site.complete(again, other) == ["accepted"]
    told = answer.result(ANSWER_SECONDS).json
    assert (told["id"], told["attempts"], told["status"]) == (held["id"], 1, "succeeded")


def test_a_worker_that_was_recalled_before_it_came_is_told_on_each_channel(site: Site) -> None:
    token = site.job("lent")
    recall(site, "lent")
    for _ in range(2):
        channel = site.channel(token)
        channel.hold()
        is_told_why(channel)
        assert not channel.stopping


def test_a_worker_is_told_when_its_server_looks_at_the_tiers_if_the_notice_was_lost(site: Site) -> None:
    channel, other = site.worker(site.job("lent")), site.worker(site.job("other"))
    quietly = f"UPDATE jobs SET recalled_at = 0, reason = '{WHY}' WHERE name = 'lent'"  # as another server may do it
    site.database.write(lambda tx: tx.cursor.execute(quietly)).result(ANSWER_SECONDS)
    assert channel.hold() == []
    assert channel.retire == ""
    site.services.look_at_tiers()
    is_told_why(channel)
    assert other.hold() == []
    assert other.retire == ""


def test_the_tiers_tell_that_a_recalled_worker_leaves_and_why(site: Site) -> None:
    site.worker(site.job("lent")).hold()
    site.job("starting")
    site.clock.now += 9
    recall(site, "lent")
    recall(site, "starting")
    free = site.get("/v1/tiers").json["tiers"][0]
    assert {(job["state"], job["reason"]) for job in free["jobs"]} == {("leaving", WHY)}
    assert {job["since"] for job in free["jobs"]} == {time_text(site.clock.now)}


def test_the_leader_is_told_as_soon_as_the_channel_of_a_recalled_worker_has_closed(site: Site) -> None:
    told: list[str] = []
    site.services.handout.vacated = lambda: told.append("left")
    channel = site.worker(site.job("lent"))
    recall(site, "lent")
    is_told_why(channel)
    assert told == []
    channel.close()
    eventually(lambda: told, ANSWER_SECONDS, "the leader is told", ["left"].__eq__)
    assert waits(site) == 0
