"""Two servers on a PostgreSQL tell the same of the tiers, whichever of them accepted a prediction or worked on it.

A figure could be that of one server, or be counted by both.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.events import Event, opened
from tests.running import Service
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat
from tests.service.test_replicas import ASYNC, pair, postgres  # noqa: F401 (fixtures)
from tests.waiting import eventually

SUCCEEDED = 6
PATH = "/v1/tiers/events"


def free(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = event.data["tiers"][0]
    return found


def test_what_happens_at_two_servers_is_told_by_each(pair: list[Service]) -> None:  # noqa: F811
    first, second = pair
    with opened(first.port, PATH) as one, opened(second.port, PATH) as other:
        assert is_cat(second.post("free", CAT))
        for number in range(1, SUCCEEDED):
            url = pair[number % 2].post("free", CAT, ASYNC).headers["Location"]
            assert is_cat(pair[1 - number % 2].get(f"{url}?wait=30"))
        for stream in (one, other):
            told = next(free(event) for event in stream.rest() if free(event)["rates"]["succeeded"] > 0)
            assert told["jobs"][0]["state"] in ("idle", "busy")
            told = next(free(event) for event in stream.rest() if free(event)["wait_seconds"]["sample"] == SUCCEEDED)
            assert told["wait_seconds"]["p95"] >= told["wait_seconds"]["p50"] > 0

    def hour(server: Service) -> dict[str, int]:
        minutes = server.get("/v1/tiers/free/activity").json["minutes"]
        return {name: sum(minute[name] for minute in minutes) for name in ("accepted", "succeeded", "failed")}

    for server in pair:
        whole = {"accepted": SUCCEEDED, "succeeded": SUCCEEDED, "failed": 0}
        eventually(partial(hour, server), 20, "all are counted once", whole.__eq__)
        lately = server.get("/v1/tiers/free/activity").json
        assert [one["status"] for one in lately["predictions"]] == SUCCEEDED * ["succeeded"]
        assert [job["state"] for job in lately["jobs"]] == ["running"]
