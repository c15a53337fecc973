"""``/v1/predictions/{id}/events`` and ``/v1/predictions/events?id=A&id=B``: follow predictions."""

from __future__ import annotations

from http import HTTPStatus

from server.http.following import DIGEST_BYTES, PAGE, State
from server.http.public.ends import check_own, missing
from server.http.public.event_stream import PIECE_BYTES, EventStream, written
from server.problems import Problem
from server.queue import ANONYMOUS

GONE = "gone"
MOST_IDS = PAGE
_MODULUS = 1 << 8 * DIGEST_BYTES

Born = dict[str, float | None]
"""By the ids of predictions, what ``check_own`` says of them."""


class _Follower(EventStream):
    """Tells what becomes of some predictions until the last of them has ended.

    The id of an event is the sum of the digests of what was told last of each of them. So any server can say whether
    a reader has seen the present states.
    """

    def initialize(self, *args: object, **kwargs: object) -> None:
        """As the base says."""
        super().initialize(*args, **kwargs)  # type: ignore[arg-type]
        self._left: Born = {}  # those whose end was not told yet
        self._refused: dict[str, State] = {}
        self._told: dict[str, int] = {}
        self._changed: dict[str, None] = {}
        self._digest = 0

    async def follow(self, own: Born, refused: dict[str, State], *, alone: bool = False) -> None:
        """Open the stream. With ``alone``, raises ``Problem`` with 404 or 410 if there is no such prediction."""
        following = self.services.following
        await following.follow(self, own)
        self._left, self._refused = own | dict.fromkeys(refused), refused
        states = {one: self._present(one, alone=alone) for one in self._left}
        digest = sum(state.digest for state in states.values()) % _MODULUS
        if self.last_event_id == _text(digest):
            if all(state.is_final for state in states.values()):
                self.set_status(HTTPStatus.NO_CONTENT)
                self.finish()
                return
            self._digest = digest
            for one, state in states.items():
                self._note(one, state)
        else:
            self._changed = dict.fromkeys(states)
        if self.begin():
            self.nudge()
        else:
            self.left()

    def changed(self, prediction_id: str) -> None:
        """As ``Reader`` says."""
        self._changed[prediction_id] = None

    def unseen(self) -> bytes:
        """As the base says."""
        events, size = [], 0
        while self._changed and size < PIECE_BYTES:
            one = next(iter(self._changed))
            del self._changed[one]
            if one not in self._left:
                continue
            state, before = self._present(one), self._told.get(one, 0)
            if state.digest != before:
                self._digest = (self._digest + state.digest - before) % _MODULUS
                events.append(written(state.name, state.data, _text(self._digest)))
                size += len(events[-1])
                self._note(one, state)
        self.over, self.more = not self._left, bool(self._changed)
        return b"".join(events)

    def left(self) -> None:
        """As the base says."""
        self.services.following.leave(self, self._left)

    def _note(self, prediction_id: str, state: State) -> None:
        """The reader knows this state."""
        self._told[prediction_id] = state.digest
        if state.is_final:
            del self._left[prediction_id]
            self.services.following.leave(self, [prediction_id])

    def _present(self, prediction_id: str, *, alone: bool = False) -> State:
        if refused := self._refused.get(prediction_id):
            return refused
        state = self.services.following.state(prediction_id)
        if state is not None and state.owner in (self.caller.owner, ANONYMOUS):
            return state
        problem = missing(prediction_id, self._left[prediction_id], self.services)
        if alone:
            raise problem
        return _gone(prediction_id, problem)


class PredictionEventsHandler(_Follower):
    """One prediction. For all but its owner there is none."""

    parameters = ()

    async def get(self, prediction_id: str) -> None:
        """Tell its states until it has ended."""
        await self.follow({prediction_id: check_own(prediction_id, self.caller.owner, self.services)}, {}, alone=True)


class PredictionsEventsHandler(_Follower):
    """Several predictions."""

    parameters = ("id",)

    async def get(self) -> None:
        """Tell their states until the last of them has ended."""
        own: Born = {}
        refused: dict[str, State] = {}
        for one in self._ids():
            try:
                own[one] = check_own(one, self.caller.owner, self.services)
            except Problem as problem:
                refused[one] = _gone(one, problem)
        await self.follow(own, refused)

    def _ids(self) -> list[str]:
        given = list(dict.fromkeys(self.get_query_arguments("id")))
        if not 1 <= len(given) <= MOST_IDS:
            detail = f"the query names {len(given)} predictions; it must be 1 to {MOST_IDS}, as id=ID&id=ID"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_ids", detail, limit_ids=MOST_IDS)
        return given


def _gone(prediction_id: str, problem: Problem) -> State:
    data = {"id": prediction_id, "code": problem.body["code"], "detail": problem.body["detail"]}
    return State.of(GONE, data, "", is_final=True)


def _text(digest: int) -> str:
    return f"{digest:0{2 * DIGEST_BYTES}x}"
