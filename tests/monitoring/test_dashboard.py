"""The dashboard and the alerts, in a real Prometheus that scrapes a real run."""

from __future__ import annotations

import http.client
import math
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.cluster import binaries
from tests.monitoring import dashboard
from tests.monitoring.dashboard import LABEL_VALUES, Query
from tests.monitoring.prometheus import Prometheus, Series, prometheus
from tests.running import Client, Service, lacking, service
from tests.service.pictures import CAT, encode
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

TOOLS = ["prometheus", "promtool"]
NAMESPACE, RELEASE, NATIVE = "serving", "tierserve-internal", "native"
# Grafana takes four scrapes, of which there is one a second here.
ALL = {"__rate_interval": "4s", "namespace": ".*", "release": RELEASE, "tier": ".*"}
# What a run without a broken model, a broken worker, a failed start or a recall leaves at 0.
WELL = {"Pictures that a model failed on", "Results that cannot be", "Failed starts in a row", "Recalled workers"}
# The tier premium is paused, so that its predictions wait, and each address may send it one request a second.
# Without required keys no limit would hold for callers of this machine.
PREMIUM = ["quota.pods=0", "access.anonymous=true", "access.perSecond=1", "access.burst=1"]
# Nearly all of the capacity is premium's, so that free borrows with its first worker.
LENDING = ["capacity.cpu=4", "tiers.premium.share=9"]
# Workers of free start again and again, so that a scrape sees one that has not asked for work yet.
SHORT = "tiers.free.job.maxPredictions=100"
SETTINGS = ["server.requireKeys=true", SHORT, *LENDING, *(f"tiers.premium.{setting}" for setting in PREMIUM)]
SEEN_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Run:
    """A server under load, and a Prometheus that has scraped it since before its first picture came."""

    server: Service
    prometheus: Prometheus
    began: float

    def series(self, query: Query, variables: Mapping[str, str]) -> Sequence[Series]:
        """What a panel draws of the whole run."""
        return self.prometheus.range(query.filled(variables), self.began, time.time())

    def lacks(self, query: Query) -> bool:
        """Whether the panel of a query is empty, or draws nothing but 0."""
        found = [value for series in self.series(query, ALL) for value in numbers(series)]
        return not found or (query.panel not in WELL and not any(found))


def numbers(series: Series) -> list[float]:
    """The values of a series that can be drawn."""
    return [number for _, text in series["values"] if math.isfinite(number := float(text))]


@pytest.fixture(scope="module")
def folder() -> Path:
    if missing := binaries.absent(TOOLS):
        lacking(f"{', '.join(missing)}: build with python -m tests.cluster binaries {' '.join(TOOLS)}")
    return binaries.folder()


@pytest.fixture(scope="module")
def run(models: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("monitored")
    with service(models, directory / "state", SETTINGS) as server:
        target = f"127.0.0.1:{server.internal_port}"
        scrapes = [
            scrape(RELEASE, target, {"namespace": NAMESPACE, "pod": "server-0"}),
            {**scrape(NATIVE, target, {"namespace": NATIVE}), "convert_classic_histograms_to_nhcb": True},
        ]
        began = time.time()
        with (
            prometheus(folder / "prometheus", directory / "prometheus", scrapes, [dashboard.ALERTS]) as found,
            Load(server),
        ):
            yield Run(server, found, began)


def scrape(job: str, target: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """A scrape configuration with the labels that a Prometheus operator gives."""
    return {"job_name": job, "static_configs": [{"targets": [target], "labels": dict(labels)}]}


class Load:
    """Clients who send pictures, broken pictures and requests that are refused, while the block lasts."""

    def __init__(self, server: Service) -> None:
        self._server, self._over = server, threading.Event()
        self._unsure = encode(Image.new("RGB", (64, 64), (200, 30, 30)), "PNG")
        self._follower = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._senders = [threading.Thread(target=self._send) for _ in range(2)]

    def __enter__(self) -> None:
        self._follower.request("GET", "/v1/tiers/events")
        for sender in self._senders:
            sender.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for sender in self._senders:
            sender.join(60)
        self._follower.close()

    def _send(self) -> None:
        later = {"Prefer": "respond-async"}
        while not self._over.is_set():
            for picture in (CAT, self._unsure, CAT[:2000]):
                self._server.post("free", picture)
            self._server.post("free", CAT, later)
            self._server.post("premium", CAT, later)
            self._server.post("gold", CAT)
            self._over.wait(0.05)


def test_every_query_of_every_panel_gives_data(run: Run) -> None:
    lacking = list(dashboard.queries())
    assert len(lacking) > 50

    def look() -> list[Query]:
        lacking[:] = [query for query in lacking if run.lacks(query)]
        return lacking

    eventually(look, SEEN_SECONDS, "every query gives data, and not only 0", lambda found: not found)


def test_the_variables_offer_what_is_scraped(run: Run) -> None:
    offered = {}
    for variable in dashboard.read()["templating"]["list"][1:]:
        chosen = dashboard.filled(variable["definition"], {**ALL, "namespace": NAMESPACE})
        match = LABEL_VALUES.fullmatch(chosen)
        assert match is not None, chosen
        offered[variable["name"]] = run.prometheus.label_values(match["selector"], match["label"])
    assert offered == {"namespace": [NATIVE, NAMESPACE], "release": [RELEASE], "tier": ["free", "premium"]}


@pytest.mark.parametrize("other", [{"namespace": "other"}, {"release": "other"}])
def test_a_panel_shows_nothing_of_another_release(run: Run, other: Mapping[str, str]) -> None:
    assert [query for query in dashboard.queries() if run.series(query, {**ALL, **other})] == []


def test_a_panel_shows_only_the_tiers_that_were_chosen(run: Run) -> None:
    for query in dashboard.queries():
        tiers = {series["metric"].get("tier", "free") for series in run.series(query, ALL | {"tier": "free"})}
        assert tiers <= {"free", ""}, query  # "": of requests for tiers that there are not


def test_prometheus_makes_native_histograms_of_the_classic_ones(run: Run) -> None:
    native = f'histogram_quantile(0.5, sum(rate(tierserve_prediction_seconds{{namespace="{NATIVE}"}}[4s])))'
    eventually(
        lambda: [float(series["value"][1]) for series in run.prometheus.now(native)],
        30,
        "the median of a native histogram",
        lambda found: found and 0 < found[0] < 60,
    )


def test_promtool_finds_nothing_wrong_with_the_metrics(run: Run, folder: Path) -> None:
    def checked(metrics: bytes) -> tuple[int, str]:
        argv = [str(folder / "promtool"), "check", "metrics"]
        done = subprocess.run(argv, input=metrics, capture_output=True, timeout=30, check=False)
        return done.returncode, (done.stdout + done.stderr).decode()

    metrics = Client(run.server.internal_port).get("/metrics").body
    assert checked(metrics) == (0, "")
    wrong = metrics.replace(b"tierserve_limits_hit_total", b"tierserve_limits_hit")
    assert "counter metrics should have" in checked(wrong)[1]


def test_every_alert_is_evaluated_and_what_is_well_fires_none(run: Run) -> None:
    names = {
        rule["alert"] for group in yaml.safe_load(dashboard.ALERTS.read_text())["groups"] for rule in group["rules"]
    }

    def unwell() -> list[str]:
        found = run.prometheus.rules()
        assert {rule["name"] for rule in found} == names
        return [f"{rule['name']}: {rule['health']} {rule.get('lastError')}" for rule in found if rule["health"] != "ok"]

    eventually(unwell, 30, "every rule could be evaluated", lambda found: not found)
    assert [rule["name"] for rule in run.prometheus.rules() if rule["state"] == "firing"] == []
