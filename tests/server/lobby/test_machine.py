"""After any mix of requests, results, lost connections, ends of Jobs, changes of models and time, lobby and table are
as a model says.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server.models import lane
from server.queue import FINAL, Place, Prediction, Status
from tests.server.lobby.lobby_world import LOBBY_SECONDS, LOOK_SECONDS, RECALLED, Client, Hand, LobbyWorld
from tests.server.queue.queue_world import PostgresWorld, World

pytestmark = pytest.mark.timeout(400)

MEMORY = Path("/dev/shm")
JOBS = st.integers(0, 2)
LEASE = 30.0
ATTEMPTS = {"free": 3, "premium": 3}
WEIGHTS = {"anna": 1.0, "ben": 1.0, "carla": 2.5}
CALLERS = st.sampled_from(sorted(WEIGHTS))
MODELS = ["flowers@11111111", "flowers@22222222", "flowers@33333333"]


class LobbyMachine(RuleBasedStateMachine):
    """Does each step with the lobby and its table, and checks what must always hold."""

    kind: type[World] = World

    @initialize()
    def start(self) -> None:
        self.home = TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.world = LobbyWorld(Path(self.home.name), self.kind)
        self.clients: dict[str, Client] = {}
        self.promised: set[str] = set()  # what is in the table, or was there: it must be there for ever
        self.gone: set[str] = set()  # withdrawn
        self.finals: dict[str, Prediction] = {}
        self.places: dict[str, Place] = {}
        self.callers: dict[str, str] = {}
        self.jobs = 0
        self.seen: dict[Hand, int] = {}  # how much of what a worker was given has been looked at
        self.main, self.canary = MODELS[0], MODELS[1]
        self.world.serve(self.main, self.canary)
        self.hands: list[Hand] = [self.new_hand(MODELS[0]), self.new_hand(MODELS[0]), self.new_hand(MODELS[1])]

    def teardown(self) -> None:
        if not hasattr(self, "home"):
            return
        try:
            self.work_all_off()
        finally:
            self.world.close()
            self.home.cleanup()

    def new_hand(self, model: str) -> Hand:
        self.jobs += 1
        return self.world.hand(f"job-{self.jobs}", model=model)

    @rule(main=st.sampled_from(MODELS), canary=st.sampled_from([*MODELS, ""]))
    def serve(self, main: str, canary: str) -> None:
        self.main, self.canary = main, canary if canary != main else ""
        self.world.serve(self.main, self.canary)

    @rule()
    def end_canary(self) -> None:
        """As the leader does it."""
        if not self.canary:
            self.world.queue.end_canary("free").result()
            self.world.calm()

    @rule(caller=CALLERS, priority=st.integers(-1, 1), size=st.sampled_from([108, 4_000_008]), canary=st.booleans())
    def enter(self, caller: str, priority: int, size: int, canary: bool) -> None:
        before = self.latest_turn_of(caller)
        # The lane may have been chosen just before the canary ended.
        weight = WEIGHTS[caller]
        client = self.world.enter(priority=priority, size=size, caller=caller, weight=weight, canary=canary)
        self.clients[client.id], self.callers[client.id] = client, caller
        self.places[client.id] = client.entry.place
        self.its_turn_is_right(client.id, before)

    @rule(caller=CALLERS, priority=st.integers(-1, 1), canary=st.booleans())
    def submit(self, caller: str, priority: int, canary: bool) -> None:
        before = self.latest_turn_of(caller)
        key = self.world.submit(priority=priority, caller=caller, weight=WEIGHTS[caller], canary=canary)
        self.promised.add(key)
        row = self.world.get(key)
        self.places[key], self.callers[key] = (priority, row.turn, row.accepted_at), caller
        self.its_turn_is_right(key, before)

    def latest_turn_of(self, caller: str) -> int:
        """Of all that a caller has sent and not taken back."""
        return self.latest_turn([key for key, one in self.callers.items() if one == caller and key not in self.gone])

    def latest_turn(self, keys: list[str]) -> int:
        return max((self.places[key][1] for key in keys), default=0)

    def its_turn_is_right(self, new: str, before: int) -> None:
        """It stands behind its caller's others, and as much further as they have cost; or one turn from now.

        What was taken back while others waited has cost its turns.
        """
        (_, turn, _), caller = self.places[new], self.callers[new]
        now = self.world.lobby.shares.turn("free")
        sent = self.latest_turn([key for key, one in self.callers.items() if one == caller and key != new])
        assert turn >= before
        assert turn <= max(sent + 1 / WEIGHTS[caller], now) + 1
        of_turn = [key for key, place in self.places.items() if place[1] == turn and self.callers[key] == caller]
        assert len(set(of_turn) - self.gone) <= WEIGHTS[caller] + 1

    @rule(job=JOBS, more=st.integers(1, 4))
    def grant(self, job: int, more: int) -> None:
        hand = self.hands[job]
        before = len(hand.ids)
        hand.grant(more)
        # What is alone may go to this worker later, and what has just come back may stand before what it was given.
        given = [self.places[one] for one in hand.ids[before:]]
        assert given == sorted(given)
        waiting = [self.places[one] for one in self.waiting() if self.is_canary(one) == self.lane_of(hand)]
        assert not given or not waiting or max(given) <= min(waiting)

    @rule(job=JOBS, which=st.integers(0, 9), lies=st.booleans())
    def complete(self, job: int, which: int, lies: bool) -> None:
        hand = self.hands[job]
        if hand.holds:
            one = sorted(hand.holds)[which % len(hand.holds)]
            if lies:
                assert set(hand.lie(one)) <= {"invalid", "final", "unknown"}
            else:
                assert set(hand.finish(one)) <= {"accepted", "final", "unknown"}

    @rule(job=JOBS)
    def release(self, job: int) -> None:
        hand = self.hands[job]
        self.world.do(lambda: self.world.handout.leave(hand))
        hand.release()
        self.hands[job] = hand.again()

    @rule(job=JOBS)
    def renew(self, job: int) -> None:
        self.hands[job].renew()

    @rule(job=JOBS, share=st.integers(1, 3))
    def lose_connection_and_come_back(self, job: int, share: int) -> None:
        hand = self.hands[job]
        hand.leave()
        self.hands[job] = hand.again(*sorted(hand.holds)[::share])

    @rule(job=JOBS, blame=st.booleans(), canary=st.booleans())
    def end_job(self, job: int, blame: bool, canary: bool) -> None:
        hand = self.hands[job]
        hand.leave()
        self.world.queue.end_job(hand.worker.job, "it ended", blame=blame).result()
        self.world.calm()
        self.hands[job] = self.new_hand(self.canary if canary and self.canary else self.main)

    @rule(job=JOBS, deaf=st.booleans())
    def recall(self, job: int, deaf: bool) -> None:
        """As the leader does it; a notice of it may be lost, and what is read each second is not."""
        self.world.deaf = deaf
        self.world.queue.recall_job(self.hands[job].worker.job, RECALLED).result()
        self.world.calm()
        self.world.looks_at_tiers()
        assert self.hands[job].retired

    @rule(seconds=st.sampled_from([LOBBY_SECONDS / 3, LOBBY_SECONDS, LOOK_SECONDS, LEASE / 2]))
    def time_passes(self, seconds: float) -> None:
        self.world.passes(seconds)
        self.world.passes(0.06)
        self.world.queue.reclaim(ATTEMPTS).result()
        self.world.calm()

    @rule(which=st.integers(0, 99), keep=st.booleans())
    def a_wait_ends(self, which: int, keep: bool) -> None:
        waiting = [one for one in self.clients.values() if one.told == 0]
        if waiting:
            client = waiting[which % len(waiting)]
            if keep:
                self.promised.add(client.keep().id)
            else:
                client.hang_up()
                if client.told:
                    self.gone.add(client.id)

    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        if self.promised:
            self.world.queue.cancel(sorted(self.promised)[which % len(self.promised)]).result()
            self.world.calm()

    @invariant()
    def all_is_well(self) -> None:
        self.nothing_is_lost_that_was_promised()  # first, as it sees what has been promised
        self.nothing_is_given_to_two_workers()
        self.everything_is_given_to_a_worker_of_its_lane()
        self.lobby_and_table_are_counted()
        self.a_solo_prediction_is_alone()

    def nothing_is_lost_that_was_promised(self) -> None:
        for client in self.clients.values():
            assert client.told <= 1
            if isinstance(client.outcome, Prediction):
                self.promised.add(client.id)
            else:
                assert client.outcome is None
        found = {one: self.world.queue.get(one) for one in self.places}
        for one, future in found.items():
            seen = future.result()
            assert (seen is not None) == (one in self.promised)
            if seen is not None and seen.status in FINAL:
                assert self.finals.setdefault(one, seen) == seen
            else:
                assert one not in self.finals

    def nothing_is_given_to_two_workers(self) -> None:
        held = [one for hand in self.hands for one in self.really_held(hand)]
        assert len(held) == len(set(held))

    def everything_is_given_to_a_worker_of_its_lane(self) -> None:
        for hand in self.hands:
            given = hand.ids[self.seen.get(hand, 0) :]
            self.seen[hand] = len(hand.ids)
            assert not given or not hand.retired
            assert {self.is_canary(one) for one in given} <= {self.lane_of(hand)}

    def lane_of(self, hand: Hand) -> bool | None:
        return None if hand.retired else lane(hand.model, self.world.serving["free"])

    def is_canary(self, one: str) -> bool:
        client = self.clients.get(one)
        if client is not None and client.told == 0:
            return client.entry.lane[1]
        return self.world.get(one).canary

    def lobby_and_table_are_counted(self) -> None:
        depth = self.world.lobby.depths(self.world.queue.depths().result()).get("free")
        here = [one for one in self.clients.values() if one.told == 0]
        rows = [self.world.get(one) for one in self.promised]
        alive = [row for row in rows if row.status not in FINAL]
        if depth is not None:
            assert depth.queued + depth.leased == len(here) + len(alive)
            assert self.canary or not any(one.entry.lane[1] for one in here)
            of_canary = sum(one.entry.lane[1] for one in here) + sum(row.canary for row in alive)
            assert (depth.canary.queued + depth.canary.leased if depth.canary else 0) == of_canary
            assert depth.bytes == sum(one.entry.submission.size for one in here) + sum(row.size for row in alive)
        assert self.world.memory.used() == sum(one.entry.submission.size for one in here)
        waiting = Counter(one.entry.submission.caller for one in here if one.entry.hold is None)
        assert waiting == {
            one: many for one in WEIGHTS if (many := self.world.lobby.book.of_caller("free", one).queued)
        }
        if depth is not None:
            lobby = [one.entry.accepted_at for one in here if one.entry.hold is None]
            table = [row.accepted_at for row in alive if row.status is Status.QUEUED]
            assert depth.oldest == min(lobby + table, default=None)

    def a_solo_prediction_is_alone(self) -> None:
        for hand in self.hands:
            held = self.really_held(hand)
            assert len(held) < 2 or not any(hand.holds[one].solo for one in held)

    def waiting(self) -> list[str]:
        lobby = [one.id for one in self.clients.values() if one.told == 0 and one.entry.hold is None]
        rows = [one for one in self.promised if self.world.get(one).status is Status.QUEUED]
        return lobby + rows

    def really_held(self, hand: Hand) -> list[str]:
        """What a worker holds and has not lost without knowing it."""
        mine = []
        for one, leased in hand.holds.items():
            client = self.clients.get(one)
            hold = client.entry.hold if client and client.told == 0 else None
            row = self.world.get(one) if one in self.promised else None
            token_of_row = row is not None and row.status is Status.LEASED and row.job == hand.worker.job
            if (hold and hold.token == leased.token) or token_of_row:
                mine.append(one)
        return mine

    def work_all_off(self) -> None:
        """Everything that was not withdrawn ends, and nothing stays in memory."""
        self.canary = ""
        self.world.serve(self.main)
        for number, hand in enumerate(self.hands):
            if hand.retired:
                hand.finish()
                self.end_job(number, blame=False, canary=False)
        for _ in range(len(self.places) * 4 + 10):
            for hand in self.hands:
                if hand.holds:
                    hand.finish()
                hand.grant(1)
            if not self.world.lobby.book.count and not self.world.queue.alive(sorted(self.promised)).result():
                break
            self.end_canary()
            self.world.passes(LEASE)
            self.world.passes(LOOK_SECONDS)
            self.world.queue.reclaim(ATTEMPTS).result()
            self.world.calm()
        assert self.world.queue.alive(sorted(self.promised)).result() == set()
        assert (self.world.lobby.book.count, self.world.memory.used()) == (0, 0)
        self.nothing_is_lost_that_was_promised()
        assert self.promised | self.gone == set(self.places)


TestLobbyMachine = LobbyMachine.TestCase
TestLobbyMachine.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


class PostgresMachine(LobbyMachine):
    """The same machine on PostgreSQL."""

    kind = PostgresWorld


TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = settings(TestLobbyMachine.settings, max_examples=8)
