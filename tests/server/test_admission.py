"""Which requests are admitted before their bodies are read."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from server.intake.admission import Gate
from server.problems import Problem
from server.queue import Depth, Recent


def test_a_gate_counts_those_whom_it_let_in_since_the_last_count() -> None:
    def depths() -> Future[dict[str, Depth]]:
        future: Future[dict[str, Depth]] = Future()
        future.set_result({"free": Depth(queued=1, leased=5, oldest=None)})
        return future

    async def story() -> None:
        gate = Gate(Recent(depths, 3600))
        await gate.enter("free", 3)
        await gate.enter("free", 3)
        with pytest.raises(Problem) as refused:
            await gate.enter("free", 3)
        assert (refused.value.status, refused.value.body["queued"], refused.value.body["limit_queued"]) == (429, 3, 3)
        await gate.enter("premium", 1)

    asyncio.run(story())
