"""What the queue promises its callers. Each test is about one promise, on every database."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.queue import (
    Available,
    Conflict,
    Ids,
    Moved,
    Position,
    QueueBytesFull,
    QueueFull,
    Status,
    has_tag,
    is_id,
    new_id,
)
from tests.server.queue.queue_world import MANY, RESULTS, World


def test_an_accepted_prediction_is_there_after_a_restart(world: World) -> None:
    submission = world.submission(priority=2, top_k=3, images=4, function="none", trace="t", request_id="r", names="n")
    submitted = world.queue.submit(submission, 10).result()
    world.restart()
    assert submitted.new
    prediction = submitted.prediction
    assert world.get(submission.id) == prediction
    assert prediction.status is Status.QUEUED
    assert prediction.accepted_at == world.clock.now
    assert prediction.deadline_at == world.clock.now + submission.deadline
    assert (prediction.priority, prediction.top_k, prediction.images) == (2, 3, 4)
    assert (prediction.function, prediction.trace, prediction.request_id) == ("none", "t", "r")
    assert prediction.names == "n"
    assert prediction.attempts == 0


def test_a_prediction_nobody_submitted_is_none(world: World) -> None:
    assert world.queue.get("p0").result() is None
    assert world.queue.cancel("p0").result() is None
    assert world.queue.position("p0").result() is None


def test_the_same_key_for_the_same_request_is_the_same_prediction(world: World) -> None:
    first = world.submit(idempotency_key="k", fingerprint="f")
    again = world.queue.submit(world.submission(idempotency_key="k", fingerprint="f"), 10).result()
    assert (again.prediction.id, again.new) == (first, False)
    assert world.queue.depths().result()["free"].queued == 1


def test_the_same_key_answers_when_the_queue_is_full(world: World) -> None:
    first = world.submit(idempotency_key="k", fingerprint="f")
    again = world.queue.submit(world.submission(idempotency_key="k", fingerprint="f"), 1).result()
    assert (again.prediction.id, again.new) == (first, False)


def test_the_same_key_answers_with_the_result_once_there_is_one(world: World) -> None:
    world.job()
    world.submit(idempotency_key="k", fingerprint="f")
    world.complete(world.lease()[0])
    again = world.queue.submit(world.submission(idempotency_key="k", fingerprint="f"), 10).result()
    assert again.prediction.results == RESULTS


@pytest.mark.parametrize("tier", ["free", "premium"])
def test_the_same_key_is_the_same_prediction_in_every_tier(world: World, tier: str) -> None:
    first = world.submit(idempotency_key="k", fingerprint="f")
    again = world.queue.submit(world.submission(idempotency_key="k", fingerprint="f", tier=tier), 10).result()
    assert (again.prediction.id, again.prediction.tier, again.new) == (first, "free", False)


@pytest.mark.parametrize("other", [{"owner": "berta"}, {"fingerprint": "g"}, {"idempotency_key": "l"}])
def test_a_key_belongs_to_its_owner_and_to_one_request(world: World, other: dict[str, str]) -> None:
    named = {"idempotency_key": "k", "fingerprint": "f"}
    first = world.submit(**named)
    assert world.submit(**(named | other)) != first
    assert world.submit(**named) == first


def test_a_key_is_free_again_once_its_prediction_is_purged(world: World) -> None:
    first = world.submit(idempotency_key="k", fingerprint="f")
    world.queue.cancel(first).result()
    world.clock.advance(101)
    assert world.queue.purge({"free": 100}).result() == [first]
    assert world.submit(idempotency_key="k", fingerprint="g") != first


def test_one_key_at_once_from_many_threads_makes_one_prediction(world: World) -> None:
    barrier = threading.Barrier(8)

    def submit(_: int) -> tuple[str, bool]:
        submission = world.submission(idempotency_key="k", fingerprint="f")
        barrier.wait(30)
        submitted = world.queue.submit(submission, 10).result()
        return submitted.prediction.id, submitted.new

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(submit, range(8)))
    assert len({prediction_id for prediction_id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


def test_a_prediction_is_found_by_its_key(world: World) -> None:
    first = world.submit(idempotency_key="k", fingerprint="f")
    found = world.queue.find_key("anna", "k", "f").result()
    assert found is not None
    assert found.id == first
    for stranger in (("berta", "k", "f"), ("anna", "l", "f"), ("anna", "k", "g")):
        assert world.queue.find_key(*stranger).result() is None
    for owner, key, used in (("anna", "k", True), ("anna", "l", False), ("berta", "k", False)):
        assert world.queue.key_used(owner, key).result() is used


def test_a_full_queue_refuses_with_its_numbers(world: World) -> None:
    oldest = world.clock.now
    world.submit(priority=1)
    world.clock.advance(5)
    world.submit()
    with pytest.raises(QueueFull) as refusal:
        world.queue.submit(world.submission(), 2).result()
    assert (refusal.value.depth, refusal.value.limit, refusal.value.oldest) == (2, 2, oldest)


def test_the_pictures_of_what_is_alive_take_no_more_bytes_than_they_may(world: World) -> None:
    world.job()
    held = world.submit(size=400)
    world.lease()
    world.queue.submit(world.submission(size=600), MANY, 1000).result()
    with pytest.raises(QueueBytesFull) as refusal:
        world.queue.submit(world.submission(size=1), MANY, 1000).result()
    assert (refusal.value.taken, refusal.value.limit) == (1000, 1000)
    world.queue.submit(world.submission(tier="premium", size=1000), MANY, 1000).result()
    world.queue.cancel(held).result()
    world.queue.submit(world.submission(size=400), MANY, 1000).result()


def test_a_burst_of_submits_fills_the_bytes_exactly(world: World) -> None:
    futures = [world.queue.submit(world.submission(size=100), MANY, 2550) for _ in range(60)]
    refused = [future for future in futures if isinstance(future.exception(), QueueBytesFull)]
    assert len(refused) == 35
    assert world.queue.depths().result()["free"].bytes == 2500


def test_a_full_tier_leaves_the_other_alone(world: World) -> None:
    world.submit()
    world.queue.submit(world.submission(tier="premium"), 1).result()


def test_a_limit_of_nothing_takes_nothing(world: World) -> None:
    with pytest.raises(QueueFull):
        world.queue.submit(world.submission(), 0).result()


def test_leased_predictions_take_no_room_in_the_queue(world: World) -> None:
    world.job()
    world.submit()
    world.lease()
    world.queue.submit(world.submission(), 1).result()


def test_a_burst_of_submits_fills_the_queue_exactly(world: World) -> None:
    futures = [world.queue.submit(world.submission(), 25) for _ in range(60)]
    refused = [future for future in futures if isinstance(future.exception(), QueueFull)]
    assert len(refused) == 35
    assert world.queue.depths().result()["free"].queued == 25


def test_an_id_used_twice_is_refused_and_spoils_nothing(world: World) -> None:
    taken = world.submit()
    futures = [world.queue.submit(world.submission(), MANY) for _ in range(5)]
    clash = world.queue.submit(world.submission(id=taken), MANY)
    futures += [world.queue.submit(world.submission(), MANY) for _ in range(5)]
    assert isinstance(clash.exception(), Conflict)
    ids = {future.result().prediction.id for future in futures}
    assert world.queue.alive([*ids, "p1"]).result() == ids


def test_known_answers_any_number_of_ids(world: World) -> None:
    one = world.submit()
    assert world.queue.alive([new_id(world.clock) for _ in range(1200)] + [one]).result() == {one}
    assert world.queue.alive([]).result() == set()


def test_ended_tells_which_of_any_number_of_ids_are_final(world: World) -> None:
    ended, waiting = world.submit(), world.submit()
    world.queue.cancel(ended).result()
    strange = [new_id(world.clock) for _ in range(1200)]
    assert world.queue.ended([*strange, waiting, ended]).result() == {ended}


def test_positions_count_from_one_in_the_order_of_leasing(world: World) -> None:
    world.job()
    late, first, second = world.submit(priority=9), world.submit(), world.submit()
    world.submit(tier="premium")
    positions = {name: world.queue.position(name).result() for name in (late, first, second)}
    assert positions == {first: Position(1, 0), second: Position(2, 1), late: Position(3, 2)}
    assert [leased.id for leased in world.lease()] == [first, second, late]
    assert world.queue.position(first).result() is None


@pytest.mark.parametrize("leased", [False, True])
def test_cancel_ends_what_is_alive(world: World, leased: bool) -> None:
    world.job()
    one = world.submit()
    held = world.lease() if leased else []
    canceled = world.queue.cancel(one).result()
    assert canceled is not None
    assert (canceled.status, canceled.completed_at) == (Status.CANCELED, world.clock.now)
    assert world.queue.cancel(one).result() == canceled
    assert [world.complete(lease) for lease in held] == ["final"] * leased
    assert world.lease() == []


def test_cancel_leaves_a_final_prediction_as_it_is(world: World) -> None:
    world.job()
    one = world.submit()
    world.complete(world.lease()[0])
    before = world.get(one)
    assert world.queue.cancel(one).result() == before


def test_submitting_wakes_the_tier_and_ending_wakes_the_readers(world: World) -> None:
    one = world.submit()
    assert world.heard() == [Available("free")]
    world.queue.cancel(one).result()
    assert world.heard() == [Moved(one, "free", Status.CANCELED)]


def test_ids_sort_by_time_and_tell_it(world: World) -> None:
    ids = []
    for _ in range(50):
        ids.append(world.queue.ids.new(world.clock))
        world.clock.advance(0.002)
    assert ids == sorted(ids)
    assert len(set(ids)) == 50
    assert all(is_id(one) for one in ids)
    assert world.queue.ids.made_at(ids[0]) == pytest.approx(1_800_000_000.0, abs=0.001)


def test_an_id_is_known_for_ours_after_a_restart_and_nowhere_else(world: World) -> None:
    ours = world.queue.ids.new(world.clock)
    world.restart()
    assert world.queue.ids.made_at(ours) == pytest.approx(world.clock.now, abs=0.001)
    assert Ids(b"another key").made_at(ours) is None
    forged = [f"{ours[:place]}{'1' if ours[place] != '1' else '2'}{ours[place + 1 :]}" for place in range(1, len(ours))]
    assert [made for text in forged if (made := world.queue.ids.made_at(text)) is not None] == []


def test_an_id_is_known_for_its_owner_only(world: World) -> None:
    ids, clock = world.queue.ids, world.clock
    owners = ("anonymous", "anna", "ann", "a" * 200, "anna\u00e9")
    for owner in owners:
        made = ids.new(clock, owner)
        assert is_id(made)
        assert has_tag(made)
        assert [one for one in owners if ids.made_at(made, one) is not None] == [owner]
    assert ids.made_at(ids.new(clock)) is not None  # as in older versions
    assert not has_tag(new_id(clock))


@pytest.mark.parametrize(
    ("foreign", "formed"),
    [
        *(("p" + "0" * 34, True), ("p" + "0" * 42, True), ("p" + "0" * 33, False), ("p" + "0" * 35, False)),
        *(("", False), ("p", False), ("x" * 35, False), ("P" + "0" * 34, False), ("p" + "A" * 34, False)),
        *(("p" + "\u00e9" * 34, False), ("p" + "\u0663" * 34, False), ("p" + "0" * 34 + "\n", False)),
        *(("p" + "0" * 33 + "\0", False), ("p" + "0" * 41 + "\ud800", False)),
    ],
)
def test_ids_that_we_did_not_make_tell_no_time(foreign: str, formed: bool) -> None:
    assert is_id(foreign) is formed
    assert Ids(b"key").made_at(foreign) is None


def test_whereabouts_are_those_of_each_prediction(world: World) -> None:
    world.job()
    leased, ended, first, second, late = (*(world.submit() for _ in range(4)), world.submit(priority=9))
    world.lease(most=1)
    world.queue.cancel(ended).result()
    never = new_id(world.clock)
    found = world.queue.whereabouts([late, second, never, first, ended, leased]).result()
    assert found == {
        one: (world.queue.get(one).result(), world.queue.position(one).result())
        for one in (late, second, first, ended, leased)
    }
    assert {one: place and place.position for one, (_, place) in found.items()} == {
        leased: None,
        ended: None,
        first: 1,
        second: 2,
        late: 3,
    }
    assert world.queue.whereabouts([]).result() == {}
