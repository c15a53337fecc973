"""What is set up wrongly harms its own tier alone: it says why, starts few Jobs, and goes on once it is mended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.leader.planning import BREAKER_FIRST
from tests.cluster.cluster import Kubernetes
from tests.cluster.shell import ClusterError
from tests.e2e.deployment import TIERS, Deployment, deploy
from tests.e2e.figures import tell
from tests.e2e.pictures import CAT
from tests.e2e.strangers import LIMITS, POLICY, PRIORITY, stranger
from tests.e2e.watching import Watch
from tests.running import ROOT, eventually
from tests.service.test_classify import is_cat

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

START_SECONDS = 5
REASON_SECONDS = 60.0
MENDED_SECONDS = 180.0
THREE = "the last 3 workers ended without taking work"
FOUR_OR_MORE = r"the last ([4-9]|\d\d) workers ended without taking work"
SPREAD_SECONDS = 120.0
BASE = (ROOT / "jobtemplates" / "base.yaml.j2").read_text()


@dataclass(frozen=True)
class Broken:
    """A tier whose pods never run: what is wrong with it, and what its reason says."""

    sets: tuple[str, ...]
    says: str


BROKEN = {
    "nowhere": Broken(("job.nodeSelector.tierserve-test=none-such",), "Unschedulable: 0/"),
    "refused": Broken((), "no pods on Sundays"),
    "classless": Broken(("job.priorityClassName=none-such",), "no PriorityClass with name none-such was found"),
}


def namespace(tier: str) -> str:
    return f"tierserve-{tier}"


def tier(name: str, *sets: str) -> list[str]:
    """The flags that make a tier."""
    own = (f"namespace.name={namespace(name)}", "template=free.yaml.j2", "model.name=tf_efficientnet_lite0")
    return [f"tiers.{name}.{pair}" for pair in (*own, "quota.cpu=2", "waits.idleSeconds=2", *sets)]


@pytest.fixture(scope="module")
def deployment(cluster: Kubernetes) -> Iterator[Deployment]:
    sets = ["tiers.free.waits.idleSeconds=2", "tiers.premium.waits.idleSeconds=2", *tier("spare")]
    for name, broken in BROKEN.items():
        sets += tier(name, f"waits.startSeconds={START_SECONDS}", *broken.sets)
    found = deploy(cluster, *sets)
    try:
        yield found
    finally:
        found.remove()
        for text in (POLICY, PRIORITY):
            cluster.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text)
        cluster.kubectl("label", "nodes", "--all", "tierserve-test-")


@pytest.fixture(scope="module")
def watches(deployment: Deployment) -> Iterator[dict[str, Watch]]:
    """The Jobs of the broken tiers, from the first on, with all that breaks them."""
    deployment.kubectl("apply", "-f", "-", stdin=POLICY)
    deployment.kubectl("apply", "-f", "-", namespace=namespace("spare"), stdin=LIMITS)
    eventually(lambda: refuses_pods(deployment, "tierserve-refused"), what="the policy is in force")
    with ExitStack() as stack:
        yield {name: stack.enter_context(deployment.watching(name, "jobs")) for name in BROKEN}


@pytest.fixture(scope="module")
def waiting(deployment: Deployment, watches: dict[str, Watch]) -> dict[str, str]:
    """A prediction of each broken tier, which waits there."""
    return {name: deployment.submit(name, CAT) for name in watches}


def refuses_pods(deployment: Deployment, namespace: str) -> bool:
    try:
        deployment.kubectl("create", "--dry-run=server", "-f", "-", namespace=namespace, stdin=stranger("somebody"))
    except ClusterError as error:
        return "no pods on Sundays" in str(error)
    return False


def reasons(deployment: Deployment, tier: str, key: str) -> dict[str, str]:
    """What a waiting caller, a client and an operator are told."""
    queue = deployment.prediction(key)["queue"]
    return {
        "prediction": queue["reason"] if queue else "",
        "/v1/tiers": deployment.tier(tier)["reason"],
        "/readyz": health(deployment, tier)["reason"],
    }


def health(deployment: Deployment, tier: str) -> dict[str, Any]:
    found: dict[str, Any] = deployment.get("/readyz").json["tiers"][tier]
    return found


def told(deployment: Deployment, tier: str, key: str, pattern: str, seconds: float = REASON_SECONDS) -> str:
    """The reason, once it matches a pattern wherever it is told."""
    found: dict[str, str] = {}

    def everywhere() -> bool:
        found.update(reasons(deployment, tier, key))
        return all(re.search(pattern, reason) for reason in found.values())

    try:
        eventually(everywhere, seconds)
    except AssertionError:
        raise AssertionError(f"{tier} does not say {pattern!r} within {seconds:g} s, but: {found}") from None
    return found["prediction"]


def work(deployment: Deployment, *tiers: str) -> None:
    """These tiers give the right label, and have nothing to complain of."""
    for name in tiers:
        assert is_cat(deployment.post(name, CAT)), name
    well = {"healthy": True, "reason": ""}
    eventually(lambda: all(health(deployment, name) == well for name in tiers), what=f"{tiers} are well")


def in_force(deployment: Deployment) -> dict[str, Any]:
    found: dict[str, Any] = deployment.get("/config").json["settings"]
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_a_tier_whose_pods_cannot_run_says_why_and_the_work(
    deployment: Deployment, waiting: dict[str, str], name: str
) -> None:
    reason = told(deployment, name, waiting[name], BROKEN[name].says)
    tell(f"{name}: {reason}")
    work(deployment, *TIERS)


def test_tiers_whose_pods_cannot_run_start_no_endless_jobs(
    deployment: Deployment, waiting: dict[str, str], watches: dict[str, Watch]
) -> None:
    for name, broken in BROKEN.items():
        reason = told(deployment, name, waiting[name], FOUR_OR_MORE)
        assert f"the last one said: it asked for no work within {START_SECONDS} s" in reason
        assert broken.says in reason
        assert not health(deployment, name)["healthy"]
        ended = int(reason.split()[2])
        began = sorted(watches[name].began.values())
        rests = [later - earlier for earlier, later in pairwise(began[2:])]
        assert ended <= len(began) <= ended + 1, f"{reason}, after {len(began)} Jobs"
        assert min(rests) > BREAKER_FIRST, f"it rests from the third Job on: {rests}"
        assert len(deployment.jobs(name)) <= 1, "a Job that does not start is removed"


def test_what_waited_completes_once_the_tiers_are_mended(deployment: Deployment, waiting: dict[str, str]) -> None:
    deployment.kubectl("label", "nodes", "--all", "tierserve-test=none-such")
    deployment.kubectl("delete", "-f", "-", stdin=POLICY)
    deployment.kubectl("apply", "-f", "-", stdin=PRIORITY)
    deployment.upgrade(*(f"tiers.{name}.waits.startSeconds=60" for name in BROKEN))
    for name, key in waiting.items():
        assert deployment.ended(key, MENDED_SECONDS)["status"] == "succeeded", name
    for name in BROKEN:
        deployment.idle(name)
    work(deployment, *BROKEN)


def test_a_limit_of_somebody_else_is_told_and_no_job_is_started(
    deployment: Deployment, watches: dict[str, Watch]
) -> None:
    eventually(lambda: deployment.tier("spare")["room"] == 0, what="the LimitRange is known")
    with deployment.watching("spare", "jobs") as watch:
        key = deployment.submit("spare", CAT)
        reason = told(deployment, "spare", key, "the LimitRange somebody allows at most 500m of cpu")
        assert reason.startswith("no worker runs; ")
        work(deployment, *TIERS)
        assert not watch.seen
    deployment.kubectl("delete", "limitrange", "somebody", namespace=namespace("spare"))
    assert deployment.ended(key, MENDED_SECONDS)["status"] == "succeeded"


def test_a_namespace_deleted_by_hand_comes_back_with_an_upgrade(deployment: Deployment) -> None:
    deployment.kubectl("delete", "namespace", namespace("free"), timeout=120)
    key = deployment.submit("free", CAT)
    reason = told(deployment, "free", key, "the namespace tierserve-free is gone, or our rights there")
    tell(f"its namespace deleted: {reason}")
    assert not health(deployment, "free")["healthy"]
    work(deployment, "premium")
    deployment.upgrade()
    assert deployment.ended(key, MENDED_SECONDS)["status"] == "succeeded"
    deployment.idle("free")
    work(deployment, *TIERS)


def bad_template(word: str, below: str) -> tuple[str, str]:
    """The base template with one line more, and what the refusal has to say of it."""
    line = f"{' ' * (len(below) - len(below.lstrip()))}{word}: true"
    text = BASE.replace(f"{below}\n", f"{below}\n{line}\n")
    assert text != BASE
    return text, rf"mine\.yaml\.j2 \(rendered\):\d+: \S+/{word}: must be false, not true"


BAD_TEMPLATES = {
    "hostNetwork": bad_template("hostNetwork", "      restartPolicy: Never"),
    "privileged": bad_template("privileged", "            allowPrivilegeEscalation: false"),
}


def refused(deployment: Deployment, pattern: str, *sets: str, values: Path | None = None) -> None:
    """An upgrade with these values is not taken up, for a reason that matches; what was in force stays so."""
    before = deployment.sets
    deployment.upgrade(*sets, "tiers.premium.limits.queue=77", values=values)
    deployment.sets = before
    said = eventually(
        lambda: re.search(pattern, (found := in_force(deployment))["reason"]) and found, SPREAD_SECONDS, pattern
    )
    tell(f"not taken up: {said['reason']}")
    assert not said["current"]
    assert deployment.get("/readyz").json["settings"] == said
    assert deployment.tier("premium")["limits"]["queued"] == 1000, "nothing of the change is in force"
    work(deployment, *TIERS)


@pytest.mark.parametrize("word", BAD_TEMPLATES)
def test_a_template_that_asks_for_rights_is_refused_with_file_and_line(
    deployment: Deployment, tmp_path: Path, word: str
) -> None:
    text, pattern = BAD_TEMPLATES[word]
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"jobTemplates": {"mine.yaml.j2": text}}))
    refused(deployment, pattern, "tiers.free.template=mine.yaml.j2", values=values)


def test_values_that_the_api_server_refuses_are_not_taken_up(deployment: Deployment) -> None:
    toleration = ("key=disk", "operator=Exists", "value=slow")
    pattern = "value must be empty when `operator` is 'Exists'"
    refused(deployment, pattern, *(f"tiers.free.job.tolerations[0].{pair}" for pair in toleration))
    deployment.upgrade()
    eventually(lambda: in_force(deployment) == {"current": True, "reason": ""}, SPREAD_SECONDS)


def test_a_model_that_is_not_in_the_image(deployment: Deployment) -> None:
    before = deployment.sets
    deployment.upgrade("tiers.spare.model.name=none-such")
    eventually(lambda: deployment.tier("spare")["model"]["name"] == "none-such", SPREAD_SECONDS, "it is in force")
    deployment.idle("spare")
    with deployment.watching("spare", "jobs") as watch:
        key = deployment.submit("spare", CAT)
        tell(f"model none-such: {told(deployment, 'spare', key, THREE + r'.*none-such')}")
        work(deployment, *TIERS)
        assert len(watch.seen) == 3
    assert len(deployment.jobs("spare")) == 3, "failed ones can be looked at"
    deployment.sets = before
    deployment.upgrade()
    assert deployment.ended(key, MENDED_SECONDS)["status"] == "succeeded"


def test_an_image_that_does_not_exist(deployment: Deployment) -> None:
    before = deployment.sets
    starts = [f"tiers.{name}.waits.startSeconds={START_SECONDS}" for name in TIERS]
    for name in TIERS:
        deployment.idle(name)
    with deployment.watching("free", "jobs") as watch:
        deployment.upgrade("worker.image.tag=none-such", *starts)
        deployment.wait_ready()
        keys = {name: deployment.submit(name, CAT) for name in TIERS}
        for name, key in keys.items():
            reason = told(deployment, name, key, "tierserve-worker:none-such")
            assert any(f"{word}: " in reason for word in ("ErrImagePull", "ImagePullBackOff")), reason
            told(deployment, name, key, THREE)
        tell(f"image none-such: {json.dumps(reasons(deployment, 'free', keys['free']))}")
        assert len(watch.seen) == 3
    deployment.sets = before
    deployment.upgrade()
    for key in keys.values():
        assert deployment.ended(key, MENDED_SECONDS)["status"] == "succeeded"
