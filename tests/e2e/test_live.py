"""Changes by an operator at run time: tiers are added, changed and removed, and the server's pod stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import Kubernetes
from tests.e2e.deployment import OPEN, Deployment, deploy
from tests.e2e.pictures import CAT
from tests.service.test_classify import is_cat
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

SPREAD_SECONDS = 120.0

GOLD = {
    "namespace": {"name": "tierserve-gold"},
    "template": "gold.yaml.j2",
    "model": {"name": "tf_efficientnet_lite2", "variant": "int8"},
    "quota": {"cpu": "1", "memory": "1Gi"},
    "access": OPEN,
    "waits": {"idleSeconds": 2},
}
TEMPLATE = """{% extends "base.yaml.j2" %}
{% block annotations %}
{{ super() }}
        example.org/tier: "gold"
{% endblock %}
"""


@pytest.fixture(scope="module")
def deployment(cluster: Kubernetes) -> Iterator[Deployment]:
    found = deploy(cluster, "tiers.free.waits.idleSeconds=2", "tiers.premium.waits.idleSeconds=2")
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture
def values(tmp_path: Path) -> Path:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump({"tiers": {"gold": GOLD}, "jobTemplates": {"gold.yaml.j2": TEMPLATE}}))
    return path


@pytest.fixture
def gold(deployment: Deployment, values: Path) -> Iterator[None]:
    """A third tier, which takes pictures."""
    with deployment.changed(values=values):
        known(deployment)
        yield


def known(deployment: Deployment) -> None:
    """Return when the tier gold takes pictures."""
    eventually(
        lambda: deployment.post("gold", CAT), SPREAD_SECONDS, "gold is known", lambda answer: answer.status != 404
    )


def test_a_new_tier_by_values_alone(deployment: Deployment, values: Path) -> None:
    server = deployment.server_pod()["metadata"]["name"]
    with (
        deployment.watching("gold", "jobs") as watch,
        deployment.changed("tiers.free.limits.queue=77", values=values),
    ):
        known(deployment)
        assert is_cat(deployment.post("gold", CAT))
        assert deployment.tier("free")["limits"]["queued"] == 77
        watch.settled("a Job of gold came", lambda found: found[0])
    job = next(iter(watch.last.values()))
    assert job["spec"]["template"]["metadata"]["annotations"]["example.org/tier"] == "gold"
    assert deployment.server_pod()["metadata"]["name"] == server


@pytest.mark.usefixtures("gold")
def test_a_bad_template_and_a_bad_value_keep_the_last_good_ones_and_say_so(
    deployment: Deployment, values: Path, tmp_path: Path
) -> None:
    bad = yaml.safe_load(values.read_text())
    bad["jobTemplates"]["gold.yaml.j2"] = TEMPLATE.replace("super()", "supper()")
    broken = tmp_path / "broken.yaml"
    broken.write_text(yaml.safe_dump(bad))
    before = deployment.tier("free")["limits"]["queued"]
    deployment.upgrade("tiers.free.limits.queue=78", values=broken)
    said = settings(deployment, current=False)
    assert "gold.yaml.j2:3" in said
    assert "supper" in said
    eventually(deployment.log, 30, "the server's log has it too", lambda log: "supper" in log)
    assert deployment.tier("free")["limits"]["queued"] == before, "nothing of the change is in force"
    for tier in ("gold", "free"):
        assert is_cat(deployment.post(tier, CAT))
    deployment.upgrade(values=values)
    settings(deployment, current=True)
    assert deployment.tier("free")["limits"]["queued"] == 78


def settings(deployment: Deployment, *, current: bool) -> str:
    """Wait until ``/readyz`` says that the settings are, or are not, the current ones; returns its reason."""
    found = eventually(
        lambda: deployment.get("/readyz").json["settings"],
        SPREAD_SECONDS,
        "the change is in force" if current else "the change is refused",
        lambda said: said["current"] == current,
    )
    return str(found["reason"])


@pytest.mark.usefixtures("gold")
def test_a_removed_tier_ends_its_predictions_with_a_clear_reason(deployment: Deployment) -> None:
    deployment.idle("gold")
    deployment.kubectl(
        "patch", "resourcequota", "tierserve", "--patch", '{"spec":{"hard":{"pods":"0"}}}', namespace="tierserve-gold"
    )
    eventually(lambda: deployment.tier("gold"), 30, "gold has no room", lambda tier: tier["room"] == 0)
    key = deployment.submit("gold", CAT)
    deployment.upgrade()
    ended = deployment.ended(key, SPREAD_SECONDS)
    assert (ended["status"], ended["error"]["code"]) == ("aborted", "tier_removed")
    assert deployment.post("gold", CAT).status == 404
    assert is_cat(deployment.post("free", CAT))
    assert deployment.items("namespaces", None, fields="metadata.name=tierserve-gold"), "a tier's namespace is kept"
