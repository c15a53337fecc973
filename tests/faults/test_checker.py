"""The judge, on invented histories: each rule finds what it must find, and an honest history breaks none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import RULES, check
from tests.faults.history import History, parse, read
from tests.faults.tales import COMPLETE, DISK, DONE, LEASE, QUEUED, RUN, SUBMIT, Tale


def accepted() -> Tale:
    return Tale().call(SUBMIT, QUEUED)


def worked() -> Tale:
    tale = accepted().call(LEASE, {"status": 200, "leases": [["p1", "t1", "d1"]]})
    return tale.call(COMPLETE, {"status": 200, "outcome": "accepted"})


def sample(**changes: Any) -> dict[str, Any]:
    return {"rss": 10, "threads": 1, "fds": 1, "workers": {"free": 2}, **changes}


KEYLESS = {**SUBMIT, "keyless": True}
NAMELESS = {**DISK, "rows": [["p1", None, "succeeded"]]}
LEASED = {"status": 200, "leases": [["p1", "t1", "d1"]]}
ACCEPTED = {"status": 200, "outcome": "accepted"}


def lost(seconds: float) -> Tale:
    """A server is killed so long after a worker got a picture of its lobby."""
    tale = Tale().event("life", step="start", lobby=0.25).call(KEYLESS).call(LEASE, LEASED)
    return tale.event("life", step="end", status=-9, at=4 + seconds).event("disk", **{**DISK, "rows": []})


FOLLOW = {"do": "follow", "id": "p1", "last": "", "knew": ""}
LEFT = {"status": 200, "how": "left", "names": ["queued", "leased"], "first_id": "a", "state": "leased"}
TOLD = {**DONE, "how": "ended", "names": ["leased", "succeeded"], "first_id": "a", "score": 0.75}


def followed(call: dict[str, Any] = FOLLOW, answer: dict[str, Any] = TOLD, **changes: Any) -> Tale:
    """A client submits and follows, and then looks."""
    return accepted().call({**FOLLOW, **call}, answer, **changes).get(score=0.75)


MINE = {**SUBMIT, "owner": "amber"}
THEIRS = {**SUBMIT, "owner": "birch", "key": "birch/k1"}
PEEK, MEDDLE = ({"do": do, "owner": "birch", "id": "p1"} for do in ("peek", "meddle"))
LIST = {"do": "list", "owner": "amber"}
ENTER, REVOKE = {"do": "enter", "key": "a"}, {"do": "revoke", "key": "a"}


def mine(number: int = 1, **changes: Any) -> Tale:
    """So many predictions of one owner, p1 and so on."""
    tale = Tale()
    for index in range(1, number + 1):
        tale.call({**MINE, "key": f"k{index}", **changes}, DONE, id=f"p{index}")
    return tale


def shows(*ids: str, whole: bool = True) -> dict[str, Any]:
    return {"status": 200, "ids": list(ids), "whole": whole}


def issued() -> Tale:
    """A key, which is tried after a time in which all servers have heard of it."""
    return Tale().call({"do": "issue"}, {"status": 201, "key": "a"}).event("wait").event("wait")


def revoked() -> Tale:
    return issued().call(REVOKE, {"status": 200}).event("wait").event("wait")


def leases(*jobs: str) -> Tale:
    """Predictions p1 and p2 come to workers; the first one was asked for and came first."""
    tale = mine(2)
    for index, job in enumerate(jobs, 1):
        tale.call({"do": "lease", "job": job}, {"status": 200, "leases": [[f"p{index}", "t", "d1"]]})
    return tale


def changed(seconds: int, *seen: str) -> Tale:
    """A tier comes to serve m@2 instead of m@1, each look sees one model more, and then so many seconds pass."""
    tale = Tale().event("run", words={"m@1": "", "m@2": "red"}, first=["m@1"])
    tale.call({"do": "served"}, {"status": 200, "models": ["m@1"]})
    tale.call({"do": "change", "wanted": ["m@1", "m@2"]}, {"status": 200, "wanted": ["m@2"]})
    for model in seen:
        tale.call({"do": "served"}, {"status": 200, "models": [model]})
    for _ in range(seconds):
        tale.event("wait")
    return tale


RED = {"model": "m@2", "label": "red tabby"}


def lent(*faults: str, attempts: int = 2) -> Tale:
    """A prediction has so many attempts, after these faults, where tiers lend each other quota."""
    tale = Tale().event("run", capacity=2).call(SUBMIT, QUEUED)
    for name in faults:
        tale.event("fault", name=name, step="inject")
    return tale.get(score=0.75, attempts=attempts)


HONEST = {
    "in lent places": lent(attempts=1).event("sample", **sample(workers={"free": 1, "premium": 1})),
    "two attempts because of a fault": lent("worker-kill"),
    "two attempts where nothing is lent": accepted().get(score=0.75, attempts=2),
    "answered by the new model": changed(9, "m@2").call(SUBMIT, DONE, **RED),
    "answered by the new model before it is seen": changed(0, "m@1").call(SUBMIT, DONE, **RED),
    "answered by the old model as long as it may be": changed(0, "m@2").call(SUBMIT, DONE, model="m@1"),
    "answered by the old model as nothing has changed": changed(30, "m@1", "m@1").call(SUBMIT, DONE, model="m@1"),
    "answered by a model that came back": changed(9, "m@2", "m@1").call(SUBMIT, DONE, model="m@1"),
    "done": worked().get().get().event("disk", **DISK).event("sample", **sample()),
    "retried": Tale().call(SUBMIT).call(SUBMIT, {"status": 503}).call(SUBMIT, QUEUED).get(score=0.75),
    "refused": Tale().call(SUBMIT, {"status": 413}),
    "kept without an answer": Tale().call(SUBMIT).event("disk", **DISK),
    "not known whether kept": Tale().call(SUBMIT, {"status": 503, "code": "outcome_unknown"}).event("disk", **DISK),
    "canceled": accepted().call({"do": "cancel", "id": "p1"}, DONE, state="canceled", label=None),
    "poison": Tale().call({**SUBMIT, "poison": True}, QUEUED).get(state="failed", error="attempts_exhausted"),
    "too late": Tale().call({**SUBMIT, "cancel_after": "1s"}, QUEUED).get(state="aborted", label=None),
    "handed in twice": worked().call(COMPLETE, {"status": 200, "outcome": "duplicate"}).get(),
    "lost with the lobby": Tale()
    .call(KEYLESS)
    .call(LEASE, LEASED)
    .call(COMPLETE, {"status": 200, "outcome": "accepted"}),
    "kept in the lobby": Tale().call(KEYLESS, QUEUED).get(score=0.75).event("disk", **NAMELESS),
    "settled, and its answer lost": Tale().call(KEYLESS).call(LEASE, LEASED).event("disk", **NAMELESS),
    "settled, its answer lost, and unseen": Tale().call(KEYLESS).event("disk", **NAMELESS),
    "refused by the lobby": Tale().call(KEYLESS, {"status": 503}).call(KEYLESS, QUEUED).get(score=0.75),
    "young when it was lost": lost(0.5),
    "forgotten": accepted().get(score=0.75).event("wait").event("disk", **{**DISK, "rows": [], "at": 100}),
    "looked for by a stranger": mine().call(PEEK, {"status": 404}).call(MEDDLE, {"status": 404}).call(PEEK, {}),
    "the same of two owners": mine().call(THEIRS, DONE, id="p2"),
    "listed": mine(3).call(LIST, shows("p3", "p2", "p1")).call(LIST, shows("p3", "p2", whole=False)),
    "listed without one that was refused": mine().call({**MINE, "key": "k2"}, {"status": 429}).call(LIST, shows("p1")),
    "no list for those without a key": Tale().call({**LIST, "owner": "anonymous"}, {"status": 401}),
    "a key": issued().call(ENTER, {"status": 200}).call(REVOKE, {"status": 200}).call(ENTER, {"status": 200}),
    "a key that was revoked": revoked().call(ENTER, {"status": 401}),
    "a key that may be revoked": issued().call(REVOKE, {}).call(ENTER, {"status": 401}).call(ENTER, {"status": 200}),
    "within limits": mine(6, owner="cedar"),
    "followed to its end": followed(),
    "followed, but not to its end": followed(answer=LEFT),
    "followed, and the stream lost or drained": accepted()
    .call(FOLLOW, LEFT, how="lost: IncompleteRead")
    .call(FOLLOW, LEFT, how="drained")
    .get(score=0.75),
    "followed again": followed({"last": "b"}, LEFT).call({**FOLLOW, "last": "a", "knew": "succeeded"}, {"status": 204}),
    "followed again with others, and known": followed({"last": "b", "knew": "succeeded"}, LEFT, how="ended", names=[]),
    "followed, and refused": followed(answer={"status": 503}).call(FOLLOW, {"error": "lost: ConnectionResetError"}),
    "in order": leases("j1", "j2"),
    "answer to a result lost": accepted().call(COMPLETE).call(COMPLETE, {"status": 200, "outcome": "duplicate"}).get(),
}

BAD = [
    ("capacity_kept", lent(attempts=1).event("sample", **sample(workers={"free": 2, "premium": 1}))),
    ("recalls_cost_nothing", lent()),
    ("recalls_cost_nothing", lent("liars")),
    ("recalls_cost_nothing", lent("worker-kill", attempts=3)),
    ("accepted_ends", accepted()),
    ("accepted_ends", accepted().get(state="queued", final=None)),
    ("accepted_ends", accepted().get().call({"do": "get", "id": "p1"}, {"status": 404})),
    ("accepted_ends", accepted().get().call({"do": "get", "id": "p1"}, {"status": 410})),
    ("accepted_ends", accepted().call({"do": "get", "id": "p1"}, {"status": 410})),
    ("accepted_ends", Tale().call(KEYLESS, DONE).call({"do": "get", "id": "p1"}, {"status": 404})),
    ("accepted_ends", Tale().call(KEYLESS, QUEUED).call({"do": "get", "id": "p1"}, {"status": 404})),
    ("accepted_ends", Tale().call(KEYLESS, QUEUED)),
    ("accepted_is_kept", Tale().call(KEYLESS, DONE).event("disk", **{**DISK, "rows": []})),
    ("accepted_is_kept", Tale().call(KEYLESS, QUEUED).event("disk", **{**DISK, "rows": []})),
    ("accepted_is_kept", accepted().get().event("disk", **{**DISK, "rows": []})),
    ("only_young_ones_are_forgotten", lost(5.0)),
    ("ends_once", accepted().get().get(final="f2")),
    ("ends_once", accepted().get().get(state="queued")),
    ("ends_once", accepted().get().get(state="leased").get()),
    ("one_id_a_key", accepted().call(SUBMIT, QUEUED, id="p2")),
    ("one_id_a_key", accepted().get().event("disk", **{**DISK, "rows": [["p1", "k1", "x"], ["p2", "k1", "x"]]})),
    ("nothing_unasked", Tale().event("disk", **DISK)),
    ("nothing_unasked", Tale().call(SUBMIT, {"status": 503}).event("disk", **DISK)),
    ("nothing_unasked", Tale().get()),
    ("nothing_unasked", Tale().event("disk", **NAMELESS)),
    ("nothing_unasked", Tale().call(KEYLESS, {"status": 503}).event("disk", **NAMELESS)),
    ("nothing_unasked", Tale().call(KEYLESS, {"status": 503}).call(LEASE, LEASED).event("disk", **NAMELESS)),
    ("nothing_unasked", Tale().call(KEYLESS, {"error": "ConnectionRefusedError"}).event("disk", **NAMELESS)),
    ("right_result", accepted().get(label="dog")),
    ("right_result", accepted().get(state="failed", error="blob_missing")),
    ("right_result", accepted().get(state="failed", error="attempts_exhausted")),
    ("right_result", accepted().get(state="canceled")),
    ("right_result", accepted().get(state="expired")),
    ("right_result", Tale().call({**SUBMIT, "cancel_after": "9s"}, QUEUED).get(state="aborted")),
    ("right_result", Tale().call({**SUBMIT, "poison": True}, QUEUED).get()),
    ("one_id_a_key", Tale().call(KEYLESS, {"status": 503}).call(KEYLESS, DONE).call(KEYLESS, DONE, id="p2")),
    ("right_picture", accepted().call(LEASE, {"status": 200, "leases": [["p1", "t1", "d2"]]})),
    ("honoured_once", worked().call({**COMPLETE, "token": "t2"}, {"status": 200, "outcome": "accepted"})),
    ("honoured_once", accepted().call({**COMPLETE, "forged": True}, {"status": 200, "outcome": "accepted"})),
    ("honoured_once", accepted().call(COMPLETE, {"status": 200, "outcome": "duplicate"})),
    ("honoured_once", worked().get(score=0.6)),
    ("honoured_once", worked().get(state="canceled")),
    ("honoured_once", accepted().call(COMPLETE, {"status": 200, "outcome": "final"}).get()),
    ("quota_kept", Tale().event("sample", **sample(workers={"free": 3}))),
    ("blobs_there", Tale().event("disk", **{**DISK, "rows": [], "missing": ["p1"]})),
    ("blobs_there", Tale().event("disk", **{**DISK, "rows": [], "broken": "page 3"})),
    ("blobs_there", Tale().event("disk", **{**DISK, "rows": [], "depths": {"free": [1, 0]}})),
    ("nothing_grows", Tale().event("sample", **sample(rss=1001))),
    ("nothing_grows", Tale().event("sample", **sample(fds=11))),
    ("nothing_grows", Tale().event("sample", **sample(threads=11))),
    ("nothing_grows", Tale().event("disk", **{**DISK, "rows": [], "orphans": 1})),
    ("nothing_grows", Tale().event("disk", **{**DISK, "rows": [], "stale": 1})),
    ("nothing_grows", Tale().event("disk", **{**DISK, "rows": [], "logs": 6})),
    ("nothing_grows", Tale().event("disk", **{**DISK, "rows": [], "oldest": 101.0})),
    ("nothing_grows", Tale().event("remains", processes=["1 python"])),
    ("strangers_see_nothing", mine().call(PEEK, DONE)),
    ("strangers_see_nothing", mine().call(PEEK, {"status": 403})),
    ("strangers_see_nothing", mine().call(PEEK, {"status": 410})),
    ("strangers_see_nothing", mine().call(MEDDLE, DONE, state="canceled")),
    ("owners_are_apart", mine().call(THEIRS, DONE)),
    ("strangers_see_nothing", mine().call({**LIST, "owner": "birch"}, shows("p1"))),
    ("strangers_see_nothing", mine().call({**LIST, "owner": "anonymous"}, shows())),
    ("owners_are_apart", mine().event("disk", **{**DISK, "rows": [["p1", "k1", "succeeded", "birch"]]})),
    ("lists_are_whole", mine(2).call(LIST, shows("p2"))),
    ("lists_are_whole", mine(4).call(LIST, shows("p4", "p1", whole=False))),
    ("lists_are_whole", mine(2).call(LIST, shows("p2", "p1", "p1"))),
    ("lists_are_whole", mine(3).call(LIST, shows("p1", "p3", "p2"))),
    ("keys_open_and_close", issued().call(ENTER, {"status": 401})),
    ("keys_open_and_close", issued().call(ENTER, {"status": 429})),
    ("keys_open_and_close", revoked().call(ENTER, {"status": 200})),
    ("keys_open_and_close", Tale().call(MINE, {"status": 401})),
    ("keys_open_and_close", Tale().call(MINE, {"status": 403})),
    ("keys_open_and_close", Tale().call(LIST, {"status": 401})),
    ("limits_hold", mine(7, owner="cedar")),
    ("limits_hold", mine(4, owner="dahlia")),
    ("order_is_kept", mine(2).call(LEASE, {"status": 200, "leases": [["p2", "t", "d1"]]}).call(LEASE, LEASED)),
    ("model_is_told", changed(0).call(SUBMIT, DONE, model="m@3")),
    ("right_result", changed(0).call(SUBMIT, DONE, model="m@2")),
    ("right_result", changed(0).call(SUBMIT, DONE, **{**RED, "model": "m@1"})),
    ("answered_by_what_is_served", changed(9, "m@2").call(SUBMIT, DONE, model="m@1")),
    ("answered_by_what_is_served", changed(9, "m@2", "m@2").call(SUBMIT).get(model="m@1").call(SUBMIT, DONE)),
    ("answered_in_time", Tale().call(SUBMIT, {"error": "TimeoutError"})),
    ("ends_once", followed(final="f2")),
    ("ends_once", followed().call(FOLLOW, LEFT)),
    ("right_result", followed(label="dog")),
    ("accepted_ends", accepted().call(FOLLOW, LEFT)),
    ("events_are_in_order", followed(names=["succeeded", "leased"])),
    ("events_are_in_order", followed(names=["succeeded", "succeeded"])),
    ("events_are_in_order", followed(names=["waiting", "succeeded"])),
    ("events_are_in_order", followed(names=["failed"])),
    ("nothing_is_told_twice", followed({"last": "a"})),
    ("nothing_is_told_twice", followed({"last": "b", "knew": "leased"}, {"status": 204})),
    ("ends_are_told", followed(answer=LEFT, how="ended")),
    ("ends_are_told", accepted().get(score=0.75).call(FOLLOW, LEFT, at=100)),
    ("no_accepted_is_gone", followed(answer=LEFT, names=["gone"], code="no_such_prediction")),
    ("strangers_see_nothing", mine().call(PEEK, TOLD)),
    ("answers_are_planned", Tale().call(SUBMIT, {"status": 500})),
]


@pytest.mark.parametrize("tale", HONEST.values(), ids=list(HONEST))
def test_an_honest_history_is_in_order(tale: Tale) -> None:
    assert check(tale.story()) == []


@pytest.mark.parametrize(("rule", "tale"), BAD, ids=[f"{rule}-{number}" for number, (rule, _) in enumerate(BAD)])
def test_every_lie_is_found(rule: str, tale: Tale) -> None:
    assert rule in {violation.rule for violation in check(tale.story())}


def lease(at: float, token: str, job: str) -> list[str]:
    call = {"what": "call", "at": at, "n": at, "by": job, "do": "lease", "job": job}
    return [json.dumps(call), json.dumps({"what": "answer", "at": at, "n": at, "leases": [["p1", token, "d"]]})]


@pytest.mark.parametrize(
    ("second", "between", "found"),
    [
        (1.9, [], True),
        (2.1, [], False),
        (1.9, [{"what": "call", "at": 1.5, "n": 9, "by": "j1", "do": "release", "id": "p1", "job": "j1"}], False),
        (1.9, [{"what": "call", "at": 1.5, "n": 9, "by": "j1", "do": "open", "job": "j1", "held": []}], False),
        (1.9, [{"what": "call", "at": 1.5, "n": 9, "by": "j1", "do": "open", "job": "j1", "held": ["p1"]}], True),
        (1.9, [{"what": "call", "at": 1.5, "n": 9, "by": "j3", "do": "open", "job": "j3", "held": []}], True),
        (1.9, [{"what": "life", "at": 1.5, "step": "start"}], False),
        (1.9, [{"what": "life", "at": 0.5, "step": "start"}], True),
    ],
)
def test_two_who_hold_the_same_are_found(second: float, between: list[dict[str, Any]], found: bool) -> None:
    lines = [json.dumps({"what": "run", "at": 0, **RUN}), *lease(1.0, "t1", "j1"), *map(json.dumps, between)]
    story = parse([*lines, *lease(1.0 + second, "t2", "j2")])
    assert ["held_by_one"] * found == [violation.rule for violation in check(story)]


def test_every_rule_has_a_lie_that_it_finds() -> None:
    assert {rule.__name__ for rule in RULES} - {rule for rule, _ in BAD} == {"held_by_one"}


def test_a_history_is_read_as_it_was_written_and_a_cut_line_left_out(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    number = history.call("c", "submit", key="k")
    history.answer(number, status=202, id="p1")
    history.tell("life", step="start")
    history.close()
    with history.path.open("a") as file:
        file.write('{"what": "cal')
    story = read(history.path)
    (op,) = story.did("submit")
    assert (op.status, op.id, op.call["key"]) == (202, "p1", "k")
    assert [event["step"] for event in story.told("life")] == ["start"]
