"""A pushed model comes to the workers of a running server: served, changed under load, beside a canary, rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model.description import Model
from tests.modelling import Models, answered_by, asking, references
from tests.relabelled import relabelled
from tests.running import Service, service
from tests.waiting import eventually

DEFAULT = "tf_efficientnet_lite0"
TAKES_SECONDS = 30.0
CHANGED_BEFORE = 20  # answers of the old model before a change


@dataclass(frozen=True, slots=True)
class Site:
    """A server with one open tier, whose values can be changed while it runs, and two models to push."""

    server: Service
    values: Path
    models: Models
    first: Model
    second: Model

    def set(self, **model: Any) -> None:
        """Change which model the tier serves, as an operator does in a values file, and wait until it is in force."""
        self.write(**model)
        name = model["name"]
        eventually(self.tier, TAKES_SECONDS, f"{name} is in force", lambda tier: tier["model"]["name"] == name)

    def write(self, **model: Any) -> None:
        """Change the values file alone."""
        self.values.write_text(json.dumps({"tiers": {"free": {"model": {"name": DEFAULT, **model}}}}))

    def tier(self) -> dict[str, Any]:
        """What ``/v1/tiers/free`` says."""
        found: dict[str, Any] = self.server.get("/v1/tiers/free").json
        return found

    def serves(self, reference: str) -> None:
        """Wait until the tier serves a model."""
        eventually(lambda: self.tier()["model"], TAKES_SECONDS, f"free serves {reference}", _is(reference))


def _is(reference: str) -> Any:
    return lambda model: model["reference"] == reference


@pytest.fixture(scope="module")
def site(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("models")
    values = folder / "values.yaml"
    source = (models / DEFAULT).resolve()
    first, second = (relabelled(source, folder / "built", "flowers", word) for word in ("first", "second"))
    values.write_text("{}")
    sets = ["tiers.free.waits.idleSeconds=5", "tiers.free.quota.cpu=2"]
    with service(models, folder / "state", sets, values) as server:
        yield Site(server, values, Models.of(folder / "state"), first, second)


def ask(site: Site, cat: bytes) -> tuple[str, str]:
    return answered_by(site.server.post("free", cat))


@pytest.fixture
def pushed(site: Site) -> Site:
    site.models.run("push", str(site.first.path), "--tag", "stable")
    site.models.run("push", str(site.second.path))
    return site


def test_a_pushed_model_is_served_without_a_restart(site: Site, cat: bytes) -> None:
    assert ask(site, cat)[0].startswith(f"{DEFAULT}@")
    said = site.models.run("push", str(site.first.path))
    assert site.first.reference in said
    site.set(name="flowers")
    site.serves(site.first.reference)
    assert ask(site, cat) == (site.first.reference, "first")
    (served,) = [one for one in site.server.get("/v1/models").json["models"] if one["name"] == "flowers"]
    assert served["reference"] == site.first.reference
    assert served["classes"] == len(site.first.labels)


def test_a_push_and_a_tag_change_what_a_tier_serves(site: Site, cat: bytes) -> None:
    site.models.run("push", str(site.first.path), "--tag", "live")
    site.set(name="flowers@live")
    site.serves(site.first.reference)
    assert ask(site, cat) == (site.first.reference, "first")
    site.models.run("push", str(site.second.path))
    assert ask(site, cat) == (site.first.reference, "first")
    site.models.run("tag", "flowers", "live")
    site.serves(site.second.reference)
    assert ask(site, cat) == (site.second.reference, "second")


def test_no_prediction_is_lost_while_the_model_changes_under_load(pushed: Site, cat: bytes) -> None:
    site = pushed
    site.set(name=site.first.reference)
    site.serves(site.first.reference)
    words = {site.first.reference: "first", site.second.reference: "second"}
    with asking(lambda: site.server.post("free", cat)) as askers:
        for model in (site.second, site.first, site.second):
            before = askers.answers.total()
            eventually(lambda: askers.answers.total(), 60, "clients are served", lambda n: n > before + CHANGED_BEFORE)  # noqa: B023
            site.set(name=model.reference)
            site.serves(model.reference)
            known = askers.answers[model.reference, words[model.reference]]
            eventually(
                lambda: askers.answers[model.reference, words[model.reference]],  # noqa: B023
                60,
                f"{model.reference} answers",
                lambda n: n > known,  # noqa: B023
            )
    assert askers.failures == []
    assert set(askers.answers) <= set(words.items()), askers.answers
    assert references(askers.answers) == sorted(words)
    # Workers that held the old model have gone.
    assert ask(site, cat) == (site.second.reference, "second")


def test_a_canary_has_its_part_and_is_measured_apart(pushed: Site, cat: bytes) -> None:
    site = pushed
    site.set(name=site.first.reference, canary={"name": site.second.reference, "percent": 40})
    site.serves(site.first.reference)
    eventually(
        lambda: site.tier()["model"]["canary"], TAKES_SECONDS, "there is a canary", lambda one: one and one["live"]
    )
    with asking(lambda: site.server.post("free", cat)) as askers:
        eventually(lambda: askers.answers.total(), 120, "a hundred are answered", lambda n: n >= 100)
    assert askers.failures == []
    share = askers.answers[site.second.reference, "second"] / askers.answers.total()
    assert 0.2 < share < 0.6, askers.answers
    model = eventually(site.tier, 10, "both are measured", _measured)["model"]
    assert model["canary"]["reference"] == site.second.reference
    assert model["canary"]["percent"] == 40
    site.set(name=site.first.reference, canary={"name": site.second.reference, "percent": 0})
    eventually(lambda: site.tier()["model"]["canary"], TAKES_SECONDS, "the canary is gone", lambda found: found is None)
    # The tier's settings say so at once, and the leader decides at its next tick.
    eventually(
        lambda: {ask(site, cat) for _ in range(10)},
        TAKES_SECONDS,
        "nothing goes to the canary",
        lambda answers: answers == {(site.first.reference, "first")},
    )


def _measured(tier: dict[str, Any]) -> bool:
    model = tier["model"]
    parts = (model["measured"], model["canary"] and model["canary"]["measured"])
    return all(part and part["predictions"] > 5 and part["p50_ms"] and part["failed"] == 0 for part in parts)


def test_an_unknown_model_is_refused_and_the_old_one_goes_on_until_it_is_pushed(pushed: Site, cat: bytes) -> None:
    site = pushed
    site.set(name=site.first.reference)
    site.serves(site.first.reference)
    site.write(name="flowers@nowhere")
    reason = eventually(
        lambda: site.server.get("/readyz").json["settings"]["reason"],
        TAKES_SECONDS,
        "it is refused",
        lambda said: "flowers@nowhere" in said,
    )
    assert "tierserve model push" in reason
    assert ask(site, cat) == (site.first.reference, "first")
    site.models.run("tag", site.second.reference, "nowhere")
    site.serves(site.second.reference)
    assert ask(site, cat) == (site.second.reference, "second")


def test_what_is_in_use_cannot_be_removed_and_rollback_brings_the_old_one_back(pushed: Site, cat: bytes) -> None:
    site = pushed
    site.set(name=site.first.reference)
    site.serves(site.first.reference)
    site.set(name=site.second.reference)
    site.serves(site.second.reference)
    refused = site.models.tried("rm", site.second.reference)
    assert refused.returncode == 1
    assert "free" in refused.stdout + refused.stderr
    site.models.run("rollback", "free")
    site.serves(site.first.reference)
    assert ask(site, cat) == (site.first.reference, "first")
    assert site.tier()["model"]["instead_of"] == site.second.reference
    site.models.run("rollback", "free", "--undo")
    site.serves(site.second.reference)


def test_a_restarted_server_serves_the_pushed_model(pushed: Site, cat: bytes) -> None:
    site = pushed
    site.set(name="flowers@stable")
    site.serves(site.first.reference)
    site.server.stop()
    site.server.start()
    assert ask(site, cat) == (site.first.reference, "first")
