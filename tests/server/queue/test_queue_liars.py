"""Workers that lie or hoard: what they hand in is checked against the row, and what they hold is bounded."""

from __future__ import annotations

from typing import Any

import pytest

from server.queue import AttemptLost, Available, Completion, Ended, Moved, Status
from server.queue.facts.results import LABEL_BYTES, RESULT_BYTES
from server.queue.operations.moves import HELD_BYTES, HELD_MOST
from tests.server.queue.queue_world import RESULTS, World, completion, invalid, pairs

TIERS = {"free": 3, "premium": 3}
ERROR = {"error": {"code": "image_broken", "detail": "this is no JPEG"}}


@pytest.fixture
def world(world: World) -> World:
    world.job()
    world.job("other")
    return world


def labels(count: int, label: str = "tabby", score: float = 0.9) -> dict[str, Any]:
    return {"labels": count * [{"label": label, "score": score}]}


@pytest.mark.parametrize(
    ("images", "top_k", "results", "why"),
    [
        (8, 5, [labels(5)], "1 results for 8 pictures"),
        (1, 5, 64 * [labels(1)], "64 results for 1 pictures"),
        (1, 5, [], "0 results for 1 pictures"),
        (1, 5, [labels(100)], "100 labels, 5 were asked for"),
        (2, 5, [labels(1), labels(6)], "6 labels, 5 were asked for"),
        (1, 5, [labels(1, score=float("inf"))], "not finite"),
        (1, 5, [labels(1, score=float("nan"))], "not finite"),
        (1, 1, [labels(1, "x" * (RESULT_BYTES + LABEL_BYTES))], "bytes"),
    ],
)
def test_what_cannot_be_the_result_is_not_stored_and_costs_an_attempt(
    world: World, images: int, top_k: int, results: list[Any], why: str
) -> None:
    one = world.submit(images=images, top_k=top_k)
    (leased,) = world.lease()
    world.heard()
    given = Completion(one, leased.token, results, None, 1.0)
    assert world.queue.complete("job", [given]).result() == ["invalid"]
    seen = world.get(one)
    assert (seen.status, seen.attempts, seen.results, seen.job) == (Status.QUEUED, 1, None, None)
    assert why in seen.reason
    lost, *moved = world.heard()
    assert isinstance(lost, AttemptLost)
    assert (lost.id, why in lost.reason) == (one, True)
    assert moved == [Moved(one, "free", Status.QUEUED), Available("free")]
    (again,) = world.lease("other")
    assert (again.solo, again.attempt) == (True, 2)


@pytest.mark.parametrize(
    ("images", "top_k", "results"),
    [
        (1, 5, [labels(5)]),
        (1, 5, [labels(1)]),
        (3, 2, [labels(2), ERROR, labels(1)]),
        (100, 100, 100 * [labels(100, "x" * 200)]),
        (1, 1, [labels(1, "\N{CJK UNIFIED IDEOGRAPH-732B}" * 200)]),
    ],
)
def test_what_can_be_the_result_is_stored(world: World, images: int, top_k: int, results: list[Any]) -> None:
    one = world.submit(images=images, top_k=top_k)
    (leased,) = world.lease()
    given = Completion(one, leased.token, results, None, 1.0)
    assert world.queue.complete("job", [given]).result() == ["accepted"]
    assert world.get(one).results == results


@pytest.mark.parametrize(
    ("asked", "made_by", "score", "outcome"),
    [
        ("softmax", "softmax", 1.0009, "accepted"),
        ("softmax", "softmax", 1.01, "invalid"),
        ("softmax", "softmax", -0.1, "invalid"),
        ("sigmoid", "sigmoid", 1.01, "invalid"),
        ("none", "none", -17.25, "accepted"),
        ("none", "none", float("inf"), "invalid"),
        ("none", "softmax", 0.5, "invalid"),
        ("softmax", "none", 0.5, "invalid"),
    ],
)
def test_scores_come_from_the_function_that_was_asked_for(
    world: World, asked: str, made_by: str, score: float, outcome: str
) -> None:
    one = world.submit(function=asked)
    (leased,) = world.lease()
    assert leased.function == asked
    given = Completion(one, leased.token, [labels(1, score=score)], None, 1.0, function=made_by)
    assert world.queue.complete("job", [given]).result() == [outcome]


def test_a_figure_that_is_no_number_is_invalid(world: World) -> None:
    one = world.submit()
    (leased,) = world.lease()
    given = Completion(one, leased.token, RESULTS, None, float("inf"))
    assert world.queue.complete("job", [given]).result() == ["invalid"]


def test_workers_that_lie_every_time_fail_the_prediction(world: World) -> None:
    one = world.submit()
    for _ in range(2):
        (leased,) = world.lease()
        assert world.queue.complete("job", [invalid(one, leased.token)], 2).result() == ["invalid"]
    seen = world.get(one)
    assert seen.status is Status.FAILED
    assert seen.error is not None
    assert seen.error["code"] == "attempts_exhausted"
    assert "2 results for 1 pictures" in seen.error["detail"]


def test_a_lie_about_a_lease_that_was_lost_harms_nobody(world: World) -> None:
    one = world.submit()
    (old,) = world.lease()
    world.clock.advance(31)
    world.queue.reclaim(TIERS).result()
    (new,) = world.lease("other")
    assert world.queue.complete("job", [invalid(one, old.token)]).result() == ["invalid"]
    assert (world.status(one), world.get(one).job) == (Status.LEASED, "other")
    assert world.complete(new, "other") == "accepted"


def test_lies_are_judged_one_by_one(world: World) -> None:
    one, two = world.submit(), world.submit()
    tokens = {leased.id: leased.token for leased in world.lease()}
    given = [invalid(one, tokens[one]), completion(two, tokens[two]), completion(one, tokens[one])]
    assert world.queue.complete("job", given).result() == ["invalid", "accepted", "invalid"]
    assert (world.status(one), world.status(two)) == (Status.QUEUED, Status.SUCCEEDED)


def test_what_a_job_holds_is_bounded_in_number(world: World) -> None:
    for _ in range(HELD_MOST + 5):
        world.submit()
    leased = world.lease(most=HELD_MOST - 1) + world.lease(most=HELD_MOST)
    assert len(leased) == HELD_MOST
    assert world.lease() == []
    assert len(world.lease("other")) == 5
    world.complete(leased[0])
    world.submit()
    assert len(world.lease()) == 1


def test_what_a_job_holds_is_bounded_in_bytes_but_two_always_fit(world: World) -> None:
    for size in (HELD_BYTES, HELD_BYTES, 1, 1):
        world.submit(size=size)
    first, second = world.lease(most=1) + world.lease(most=1)
    assert world.lease() == []
    world.heard()
    world.complete(first)
    heard = world.heard()
    assert Ended(world.get(first.id)) in heard
    assert Available("free") in heard, "it may take more now"
    assert len(world.lease()) == 1, "beside one that fills the bound alone"
    assert world.lease() == []
    world.complete(second)
    assert len(world.lease()) == 1


def test_a_lease_takes_no_more_bytes_than_a_job_may_hold(world: World) -> None:
    for _ in range(5):
        world.submit(size=HELD_BYTES // 3)
    assert len(world.lease()) == 3


def test_leasing_and_handing_back_for_ever_makes_no_row_grow(world: World) -> None:
    one = world.submit()
    query = f"SELECT length(lost_tokens) FROM predictions WHERE id = '{one}'"
    for _ in range(40):
        leased = world.lease()
        assert world.queue.release("job", pairs(leased)).result() == 1
    length = world.database.read(lambda tx: tx.cursor.execute(query).fetchone()[0]).result()
    assert length == 16 * 33
    assert world.complete(leased[0]) == "accepted", "the last leases are still known"


def test_the_first_of_too_many_leases_is_forgotten(world: World) -> None:
    one = world.submit()
    (first,) = world.lease()
    world.queue.release("job", pairs([first])).result()
    for _ in range(15):
        world.queue.release("job", pairs(world.lease())).result()
    assert world.queue.complete("job", [invalid(one, first.token)]).result() == ["invalid"], "still known"
    world.queue.release("job", pairs(world.lease())).result()
    assert world.complete(first) == "unknown"


def test_long_last_words_are_cut(world: World) -> None:
    one = world.submit()
    world.lease()
    world.queue.end_job("job", "\ud800" + "x" * 100_000).result()
    assert len(world.get(one).reason) == 1000
