"""Following predictions: which events come, in which order, for whom, and how a reader goes on elsewhere."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack

import pytest

from server.engines.base import Pod, Stage
from server.http import following
from server.http.following import Following, State
from server.queue import NEVER_SEEN, ConnectionLost, Moved, Served, Serving, Status, new_id
from tests.events import Event, Stream, opened
from tests.openapi import described
from tests.server.http.http_site import ANSWER_SECONDS, Site, assert_problem
from tests.waiting import eventually


def path(*prediction_ids: str) -> str:
    """Where several predictions are followed."""
    return "/v1/predictions/events?" + "&".join(f"id={one}" for one in prediction_ids)


def following_one(site: Site, prediction_id: str, held: ExitStack, **given: str) -> Stream:
    return held.enter_context(opened(site.port, f"/v1/predictions/{prediction_id}/events", **given))  # type: ignore[arg-type]


def pod(job: str, stage: Stage) -> Pod:
    return Pod("node", "", "tierserve-free", f"{job}-x", "Pending", job, stage)


def submitted(site: Site) -> str:
    return str(site.submit().json["id"])


def cancel(site: Site, prediction_id: str) -> None:
    assert site.ask("DELETE", f"/v1/predictions/{prediction_id}").status == 200


def test_a_prediction_is_followed_from_its_place_in_the_queue_to_its_result(site: Site) -> None:
    first, second = submitted(site), submitted(site)
    with ExitStack() as held:
        stream = following_one(site, second, held)
        queued = {"id": second, "reason": NEVER_SEEN.reason, "eta_seconds": None}
        assert stream.next() == Event("queued", {**queued, "position": 2, "ahead": 1}, stream.last_id)
        cancel(site, first)
        assert stream.next() == Event("queued", {**queued, "position": 1, "ahead": 0}, stream.last_id)
        token = site.job()
        starting = stream.next()
        assert starting
        assert (starting.name, starting.data["job"], starting.data["position"]) == ("starting", "job", 1)
        (leased,) = site.lease(token)
        assert stream.next() == Event("leased", {"id": second, "attempts": 1}, stream.last_id)
        site.complete(leased, token)
        final = stream.next()
        assert final
        interface = described()
        for event in (starting, final):
            interface.check_event(event.name, event.data, f"/v1/predictions/{second}/events")
        assert (final.name, final.data) == ("succeeded", site.get(f"/v1/predictions/{second}").json)
        assert stream.next() is None


def test_a_start_is_followed_stage_by_stage(site: Site) -> None:
    key = submitted(site)
    with ExitStack() as held:
        stream = following_one(site, key, held)
        stream.next()
        site.job("early")
        site.job("late")
        for stage in Stage:
            site.engine.shown = [pod("early", Stage.PENDING), pod("late", stage)]
            event = stream.until("starting")[-1]
            while event.data["stage"] != stage:  # not known before the engine was asked
                event = stream.until("starting")[-1]
            assert event.data["job"] == ("early" if stage is Stage.PENDING else "late")


def test_a_worker_of_the_other_lane_starts_for_nobody_here(site: Site) -> None:
    main, canary = (
        Served(f"lite0@{version}", version * 8, "onnx", "fp32", 0.0) for version in ("0f1e2d3c", "00c0ffee")
    )
    site.serve("free", Serving(main, canary, percent=0))
    key = submitted(site)
    with ExitStack() as held:
        stream = following_one(site, key, held)
        stream.next()
        site.job("other", model=canary.key)
        site.job("own", model=main.key)
        assert [event.data.get("job") for event in stream.until("starting")][-1] == "own"


@pytest.mark.parametrize("end", ["canceled", "aborted"])
def test_the_last_event_has_the_name_of_the_end(site: Site, end: str) -> None:
    key = submitted(site)
    with ExitStack() as held:
        stream = following_one(site, key, held)
        stream.next()
        if end == "canceled":
            cancel(site, key)
        else:
            site.queue.abort_tier("free", "tier_removed", "the tier was removed").result(ANSWER_SECONDS)
        last = list(stream.rest())[-1]
        assert last.name == end == site.get(f"/v1/predictions/{key}").json["status"]
        assert last.data["id"] == key


def test_who_comes_late_gets_the_end_at_once(site: Site) -> None:
    key = submitted(site)
    cancel(site, key)
    with ExitStack() as held:
        assert [event.name for event in following_one(site, key, held).rest()] == ["canceled"]


def test_a_reader_goes_on_where_it_was(site: Site) -> None:
    first, second = submitted(site), submitted(site)
    with ExitStack() as held:
        seen = following_one(site, second, held).next()
        assert seen
        again = following_one(site, second, held, last_id=seen.id)
        cancel(site, first)
        moved = again.next()
        assert moved
        assert moved.data["position"] == 1
        behind = following_one(site, second, held, last_id=seen.id)
        assert behind.next() == moved
        cancel(site, second)
        end = again.next()
        assert end
        assert behind.next() == end
        assert [event.name for event in following_one(site, second, held, last_id=moved.id).rest()] == ["canceled"]
        done = following_one(site, second, held, last_id=end.id)
        assert (done.status, done.answer.body) == (204, b"")


def test_several_are_followed_in_one_stream_to_the_last_end(site: Site) -> None:
    keys = [submitted(site) for _ in range(3)]
    never = new_id(site.clock) + "00000000"
    with opened(site.port, path(*keys, "nonsense", keys[0], never)) as stream:
        begun = [stream.next() for _ in range(5)]
        assert [(event and event.name, event and event.data["id"]) for event in begun] == [
            *(("queued", key) for key in keys),
            ("gone", "nonsense"),
            ("gone", never),
        ]
        assert begun[3]
        assert begun[3].data["code"] == "no_such_prediction"
        for key in keys:
            cancel(site, key)
        rest = list(stream.rest())
        for event in (*begun, *rest):
            assert event
            described().check_event(event.name, event.data, "/v1/predictions/events")
        ends = [event for event in rest if event.name == "canceled"]
        assert sorted(event.data["id"] for event in ends) == sorted(keys)
        with opened(site.port, path(*keys, "nonsense", never), last_id=rest[-1].id) as again:
            assert again.status == 204


def test_a_stream_of_several_goes_on_where_it_was(site: Site) -> None:
    keys = [submitted(site) for _ in range(3)]
    with opened(site.port, path(*keys)) as stream:
        for _ in keys:
            stream.next()
        with opened(site.port, path(*reversed(keys)), last_id=stream.last_id) as again:
            cancel(site, keys[2])
            assert [event.name for event in again.until("canceled")] == ["canceled"]


@pytest.mark.parametrize("count", [0, 101])
def test_how_many_may_be_followed_is_told(site: Site, count: int) -> None:
    answer = site.get(path(*(f"p{number}" for number in range(count))))
    assert_problem(answer, 400, "bad_ids" if count == 0 else "bad_target")
    assert (answer.json.get("limit_ids") or answer.json.get("limit_fields")) == 100


def test_a_hundred_may_be_followed(site: Site) -> None:
    keys = [submitted(site) for _ in range(100)]
    with opened(site.port, path(*keys)) as stream:
        events = [stream.next() for _ in keys]
        assert [event and event.data["position"] for event in events] == list(range(1, 101))


def test_what_is_not_there_is_refused_before_the_stream(site: Site) -> None:
    assert_problem(site.get("/v1/predictions/nonsense/events"), 404, "no_such_prediction")
    key = submitted(site)
    cancel(site, key)
    site.clock.advance(1e6)
    site.queue.purge({"free": 1.0}).result(ANSWER_SECONDS)
    assert_problem(site.get(f"/v1/predictions/{key}/events"), 410, "result_gone")
    with opened(site.port, path(key)) as stream:
        (gone,) = stream.rest()
        assert (gone.name, gone.data["code"]) == ("gone", "result_gone")
    assert site.call(lambda: site.services.streams.count) == 0


def test_only_the_owner_follows_what_came_with_a_key(site: Site) -> None:
    mine, other = ({"Authorization": f"Bearer {site.key(owner)}"} for owner in ("anna", "bert"))
    key = site.submit(headers=mine).json["id"]
    for headers in (other, {}):
        assert_problem(site.ask("GET", f"/v1/predictions/{key}/events", headers=headers), 404, "no_such_prediction")
        with opened(site.port, path(key), headers) as stream:
            assert [event.name for event in stream.rest()] == ["gone"]
    for address in (f"/v1/predictions/{key}/events", path(key)):
        with opened(site.port, address, mine) as stream:
            event = stream.next()
            assert event
            assert (event.name, event.data["id"]) == ("queued", key)


def test_an_untagged_id_is_followed_by_its_owner_only(site: Site) -> None:
    key = site.keep()
    mine = {"Authorization": f"Bearer {site.key()}"}
    for headers in (mine, {}):  # what came without a key belongs to whoever has its id
        with opened(site.port, path(key), headers) as stream:
            event = stream.next()
            assert event
            assert event.name == "queued"


def test_news_that_is_lost_comes_late(site: Site) -> None:
    key = submitted(site)
    with ExitStack() as held:
        stream = following_one(site, key, held)
        stream.next()
        site.database.mute = True
        began = time.monotonic()
        cancel(site, key)
        assert [event.name for event in stream.rest()] == ["canceled"]
        assert time.monotonic() - began < following.LOOK_SECONDS + 2


def test_while_the_queue_cannot_be_read_streams_wait_and_new_ones_are_refused(site: Site) -> None:
    key = submitted(site)
    with ExitStack() as held:
        stream = following_one(site, key, held)
        stream.next()
        site.database.failure = ConnectionLost("the connection broke")
        assert_problem(site.get(f"/v1/predictions/{key}/events"), 503, "storage_unavailable")
        site.call(lambda: site.services.following.hear([Moved(key, "free", Status.CANCELED)]))
        eventually(lambda: site.call(lambda: site.services.following._moved), ANSWER_SECONDS, "tried", operator.not_)
        site.database.failure = None
        cancel(site, key)
        assert [event.name for event in stream.rest()] == ["canceled"]


def test_nothing_is_asked_while_nobody_follows(site: Site) -> None:
    key = submitted(site)
    with ExitStack() as held:
        following_one(site, key, held).next()
        assert any("Following._run" in task for task in site.tasks())
    eventually(site.tasks, ANSWER_SECONDS, "no task is left", lambda tasks: not any("_run" in one for one in tasks))


def test_a_server_that_stops_tells_followers_to_come_back(site: Site) -> None:
    key = submitted(site)
    with ExitStack() as held:
        stream = following_one(site, key, held)
        seen = stream.next()
        assert seen
        site.call(site.services.streams.drain)
        assert [event.name for event in stream.rest()] == ["drain"]
        assert stream.last_id == seen.id


class Recorder:
    """Follows, and writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.nudged = asyncio.Event()

    def changed(self, prediction_id: str) -> None:
        self.seen.append(prediction_id)

    def nudge(self) -> None:
        self.nudged.set()


Look = Callable[[Collection[str]], Mapping[str, State]]


def state(name: str, prediction_id: str, *, is_final: bool = False) -> State:
    return State.of(name, {"id": prediction_id}, "anonymous", is_final=is_final)


def test_many_are_looked_at_in_pages_and_a_slow_look_is_followed_by_a_long_rest() -> None:
    looks: list[tuple[float, float, int]] = []

    async def look(ids: Collection[str]) -> dict[str, State]:
        began = time.monotonic()
        await asyncio.sleep(0.05)
        looks.append((began, time.monotonic(), len(ids)))
        return {one: state(f"s{len(looks)}", one) for one in ids}

    async def follow() -> None:
        found = Following()
        found.look = look
        readers = [Recorder() for _ in range(3)]
        for number, reader in enumerate(readers):
            await found.follow(reader, [f"p{number}-{one}" for one in range(following.PAGE)])
        looks.clear()
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            found.hear([Moved("another", "free", Status.LEASED)])
            await asyncio.sleep(0.01)
        for number, reader in enumerate(readers):
            found.leave(reader, [f"p{number}-{one}" for one in range(following.PAGE)])
        await asyncio.sleep(0.5)

    asyncio.run(follow())
    assert {size for _, _, size in looks} == {following.PAGE}
    assert len(looks) >= 6
    busy = sum(ended - began for began, ended, _ in looks)
    assert busy <= 0.25 * (looks[-1][1] - looks[0][0]) + 0.05


def test_a_look_that_began_earlier_and_ended_later_changes_nothing() -> None:
    async def follow() -> None:
        found, slow = Following(), asyncio.Event()

        async def look(ids: Collection[str]) -> dict[str, State]:
            if not slow.is_set():
                slow.set()
                await asyncio.sleep(0.1)
                return {one: state("queued", one) for one in ids}
            return {one: state("leased", one) for one in ids}

        found.look = look
        first, second = Recorder(), Recorder()
        early = asyncio.create_task(found.follow(first, ["p"]))
        await slow.wait()
        await found.follow(second, ["p"])
        await early
        seen = found.state("p")
        assert seen
        assert seen.name == "leased"
        found.leave(first, ["p"])
        found.leave(second, ["p"])

    asyncio.run(follow())


def test_an_end_is_never_taken_back() -> None:
    async def follow() -> None:
        found, looks = Following(), 0

        async def look(ids: Collection[str]) -> dict[str, State]:
            nonlocal looks
            looks += 1
            return {one: state("succeeded" if looks == 1 else "queued", one, is_final=looks == 1) for one in ids}

        found.look = look
        first, second = Recorder(), Recorder()
        await found.follow(first, ["p"])
        await found.follow(second, ["p"])
        seen = found.state("p")
        assert seen
        assert seen.name == "succeeded"
        found.leave(first, ["p"])
        found.leave(second, ["p"])

    asyncio.run(follow())
