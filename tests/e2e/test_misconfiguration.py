"""A wrong setting harms only its own tier, which says why, starts few Jobs, and works again when it is corrected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from server.leader.planning import BREAKER_FIRST
from tests.cluster.cluster import Kubernetes
from tests.cluster.shell import ClusterError
from tests.e2e.deployment import TIERS, Deployment, deploy, opened
from tests.e2e.figures import tell
from tests.e2e.pictures import CAT
from tests.e2e.reasons import counted, health, in_force, reasons, told, work
from tests.e2e.strangers import LIMITS, POLICY, PRIORITY, stranger
from tests.e2e.watching import Watch
from tests.running import ROOT
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

START_SECONDS = 5
MENDED_SECONDS = 180.0
THREE_OR_MORE = r"the last ([3-9]|\d\d) workers ended without taking work"
FOUR_OR_MORE = r"the last ([4-9]|\d\d) workers ended without taking work"
SUNDAYS = "no pods on Sundays"
SPREAD_SECONDS = 120.0
BASE = (ROOT / "jobtemplates" / "base.yaml.j2").read_text()


@dataclass(frozen=True)
class Broken:
    """A tier whose pods never run: the settings that are wrong, and what its reason says."""

    sets: tuple[str, ...]
    says: str


BROKEN = {
    "nowhere": Broken(("job.nodeSelector.tierserve-test=none-such",), "Unschedulable: 0/"),
    "refused": Broken((), SUNDAYS),
    "classless": Broken(("job.priorityClassName=none-such",), "no PriorityClass with name none-such was found"),
}


def namespace(tier: str) -> str:
    return f"tierserve-{tier}"


def tier(name: str, *sets: str) -> list[str]:
    """The flags that add a tier."""
    own = (f"namespace.name={namespace(name)}", "template=free.yaml.j2", "model.name=tf_efficientnet_lite0")
    return [f"tiers.{name}.{pair}" for pair in (*own, "quota.cpu=2", "waits.idleSeconds=2", *sets)] + opened(name)


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


def try_pod(deployment: Deployment, namespace: str) -> str:
    """What kubectl prints, or complains of, when somebody tries to make a pod."""
    words = ("create", "--dry-run=server", "-f", "-")
    try:
        return deployment.kubectl(*words, namespace=namespace, stdin=stranger("somebody"))
    except ClusterError as error:
        return str(error)


def test_tiers_whose_pods_cannot_run_say_why_start_few_jobs_and_go_on_once_mended(deployment: Deployment) -> None:
    deployment.kubectl("apply", "-f", "-", stdin=POLICY)
    eventually(lambda: try_pod(deployment, namespace("refused")), 60, "the policy is in force", is_refused)
    with ExitStack() as stack:
        watches = {name: stack.enter_context(deployment.watching(name, "jobs")) for name in BROKEN}
        keys = {name: deployment.submit(name, CAT) for name in BROKEN}
        for name, broken in BROKEN.items():
            tell(f"{name}: {told(deployment, name, keys[name], broken.says)}")
        work(deployment, *TIERS)
        for name in BROKEN:
            starts_few_jobs(deployment, name, keys[name], watches[name])
    mend(deployment)
    for name, key in keys.items():
        assert deployment.ended(key, MENDED_SECONDS)["status"] == "succeeded", name
    for name in BROKEN:
        deployment.idle(name)
    work(deployment, *BROKEN)


def is_refused(said: str) -> bool:
    return SUNDAYS in said


def starts_few_jobs(deployment: Deployment, name: str, key: str, watch: Watch) -> None:
    reason = told(deployment, name, key, FOUR_OR_MORE)
    assert f"the last one said: it asked for no work within {START_SECONDS} s" in reason
    assert BROKEN[name].says in reason
    assert not health(deployment, name)["healthy"]
    began = counted(reason, watch)
    rests = [later - earlier for earlier, later in pairwise(began[2:])]
    assert min(rests) > BREAKER_FIRST, f"it rests from the third Job on: {rests}"
    removed = f"the Jobs of {name} that do not start are removed"
    eventually(lambda: deployment.jobs(name), 30, removed, lambda jobs: len(jobs) <= 1)


def mend(deployment: Deployment) -> None:
    """Correct what is wrong with the broken tiers, so that their pods can run."""
    deployment.kubectl("label", "nodes", "--all", "tierserve-test=none-such")
    deployment.kubectl("delete", "-f", "-", stdin=POLICY)
    deployment.kubectl("apply", "-f", "-", stdin=PRIORITY)
    deployment.upgrade(*(f"tiers.{name}.waits.startSeconds=60" for name in BROKEN))


def test_a_limit_of_somebody_else_is_told_and_no_job_is_started(deployment: Deployment) -> None:
    deployment.idle("spare")
    deployment.kubectl("apply", "-f", "-", namespace=namespace("spare"), stdin=LIMITS)
    eventually(lambda: deployment.tier("spare"), 60, "the LimitRange is known", lambda tier: tier["room"] == 0)
    with deployment.watching("spare", "jobs") as watch:
        key = deployment.submit("spare", CAT)
        reason = told(deployment, "spare", key, "the LimitRange somebody allows at most 500m of cpu")
        assert reason.startswith("no worker runs; ")
        work(deployment, *TIERS)
        assert not watch.seen
    deployment.kubectl("delete", "limitrange", "somebody", namespace=namespace("spare"))
    assert deployment.ended(key, MENDED_SECONDS)["status"] == "succeeded"


def test_a_namespace_without_pod_security_is_told_and_its_jobs_run(deployment: Deployment) -> None:
    label = "pod-security.kubernetes.io/enforce"
    assert deployment.tier("free")["caution"] == ""
    deployment.kubectl("label", "namespace", namespace("free"), f"{label}-")
    caution = eventually(lambda: deployment.tier("free")["caution"], 90, "the missing label is told")
    assert f"Pod Security does not enforce restricted in the namespace {namespace('free')}, but nothing" in caution
    work(deployment, "free")
    deployment.kubectl("label", "namespace", namespace("free"), f"{label}=restricted")
    eventually(lambda: deployment.tier("free")["caution"], 90, "the label is seen", lambda said: said == "")
    tell(f"no Pod Security: {caution}")


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
    """The base template with one more line, and a pattern for its refusal."""
    line = f"{' ' * (len(below) - len(below.lstrip()))}{word}: true"
    text = BASE.replace(f"{below}\n", f"{below}\n{line}\n")
    assert text != BASE
    return text, rf"mine\.yaml\.j2 \(rendered\):\d+: \S+/{word}: must be false, not true"


BAD_TEMPLATES = {
    "hostNetwork": bad_template("hostNetwork", "      restartPolicy: Never"),
    "privileged": bad_template("privileged", "            allowPrivilegeEscalation: false"),
}


def refused(deployment: Deployment, pattern: str, *sets: str, values: Path | None = None) -> None:
    """Check that the server refuses an upgrade with these values, for a matching reason, and keeps the last ones."""
    with deployment.changed(*sets, "tiers.premium.limits.queue=77", values=values):
        refusal = f"the settings are refused by {pattern!r}"
        said = eventually(
            lambda: in_force(deployment), SPREAD_SECONDS, refusal, lambda found: re.search(pattern, found["reason"])
        )
        tell(f"not taken up: {said['reason']}")
        assert not said["current"]
        assert deployment.get("/readyz").json["settings"] == said
        assert deployment.tier("premium")["limits"]["queued"] == 1000, "nothing of the change is in force"
        work(deployment, *TIERS)
    good = {"current": True, "reason": ""}
    eventually(lambda: in_force(deployment), SPREAD_SECONDS, "good settings are in force", lambda found: found == good)


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


def test_a_model_that_is_neither_in_the_store_nor_in_the_image_is_refused(deployment: Deployment) -> None:
    refused(deployment, "tier spare cannot serve none-such: .*tierserve model push", "tiers.spare.model.name=none-such")


def test_an_image_that_does_not_exist(deployment: Deployment) -> None:
    starts = [f"tiers.{name}.waits.startSeconds={START_SECONDS}" for name in TIERS]
    for name in TIERS:
        deployment.idle(name)
    with (
        deployment.watching("free", "jobs") as watch,
        deployment.changed("worker.image.tag=none-such", *starts),
    ):
        keys = {name: deployment.submit(name, CAT) for name in TIERS}
        for name, key in keys.items():
            reason = told(deployment, name, key, "tierserve-worker:none-such")
            assert any(f"{word}: " in reason for word in ("ErrImagePull", "ImagePullBackOff")), reason
            reason = told(deployment, name, key, THREE_OR_MORE)
            if name == "free":
                counted(reason, watch)
        tell(f"image none-such: {json.dumps(reasons(deployment, 'free', keys['free']))}")
    for key in keys.values():
        assert deployment.ended(key, MENDED_SECONDS)["status"] == "succeeded"
