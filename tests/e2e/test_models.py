"""Models in a cluster: pushed, served, changed under load, beside a canary and rolled back, with no image built."""

from __future__ import annotations

import base64
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model.description import Model
from tests.cluster.cluster import Cluster
from tests.e2e.deployment import RELEASE, Deployment, deploy
from tests.e2e.figures import tell
from tests.e2e.internal import Internal
from tests.e2e.pictures import CAT
from tests.e2e.stores import stores
from tests.modelling import Models, answered_by, asking, push_untried
from tests.relabelled import broken, relabelled, unlike
from tests.running import models_directory
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

DEFAULT = "tf_efficientnet_lite0"
SPREAD_SECONDS = 120.0
LATE_SECONDS = 15.0
BEFORE = 20  # answers before each change under load
ROUNDS = 5
SETS = ("tiers.free.waits.idleSeconds=5", "tiers.free.quota.pods=2", "tiers.free.job.ttlSeconds=5")


@dataclass(frozen=True, slots=True)
class Site:
    """Servers, an operator of their models, and two models that differ in their labels."""

    deployment: Deployment
    models: Models
    address: tuple[str, int]
    token: str
    source: Path
    first: Model
    second: Model
    broken: Model

    def model(self) -> dict[str, Any]:
        """What ``/v1/tiers`` says of the model of free."""
        found: dict[str, Any] = self.deployment.tier("free")["model"]
        return found

    def serves(self, reference: str) -> None:
        """Wait until free serves a model."""
        eventually(
            self.model, SPREAD_SECONDS, f"free serves {reference}", lambda found: found["reference"] == reference
        )

    def ask(self) -> tuple[str, str]:
        """The model that answers now, and the word before its best label."""
        return answered_by(self.deployment.post("free", CAT))

    def answered_by(self, model: Model, word: str) -> None:
        """Wait until a model answers: a server may learn of a change a moment after the one that tells of it."""
        wanted = (model.reference, word)
        eventually(self.ask, LATE_SECONDS, f"{wanted} answers", lambda found: found == wanted)

    def pushed(self) -> None:
        """Have both models in the store."""
        self.models.run("push", str(self.first.path), "--tag", "live")
        self.models.run("push", str(self.second.path))
        self.models.run("tag", self.first.reference, "live")


@contextmanager
def site(cluster: Cluster, folder: Path, *sets: str) -> Iterator[Site]:
    found = deploy(cluster, *SETS, *sets)
    try:
        secret = json.loads(found.kubectl("get", "secret", f"{RELEASE}-access", "-o", "json"))["data"]["admin-token"]
        token = folder / "admin-token"
        token.write_bytes(base64.b64decode(secret))
        token.chmod(0o600)
        address = Internal(found).address
        models = Models("--url", "http://{}:{}".format(*address), "--admin-token-file", str(token))
        source = (models_directory() / DEFAULT).resolve()
        first, second = (relabelled(source, folder / "built", "flowers", word) for word in ("first", "second"))
        bad = relabelled(source, folder / "built", "flowers", "bad", broken)
        yield Site(found, models, address, token.read_text().strip(), source, first, second, bad)
    finally:
        found.remove()


ONE, TWO = "one server on a volume", "two servers on PostgreSQL and S3"


@pytest.fixture(scope="module", params=[ONE, TWO])
def there(
    request: pytest.FixtureRequest, own_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("models")
    if request.param == ONE:
        with site(own_cluster, folder) as found:
            yield found
    else:
        with stores(own_cluster) as shared, site(own_cluster, folder, *shared.sets, "replicas=2") as found:
            yield found


def test_a_push_and_new_values_change_what_a_tier_serves(there: Site) -> None:
    assert there.ask()[0].startswith(f"{DEFAULT}@")
    servers = {pod["metadata"]["name"] for pod in there.deployment.server_pods()}
    there.pushed()
    there.deployment.upgrade("tiers.free.model.name=flowers@live")
    there.serves(there.first.reference)
    there.answered_by(there.first, "first")
    assert {pod["metadata"]["name"] for pod in there.deployment.server_pods()} == servers


def test_no_prediction_is_lost_while_a_tag_moves_under_load(there: Site) -> None:
    there.pushed()
    there.deployment.upgrade("tiers.free.model.name=flowers@live")
    there.serves(there.first.reference)
    words = {there.first.reference: "first", there.second.reference: "second"}
    with asking(lambda: there.deployment.post("free", CAT), clients=4) as askers:
        for model in (there.second, there.first, there.second):
            wanted = askers.answers.total() + BEFORE
            eventually(askers.answers.total, 90, "clients are served", lambda n: n >= wanted)  # noqa: B023
            there.models.run("tag", model.reference, "live")
            there.serves(model.reference)
            answer = (model.reference, words[model.reference])
            known = askers.answers[answer]
            eventually(lambda: askers.answers[answer], 90, f"{answer} answers", lambda n: n > known)  # noqa: B023
    assert askers.failures == []
    assert set(askers.answers) == set(words.items())
    tell(f"a tag moved three times under load: {askers.answers.total()} pictures, none lost or failed")


def _has_canary(model: dict[str, Any]) -> bool:
    return bool(model["canary"] and model["canary"]["live"])


def test_a_canary_and_a_rollback_need_no_restart(there: Site) -> None:
    there.pushed()
    name = f"tiers.free.model.name={there.first.reference}"
    canary = f"tiers.free.model.canary.name={there.second.reference}"
    there.deployment.upgrade(name, canary, "tiers.free.model.canary.percent=50")
    eventually(there.model, SPREAD_SECONDS, "there is a canary", _has_canary)
    with asking(lambda: there.deployment.post("free", CAT)) as askers:
        eventually(askers.answers.total, 120, "they are answered", lambda n: n >= 60)
    assert askers.failures == []
    assert set(askers.answers) == {(there.first.reference, "first"), (there.second.reference, "second")}
    measured = eventually(there.model, 30, "both are measured", lambda one: one["canary"]["measured"]["predictions"])
    tell(f"measured apart: {measured['measured']} and {measured['canary']['measured']}")
    there.deployment.upgrade(f"tiers.free.model.name={there.second.reference}", "tiers.free.model.canary.percent=0")
    there.serves(there.second.reference)
    there.answered_by(there.second, "second")
    there.models.run("rollback", "free")
    there.serves(there.first.reference)
    there.answered_by(there.first, "first")


def test_a_model_that_no_worker_can_load_opens_the_breaker_and_rollback_brings_the_old_one_back(there: Site) -> None:
    there.pushed()
    there.deployment.upgrade("tiers.free.model.name=flowers@live")
    there.serves(there.first.reference)
    push_untried(there.address, there.token, there.broken)
    there.models.run("tag", there.broken.reference, "live")
    there.serves(there.broken.reference)
    key = there.deployment.submit("free", CAT)
    said = eventually(
        lambda: there.deployment.tier("free")["reason"],
        SPREAD_SECONDS,
        "the breaker is open",
        lambda reason: "ended without taking work" in reason,
    )
    assert there.broken.reference in said
    assert "tierserve model rollback free" in said
    there.models.run("rollback", "free")
    ended = there.deployment.ended(key)
    assert (ended["status"], ended["model"]) == ("succeeded", there.first.reference)
    there.models.run("tag", there.first.reference, "live")


@pytest.mark.parametrize("there", [ONE], indirect=True)
def test_from_a_push_to_the_first_label(there: Site, tmp_path: Path) -> None:
    there.models.run("push", str(relabelled(there.source, tmp_path, "fresh", "before", unlike).path))
    there.deployment.upgrade("tiers.free.model.variant=fp32", "tiers.free.model.name=fresh")
    eventually(there.model, SPREAD_SECONDS, "free serves what is fresh", lambda one: one["name"] == "fresh")
    seconds, fetched = [], []
    for turn in range(ROUNDS):
        fresh = relabelled(there.source, tmp_path, "fresh", f"turn{turn}", unlike)
        there.deployment.idle("free")
        began = time.monotonic()
        there.models.run("push", str(fresh.path))
        there.serves(fresh.reference)
        answer = there.deployment.post("free", CAT)
        seconds.append(time.monotonic() - began)
        assert answered_by(answer) == (fresh.reference, f"turn{turn}")
        there.deployment.idle("free")
        fetched.append(_cold(there))
    there.deployment.upgrade(f"tiers.free.model.name={DEFAULT}")
    eventually(there.model, SPREAD_SECONDS, "free serves the image's model", lambda one: one["name"] == DEFAULT)
    inside = []
    for _ in range(ROUNDS):
        there.deployment.idle("free")
        inside.append(_cold(there))
    tell(f"push of 23.6 MB to the first label: median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s")
    told = [f"{statistics.median(each):.2f} s" for each in (fetched, inside)]
    tell(f"without a worker to a label: the model fetched {told[0]}, in its image {told[1]}")


def _cold(there: Site) -> float:
    """Seconds from an acceptance to the label, through a new Job."""
    answer = there.deployment.post("free", CAT)
    assert answer.status == 200, answer
    return float(answer.json["metrics"]["total_ms"]) / 1000
