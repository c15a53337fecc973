"""``GET /v1/tiers/events``: all tiers as they are now.

It could miss a change, tell what has not changed, tell too often, look while nobody follows, look once for each stream,
or end when the queue cannot be asked for a while.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from server.http.showing import REST_SECONDS, Showing
from server.queue import ConnectionLost, TierView
from tests.events import Event, Stream, opened
from tests.openapi import described
from tests.server.http.http_site import ANSWER_SECONDS, Site, assert_problem
from tests.waiting import eventually

PATH = "/v1/tiers/events"
SHOWN_SECONDS = 0.5  # from a change of the queue to the event


@contextmanager
def following(site: Site, last_id: str = "") -> Iterator[Stream]:
    with opened(site.port, PATH, last_id=last_id) as stream:
        assert (stream.status, stream.headers["Content-Type"]) == (200, "text/event-stream")
        yield stream


def until(stream: Stream, queued: int) -> Event:
    """The first event in which so many wait in the tier free."""
    for event in stream.rest():
        if event.data["tiers"][0]["queued"] == queued:
            return event
    raise AssertionError("the stream has ended")


def looks(site: Site) -> list[float]:
    """Count the looks from now on by their moments."""
    found: list[float] = []
    look = site.services.showing.look

    async def counted() -> Any:
        found.append(time.monotonic())
        return await look()

    site.services.showing.look = counted
    return found


def tasks(site: Site) -> list[str]:
    """The tasks that look at the tiers."""
    return [task for task in site.tasks() if "Showing" in task]


def test_the_tiers_are_told_as_where_they_are_asked_for(site: Site) -> None:
    site.submit()
    with following(site) as stream:
        event = stream.next()
    assert event is not None
    described().check_event(event.name, event.data, PATH)
    config = site.get("/config").json
    assert (event.data["settings"], event.data["keys"]) == (config["settings"], config["keys"])
    told = site.get("/v1/tiers").json["tiers"]
    assert event.data["tiers"] == [{name: of for name, of in tier.items() if name != "access"} for tier in told]
    assert told[0]["queued"] == 1


def test_a_change_of_the_queue_is_told_at_once(site: Site) -> None:
    with following(site) as stream:
        first = until(stream, 0)
        for count in (1, 2, 3):
            changed_at = time.monotonic()
            site.submit()
            event = until(stream, count)
            assert event.id != first.id
            # The best of three: this machine may be busy.
            if time.monotonic() - changed_at < SHOWN_SECONDS:
                return
    pytest.fail(f"none of three changes was told within {SHOWN_SECONDS} s")


def test_what_changes_without_news_is_told_too(site: Site) -> None:
    with following(site) as stream:
        assert stream.next() is not None
        site.queue.report("free", TierView(running=7)).result(ANSWER_SECONDS)
        assert any(event.data["tiers"][0]["workers"] == 7 for event in stream.rest())


def test_nothing_is_told_while_nothing_changes(site: Site) -> None:
    def pass_seconds(many: int) -> None:
        for _ in range(many):  # as a server does, whose looks are never exactly a second apart
            site.services.activity.flush()
            site.clock.advance(0.97)

    pass_seconds(15)
    with opened(site.port, PATH, seconds=2.5) as stream:
        assert until(stream, 0).data["tiers"][0]["rates"]["seconds"] == 10
        found = looks(site)
        pass_seconds(5)
        with pytest.raises(TimeoutError):
            stream.next()
        assert found


def test_a_reader_that_comes_back_is_told_what_it_has_not_seen(site: Site) -> None:
    with following(site) as stream:
        first = until(stream, 0)
    with following(site, first.id) as stream:
        site.submit()
        event = stream.next()
        assert event is not None
        assert (event.data["tiers"][0]["queued"], stream.last_id) == (1, event.id)
    with following(site, first.id) as stream:
        assert until(stream, 1).id == event.id, "the same text has the same id"
    with following(site, "not an id") as stream:
        assert until(stream, 1).id == event.id


def test_one_look_serves_all_streams_and_there_are_few(site: Site) -> None:
    found = looks(site)
    with ExitStack() as stack:
        streams = [stack.enter_context(following(site)) for _ in range(20)]
        for stream in streams:
            until(stream, 0)
        for _ in range(40):
            site.submit()
        for stream in streams:
            until(stream, 40)
    assert all(later - earlier >= REST_SECONDS - 0.05 for earlier, later in itertools.pairwise(found))


def test_nobody_looks_while_nobody_follows(site: Site) -> None:
    with following(site) as stream:
        until(stream, 0)
        assert tasks(site)
    eventually(partial(tasks, site), ANSWER_SECONDS, "nobody looks any more", operator.not_)
    found = looks(site)
    site.submit()
    assert (tasks(site), found) == ([], [])
    with following(site) as stream:
        assert stream.next() is not None
        assert found
        with following(site) as other:
            event = other.next()
            assert event is not None
            assert event.data["tiers"][0]["queued"] == 1, "nothing that was seen before they left"


def test_a_queue_that_cannot_be_asked_ends_no_stream(site: Site) -> None:
    with following(site) as stream:
        until(stream, 0)
        found = looks(site)
        site.database.failure = ConnectionLost("the connection broke")
        eventually(lambda: len(found), ANSWER_SECONDS, "it looks again and again", lambda many: many >= 2)
        site.database.failure = None
        site.submit()
        until(stream, 1)


def test_a_stream_is_refused_while_the_queue_cannot_be_asked(site: Site) -> None:
    site.database.failure = ConnectionLost("the connection broke")
    assert_problem(site.get(PATH), 503, "storage_unavailable")
    site.database.failure = None
    with following(site) as stream:
        until(stream, 0)


def test_a_head_is_answered_at_once(site: Site) -> None:
    answer = site.ask("HEAD", PATH)
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "text/event-stream", b"")


def test_a_server_that_stops_says_so(site: Site) -> None:
    with following(site) as stream:
        until(stream, 0)
        site.call(site.services.streams.drain)
        assert stream.until("drain")
        assert stream.next() is None


class Silent:
    """A reader to whom nothing is told."""

    def nudge(self) -> None: ...


def test_who_leaves_before_the_first_look_has_just_left() -> None:
    async def leave() -> None:
        showing, reader = Showing(), Silent()
        following = asyncio.create_task(showing.follow(reader))
        await asyncio.sleep(0)
        showing.hear()  # the first look then waits until the figures have settled
        await asyncio.sleep(0)
        showing.leave(reader)
        await following

    asyncio.run(leave())
