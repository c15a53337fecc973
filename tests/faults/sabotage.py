"""Servers that break a promise on purpose, so that it can be seen that the judge of a run finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from server.access.callers import Caller
    from server.http.following import State
    from server.leader.jobs import Jobs, Member
    from server.queue import Key, Prediction


def forget_owners() -> None:
    """All that comes with any key belongs to everybody, as if nothing told owners apart."""
    from server.access.callers import Caller

    def with_key(key: Key) -> Caller:
        return replace(right(key), owner="everybody")

    right = Caller.with_key
    mock.patch.object(Caller, "with_key", with_key).start()


def forget_limits() -> None:
    """Nobody has limits."""
    from server.access.callers import NO_LIMITS, Caller

    mock.patch.object(Caller, "limits", lambda self, tier: NO_LIMITS).start()


def forget_versions() -> None:
    """Every worker of a tier is given its predictions, whatever model it runs."""
    from server.lobby.handout import Handout

    mock.patch.object(Handout, "_lane_of", lambda self, peer: (peer.worker.tier, False)).start()


def tell_wrong_ends() -> None:
    """Who follows what succeeds is told that it failed."""
    from server.http.public.states import States
    from server.queue import Status

    def ended(self: States, prediction: Prediction) -> State:
        if prediction.status == Status.SUCCEEDED:
            prediction = replace(prediction, status=Status.FAILED)
        return right(self, prediction)

    right = States.ended
    mock.patch.object(States, "ended", ended).start()


def blame_recalled_workers() -> None:
    """A worker that is to be recalled is killed, as if it had died of what it holds."""
    from server.leader.answers import answer
    from server.leader.jobs import Jobs

    def recall(self: Jobs, member: Member, reason: str) -> None:
        answer(self._queue.end_job(member.name, reason, blame=True, attempts=1000))
        self._engine.stop(member.name, at_once=True)

    mock.patch.object(Jobs, "recall", recall).start()


SABOTAGES: Mapping[str, Callable[[], None]] = {
    "owners": forget_owners,
    "limits": forget_limits,
    "versions": forget_versions,
    "events": tell_wrong_ends,
    "recalls": blame_recalled_workers,
}
