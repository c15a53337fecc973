"""Callers share a tier, through lobby and table together: one order, one share each, and one count."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from server.lobby.shares import KNOWN_SECONDS
from server.queue import Depth, Status
from tests.server.lobby.lobby_world import LOBBY_SECONDS, REAL_SECONDS, Client, Hand, LobbyWorld
from tests.server.queue.queue_world import MANY


def flood(world: LobbyWorld, many: int, **changes: Any) -> list[str]:
    """One caller's predictions in the table, all sent at once."""
    sent = [world.base.submission(**{"size": 108, "caller": "flood", **changes}) for _ in range(many)]
    for one in sent:
        world.blobs.put(one.id, [[bytes(100)]])
    futures = [(one, world.queue.submit(one, MANY)) for one in sent]
    for one, future in futures:
        finish = future.result(REAL_SECONDS).finish
        world.do(lambda one=one, finish=finish: world.lobby.shares.submitted(one, 0.0, finish), calm=False)  # type: ignore[misc]
    world.calm()
    return [one.id for one in sent]


def work(hand: Hand, many: int) -> list[str]:
    """What a worker is given, one after another."""
    before = len(hand.ids)
    for _ in range(many):
        hand.grant(1)
        hand.finish()
    return hand.ids[before:]


def turn(client: Client) -> int:
    return client.entry.place[1]


def reached(world: LobbyWorld) -> int:
    """The turn that the table knows of."""
    return world.queue.got_work("job", "free", 0).result(REAL_SECONDS)


@pytest.mark.parametrize("through", ["lobby", "table"])
def test_a_thousand_delay_anothers_single_picture_by_one_turn(world: LobbyWorld, through: str) -> None:
    hands = [world.hand(name) for name in ("job", "other")]
    flood(world, 1000)
    for hand in hands:
        work(hand, 5)
        hand.grant(1)
    single = world.enter(caller="single").id if through == "lobby" else world.submit(caller="single")
    given = []
    for hand in hands:
        hand.finish()
        given += work(hand, 1)
    assert single in given


def test_a_flood_in_the_lobby_does_not_delay_either(world: LobbyWorld) -> None:
    hand = world.hand()
    for _ in range(100):
        world.enter(caller="flood", calm=False)
    world.calm()
    work(hand, 10)
    first, second = world.submit(caller="single"), world.enter(caller="single").id
    assert work(hand, 5)[1::2] == [first, second]


@pytest.mark.parametrize("seed", range(3))
def test_callers_get_their_weight_through_lobby_and_table_together(world: LobbyWorld, seed: int) -> None:
    chance, weights = random.Random(seed), {"light": 1.0, "heavy": 3.0, "half": 0.5}
    hand, sent, given = world.hand(), {name: list[str]() for name in weights}, Counter[str]()

    def send(caller: str) -> None:
        changes: dict[str, Any] = {"caller": caller, "weight": weights[caller]}
        sent[caller].append(world.enter(**changes).id if chance.random() < 0.5 else world.submit(**changes))

    for caller in weights:
        for _ in range(4):
            send(caller)
    owners: dict[str, str] = {}
    for _ in range(60):
        owners |= {key: caller for caller, keys in sent.items() for key in keys}
        (one,) = work(hand, 1)
        given[owners[one]] += 1
        send(owners[one])
        shares = [given[caller] / weight for caller, weight in weights.items()]
        assert max(shares) - min(shares) <= 1 + 1 / 0.5 + 1
    for caller, keys in sent.items():
        assert [key for key in hand.ids if owners.get(key) == caller] == keys[: given[caller]]


def test_endless_newcomers_starve_nobody(world: LobbyWorld) -> None:
    hand = world.hand()
    patient = [world.enter(caller="patient").id, world.submit(caller="patient"), world.enter(caller="patient").id]
    for number in range(8):
        caller = f"newcomer-{number}"
        _ = world.enter(caller=caller).id if number % 2 else world.submit(caller=caller)
        work(hand, 1)
    assert set(patient) <= set(hand.ids)


def test_the_row_has_the_turn_that_the_lobby_gave(world: LobbyWorld) -> None:
    hand, clients = world.hand(), [world.enter() for _ in range(4)]
    clients[3].keep()
    work(hand, 2)
    world.lobby_ends()
    rows = [world.get(one.id) for one in clients]
    assert [row.turn for row in rows] == [1, 2, 3, 4]
    assert [row.status for row in rows] == 2 * [Status.SUCCEEDED] + 2 * [Status.QUEUED]


def test_a_place_that_was_lost_is_the_same_afterwards(world: LobbyWorld) -> None:
    hand = world.hand()
    mine = [world.enter(caller="flood") for _ in range(3)]
    other = world.enter(caller="single")
    hand.grant(2)
    assert hand.ids == [mine[0].id, other.id]
    hand.release()
    hand.leave()
    mine[1].keep()
    assert world.hand("next", wants=4).ids == [mine[0].id, other.id, mine[1].id, mine[2].id]


def test_the_table_hears_of_the_turns_of_the_lobby_and_the_lobby_of_the_tables(world: LobbyWorld) -> None:
    hand = world.hand(wants=1)
    world.enter()
    assert (reached(world), world.lobby.shares.turn("free")) == (1, 1)
    hand.finish()
    world.queue.got_work("job", "free", 500).result(REAL_SECONDS)  # another server's worker had this turn
    world.clock.advance(1.1)
    hand.grant(1)
    entry = world.enter(caller="single")
    assert (turn(entry), world.lobby.shares.turn("free")) == (2, 500)
    assert turn(world.enter(caller="third")) == 501
    world.clock.advance(1.1)
    hand.finish()
    hand.grant(1)
    assert reached(world) == 501


def test_a_server_learns_the_turn_from_what_it_leases(world: LobbyWorld) -> None:
    hand = world.hand()
    world.queue.got_work("job", "free", 700).result(REAL_SECONDS)
    world.queue.submit(world.base.submission(size=108), MANY).result(REAL_SECONDS)
    hand.grant(1)
    assert world.lobby.shares.turn("free") == 701
    assert turn(world.enter(caller="single")) == 702


def test_the_order_of_a_newcomer_to_the_table_follows_the_lobby(world: LobbyWorld) -> None:
    """The table hears of the lobby's turns once a second only; the request itself tells it."""
    hand = world.hand(wants=1)
    world.enter(caller="flood")
    hand.finish()
    for _ in range(5):
        world.enter(caller="flood")
        work(hand, 1)
    assert reached(world) < 6
    assert world.get(world.submit(caller="single")).turn == 7


def test_an_entry_is_charged_once_in_whatever_order_it_is_kept(world: LobbyWorld) -> None:
    clients = [world.enter() for _ in range(4)]
    clients[2].keep()
    clients[0].keep()
    world.lobby_ends()
    one = world.base.submission(size=108)
    assert world.queue.submit(one, MANY).result(REAL_SECONDS).finish == 6.0  # no floor: as another server sends it
    entries = [world.enter() for _ in range(2)]
    world.submit()
    for entry in entries:
        entry.keep()
    one = world.base.submission(size=108)
    assert world.queue.submit(one, MANY).result(REAL_SECONDS).finish <= 10.0


def test_what_its_caller_sent_to_another_server_is_heard_of_when_something_is_kept(world: LobbyWorld) -> None:
    for one in [world.base.submission(size=108) for _ in range(20)]:
        world.queue.submit(one, MANY).result(REAL_SECONDS)
    first = world.enter()
    assert turn(first) == 1
    first.keep()
    assert turn(world.enter()) == 22


def test_a_caller_of_whom_the_table_may_know_more_takes_the_table(small: LobbyWorld) -> None:
    def may_enter(stored: int) -> bool:
        one = small.base.submission(size=108)
        return small.do(lambda: small.lobby.has_place(one, stored))

    assert may_enter(0)
    assert not may_enter(1)
    small.submit()
    assert may_enter(1)
    small.clock.advance(KNOWN_SECONDS + 0.1)
    assert not may_enter(1)
    small.enter().keep()
    assert may_enter(1)


def test_who_hangs_up_does_not_wait_for_what_he_took_back(world: LobbyWorld) -> None:
    clients = [world.enter(caller="flood") for _ in range(50)]
    for client in clients[1:]:
        client.hang_up()
    later = world.enter(caller="flood")
    assert turn(later) == 51  # one of his is still there, and stays the first
    clients[0].hang_up()
    later.hang_up()
    assert turn(world.enter(caller="flood")) == 1


def test_what_waits_is_counted_by_caller(world: LobbyWorld) -> None:
    def counted(caller: str) -> tuple[int, int]:
        found: Depth = world.lobby.book.of_caller("free", caller)
        return found.queued, found.bytes

    hand = world.hand()
    clients = [world.enter(caller="flood", size=size) for size in (108, 208, 308)]
    world.enter(caller="flood", tier="premium")
    assert (counted("flood"), counted("single")) == ((3, 624), (0, 0))
    hand.grant(1)
    assert counted("flood") == (2, 516)
    hand.release()
    assert counted("flood") == (3, 624)
    clients[0].hang_up()
    assert counted("flood") == (2, 516)
    with world.writer_held():
        world.clock.advance(2 * LOBBY_SECONDS)
        world.until(lambda: len(world.lobby.book.keeping) == 3)
        assert counted("flood") == (2, 516)
    world.calm()
    assert counted("flood") == (0, 0)
    assert not world.lobby.book._of_callers  # nothing is remembered of callers who have nothing here


def test_the_oldest_is_found_wherever_it_stands(world: LobbyWorld) -> None:
    hand = world.hand()
    first, *_, last = [world.enter(caller="flood").entry.accepted_at for _ in range(4)]
    world.enter(caller="single")
    assert world.lobby.book.depth("free").oldest == first
    work(hand, 4)
    assert world.lobby.book.depth("free").oldest == last
    work(hand, 1)
    assert world.lobby.book.depth("free").oldest is None


def test_a_position_counts_who_has_an_earlier_turn(world: LobbyWorld) -> None:
    for _ in range(5):
        world.enter(caller="flood")
    row = world.get(world.submit(caller="single"))
    assert world.lobby.ahead_of("free", (row.priority, row.turn, row.accepted_at)) == 1
