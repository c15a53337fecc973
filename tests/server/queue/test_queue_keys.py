"""Keys in the database, on each database that it can be."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.queue import Conflict, KeptKeys, Key, KeysChanged, PepperDiffers, Queue
from server.queue.operations.keys import OVER_KEPT
from tests.server.queue.queue_world import PostgresWorld, World
from tests.waiting import eventually

PEPPER = "that of this installation"
LIMITS = {"per_second": 2.5, "queued": 10}


def key(name: str = "a", **changes: Any) -> Key:
    plain = Key(id=name, owner="anna", tiers=("free", "premium"), digest=f"digest-{name}", created_at=1.0)
    return replace(plain, **changes)


def test_a_key_is_kept_as_it_was_made(world: World) -> None:
    assert world.queue.keys().result() == KeptKeys(0, "", ())
    made = key(expires_at=2.5, limits=LIMITS, weight=3.0)
    world.queue.add_key(made, PEPPER).result()
    assert world.queue.keys().result().keys == (made,)
    world.restart()
    assert world.queue.keys().result().keys == (made,)


def test_every_change_moves_the_number_and_is_told(world: World) -> None:
    def told(change: Callable[[], Any]) -> Any:
        before = world.queue.keys_changed().result()
        world.heard()
        result = change()
        assert world.heard() == [KeysChanged()]
        assert world.queue.keys_changed().result() == before + 1 == world.queue.keys().result().number
        return result

    told(lambda: world.queue.add_key(key(), PEPPER).result())
    told(lambda: world.queue.add_key(key("b", created_at=2.0), PEPPER).result())
    told(lambda: world.queue.rotate_key("a", key("c", created_at=3.0), 60.0, PEPPER).result())
    told(lambda: world.queue.revoke_key("b").result())


def test_a_key_is_revoked_once(world: World) -> None:
    world.queue.add_key(key(), PEPPER).result()
    world.queue.add_key(key("b"), PEPPER).result()
    at = world.clock.now
    assert world.queue.revoke_key("a").result() == key(revoked_at=at)
    number = world.queue.keys_changed().result()
    world.clock.advance(5)
    assert world.queue.revoke_key("a").result() == key(revoked_at=at)
    assert world.queue.revoke_key("nobody").result() is None
    assert world.queue.keys_changed().result() == number
    assert world.queue.keys().result().keys == (key(revoked_at=at), key("b"))


def test_a_rotated_key_ends_after_the_grace_but_never_later_than_before(world: World) -> None:
    now = world.clock.now
    world.queue.add_key(key("a"), PEPPER).result()
    world.queue.add_key(key("b", expires_at=now + 10), PEPPER).result()
    first, second = key("c", created_at=now), key("d", created_at=now)
    assert world.queue.rotate_key("a", first, 60.0, PEPPER).result() == key("a", expires_at=now + 60)
    assert world.queue.rotate_key("b", second, 60.0, PEPPER).result() == key("b", expires_at=now + 10)
    assert {one.id for one in world.queue.keys().result().keys} == {"a", "b", "c", "d"}


@pytest.mark.parametrize("over", [{"revoked_at": 1.0}, {"expires_at": 1.0}])
def test_a_key_that_is_over_is_not_rotated(world: World, over: dict[str, Any]) -> None:
    world.clock.now = 100.0
    world.queue.add_key(key(**over), PEPPER).result()
    assert world.queue.rotate_key("a", key("b"), 60.0, PEPPER).result() is None
    assert world.queue.rotate_key("nobody", key("b"), 60.0, PEPPER).result() is None
    assert world.queue.keys().result().keys == (key(**over),)


def test_keys_of_another_pepper_are_not_taken(world: World) -> None:
    world.queue.add_key(key(), PEPPER).result()
    with pytest.raises(PepperDiffers):
        world.queue.add_key(key("b"), "another").result()
    with pytest.raises(PepperDiffers):
        world.queue.rotate_key("a", key("b"), 60.0, "another").result()
    kept = world.queue.keys().result()
    assert (kept.pepper, kept.keys) == (PEPPER, (key(),))


def test_an_id_that_is_there_is_not_taken_again(world: World) -> None:
    world.queue.add_key(key(), PEPPER).result()
    with pytest.raises(Conflict):
        world.queue.add_key(key(owner="bert"), PEPPER).result()
    assert world.queue.keys().result().keys == (key(),)


def test_keys_that_are_over_are_forgotten_after_a_while(world: World) -> None:
    now = world.clock.now
    world.queue.add_key(key("a", expires_at=now + 1), PEPPER).result()
    world.queue.add_key(key("b"), PEPPER).result()
    world.queue.revoke_key("b").result()
    world.queue.add_key(key("c"), PEPPER).result()
    world.clock.advance(OVER_KEPT + 0.5)
    world.queue.add_key(key("d"), PEPPER).result()
    assert [one.id for one in world.queue.keys().result().keys] == ["a", "c", "d"]  # a is half a second too young
    world.clock.advance(2)
    world.queue.add_key(key("e"), PEPPER).result()
    assert [one.id for one in world.queue.keys().result().keys] == ["c", "d", "e"]


def test_servers_that_make_the_first_keys_at_once_agree_on_the_pepper(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world, world.open() as second, ThreadPoolExecutor(2) as pool:
        queues, peppers = (world.queue, Queue(second)), ("one", "two")

        def add(at: int) -> Exception | None:
            return queues[at].add_key(key(str(at)), peppers[at]).exception()  # type: ignore[return-value]

        refused = list(pool.map(add, (0, 1)))
        kept = world.queue.keys().result()
        winner = peppers.index(kept.pepper)
        assert [one.id for one in kept.keys] == [str(winner)]
        assert refused[winner] is None
        assert isinstance(refused[1 - winner], PepperDiffers)


def test_another_server_is_told_of_a_change(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world, world.open() as second:
        Queue(second).add_key(key(), PEPPER).result()
        eventually(lambda: world.told, 10.0, "the notice comes")
        assert [KeysChanged()] in world.told
