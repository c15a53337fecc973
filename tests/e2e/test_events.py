"""Event streams through a Service with two servers, the stages of real pods, and the pages of the real image."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urljoin

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.deployment import Deployment, deploy
from tests.e2e.figures import tell
from tests.e2e.followers import Follower
from tests.e2e.pictures import CAT
from tests.e2e.servers import SETS, alone, names, servers
from tests.e2e.stores import Stores, stores
from tests.e2e.things import Thing
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

WAITING = 6
PAUSED = "tiers.premium.quota.pods=0"
# Workers of free load for some seconds with so little of a processor, so that it can be seen.
SLOW = "tiers.free.job.cpu=100m"
NO_IMAGE = ("worker.image.tag=none-such", "tiers.free.waits.startSeconds=8", "tiers.free.limits.queue=1001")
STAGES = ["pending", "scheduled", "pulling", "loading"]
PAGES = ("/", "/watch", "/docs")
# What a page or a module names: by an attribute, or by the import of a module.
LINKS = re.compile(r"""(?:\b(?:src|href|spec-url)=|\b(?:from|import)\s+)["']([^"'#:]+)["']""")


@pytest.fixture(scope="module")
def shared(own_cluster: Cluster) -> Iterator[Stores]:
    with stores(own_cluster) as found:
        yield found


@pytest.fixture(scope="module")
def deployment(own_cluster: Cluster, shared: Stores) -> Iterator[Deployment]:
    found = deploy(own_cluster, *SETS, SLOW, "replicas=2", *shared.sets)
    try:
        servers(found)
        yield found
    finally:
        found.remove()


def test_streams_go_on_at_other_servers_through_rollouts_and_each_end_is_told_once(deployment: Deployment) -> None:
    before = servers(deployment)
    with deployment.changed(PAUSED):
        keys = [deployment.submit("premium", CAT) for _ in range(WAITING)]
        followers = [Follower(deployment, [key]) for key in keys] + [Follower(deployment, keys)]
        for one in followers:
            one.start()
        eventually(lambda: [one.events for one in followers], 30, "all streams have told something", all)
        deployment.upgrade("pod.annotations.round=two")
        after = servers(deployment)
        alone(deployment, after)
        assert not names(before) & names(after)
        began = time.monotonic()
        ended = [len(one.breaks) for one in followers]
    # Now the tier has its workers again, and a second rollout has begun.
    for one in followers:
        one.done(120)
    for one in followers[:-1]:
        assert list(one.finals.values()) == [1], one.account()
    assert followers[-1].finals == dict.fromkeys(keys, 1), followers[-1].account()
    assert all(ended), "each stream was at a server that is gone"
    breaks = [how for one in followers for how in one.breaks]
    assert not [how for how in breaks if how == "left"], f"a stream has told nothing, not even a comment: {breaks}"
    for key in keys:
        assert deployment.ended(key)["status"] == "succeeded"
    drained = breaks.count("drained")
    assert drained >= len(followers), breaks
    tell(
        f"{len(followers)} streams through two rollouts: {drained} drained, {len(breaks) - drained - len(followers)} "
        f"lost or refused, the last end {time.monotonic() - began:.1f} s after the first rollout"
    )


@contextmanager
def cordoned(cluster: Cluster) -> Iterator[None]:
    """No pod gets a node while the block lasts."""
    cluster.kubectl("cordon", *cluster.nodes)
    try:
        yield
    finally:
        cluster.kubectl("uncordon", *cluster.nodes)


def test_who_waits_is_told_how_far_a_worker_is(own_cluster: Cluster, deployment: Deployment) -> None:
    deployment.idle("free")
    with cordoned(own_cluster):
        follower = Follower(deployment, [deployment.submit("free", CAT)])
        follower.start()
        eventually(lambda: follower.stages, 60, "the pod waits for a node", lambda told: "pending" in told)
        # Another server may answer, which asks for its pods only once somebody looks.
        look = partial(staged, deployment)
        eventually(look, 30, "the tier tells it too", lambda told: told == [("pending", None)])
    follower.done(60)
    assert follower.finals.total() == 1
    assert "loading" in follower.stages
    assert follower.stages == sorted(follower.stages, key=STAGES.index), "no worker goes back"
    tell(f"stages of a worker that first had no node: {', '.join(follower.stages)}")


def starting(deployment: Deployment) -> list[Thing]:
    return [Thing(job) for job in deployment.tier("free")["jobs"] if job["state"] == "starting"]


def staged(deployment: Deployment) -> list[tuple[str | None, str | None]]:
    return [(job["stage"], job["node"]) for job in starting(deployment)]


def limit(deployment: Deployment) -> int:
    """How many predictions of free may wait."""
    most: int = deployment.tier("free")["limits"]["queued"]
    return most


def test_who_waits_is_told_that_an_image_is_pulled(deployment: Deployment) -> None:
    deployment.idle("free")
    with deployment.changed(*NO_IMAGE):

        def look() -> list[str]:
            """The stages of the tier's workers. The leader may know of a change only after it has started a Job."""
            tier = deployment.tier("free")
            if not tier["queued"] and not tier["jobs"]:
                keys.append(deployment.submit("free", CAT))
            # Without a trouble it may be the old image, whose container is being made.
            stuck = [job for job in starting(deployment) if "Image" in job["reason"]]
            return [f"{job['stage']} on {job['node']}" for job in stuck]

        keys: list[str] = []
        eventually(lambda: limit(deployment), 30, "the change is in force", lambda most: most == 1001)
        eventually(look, 120, "a worker's image is pulled", lambda told: {"pulling on n1", "pulling on n2"} & {*told})
        follower = Follower(deployment, keys[-1:])
        follower.start()
        eventually(lambda: follower.stages, 30, "who follows is told so", lambda told: "pulling" in told)
    follower.done(90)
    assert {deployment.ended(key)["status"] for key in keys} == {"succeeded"}


def test_the_image_has_the_pages_and_all_that_they_need(deployment: Deployment) -> None:
    found: dict[str, str] = {}
    left = [*PAGES, "/openapi.json", "/page/cat.jpg"]
    while left:
        path = left.pop()
        if path in found:
            continue
        answer = deployment.get(path)
        assert answer.status == 200, f"{path}: {answer.body!r}"
        found[path] = kind = answer.headers["Content-Type"].partition(";")[0]
        if kind in ("text/html", "text/javascript"):
            named = LINKS.findall(answer.body.decode())
            left += [urljoin(path, name) for name in named if kind == "text/html" or name.startswith(("/", "."))]
    assert {found[path] for path in PAGES} == {"text/html"}
    assert found["/openapi.json"] == "application/json"
    assert {"text/css", "text/javascript"} <= {*found.values()}, found
    assert deployment.get("/page/cat.jpg").body == CAT
    tell(f"the image serves {', '.join(sorted(found))}")
