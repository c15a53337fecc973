"""All metrics: the counters of this process, and gauges of figures that the caller gives at each scrape.

The values of labels are routes, methods, statuses, problem codes, tiers, resources and models that the server knows,
and the names of the ten busiest owners. What a client sends never becomes one, as it could make any number of time
series.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
LIMITS = ("perSecond", "perDay", "queued", "bytesQueued")  # of callers, as the settings name them
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SHOWN_OWNERS, MOST_OWNERS = 10, 10_000
PERIOD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class TierFigures:
    """The figures of one tier at one moment. ``oldest_wait`` and ``report_age`` are in seconds.

    ``quota`` is (hard, used) by resource; ``report_age`` is None before the first report.
    """

    queued: int
    leased: int
    queue_bytes: int
    limit_bytes: int
    oldest_wait: float
    running: int
    starting: int
    room: int
    quota: Mapping[str, tuple[float, float]]
    healthy: bool
    strikes: int
    report_age: float | None


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What this server counted of a model in a tier: predictions, and their pictures.

    ``seconds`` is the sum of the times of the predictions, and ``within`` has, for some times in seconds, how many
    predictions took at most so long: ascending, the last time is infinite.
    """

    tier: str
    model: str
    variant: str
    predictions: int
    pictures: int
    failed: int
    unsure: int
    seconds: float
    within: Sequence[tuple[float, int]]


MODEL_COUNTERS: tuple[tuple[str, str, Callable[[ModelFigures], int]], ...] = (
    ("tierserve_model_predictions", "Predictions that a model has classified.", lambda one: one.predictions),
    ("tierserve_model_pictures", "Pictures of these predictions.", lambda one: one.pictures),
    ("tierserve_model_failed_pictures", "Pictures that the model could not classify.", lambda one: one.failed),
    ("tierserve_model_unsure_pictures", "Pictures whose best score is below 0.5.", lambda one: one.unsure),
)
TIER_GAUGES: tuple[tuple[str, str, Callable[[TierFigures], float | None]], ...] = (
    ("tierserve_predictions_queued", "Predictions that wait for a worker.", lambda tier: tier.queued),
    ("tierserve_predictions_leased", "Predictions that a worker holds.", lambda tier: tier.leased),
    (
        "tierserve_queue_bytes",
        "Bytes of the pictures of predictions that have not ended.",
        lambda tier: tier.queue_bytes,
    ),
    ("tierserve_queue_bytes_limit", "How many these may be.", lambda tier: tier.limit_bytes),
    (
        "tierserve_predictions_oldest_wait_seconds",
        "How long the oldest waiting prediction has waited; 0 when none waits.",
        lambda tier: tier.oldest_wait,
    ),
    ("tierserve_workers_running", "Worker Jobs that run, the starting ones included.", lambda tier: tier.running),
    ("tierserve_workers_starting", "Worker Jobs that have not asked for work yet.", lambda tier: tier.starting),
    ("tierserve_workers_room", "Further worker Jobs that the quota would take now.", lambda tier: tier.room),
    ("tierserve_tier_healthy", "1 when workers could be started when the leader last looked.", lambda t: t.healthy),
    ("tierserve_breaker_strikes", "Latest Jobs in a row that ended without work.", lambda tier: tier.strikes),
    (
        "tierserve_dispatcher_report_age_seconds",
        "Time since the leader last reported on the tier.",
        lambda tier: tier.report_age,
    ),
)


class Metrics:
    """The metrics of one server; safe from any thread. ``statuses`` are those that a prediction can end with.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, version: str, statuses: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._version, self._statuses = version, statuses
        self._registry = CollectorRegistry()
        self._requests = self._counter("http_requests", "Requests answered.", "route", "method", "status")
        self._seconds = Histogram(
            "tierserve_http_request_duration_seconds",
            "From a request's head to its answer, its waiting included.",
            ["route"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        text = "Requests answered with a problem, by its code; tier is empty where the route names none."
        self._rejected = self._counter("rejected_requests", text, "tier", "code")
        text = "Requests refused because their caller had reached a limit of its own."
        self._limits_hit = self._counter("limits_hit", text, "tier", "limit")
        text = "Predictions accepted, counted with the answer to their request."
        self._accepted = self._counter("predictions_accepted", text, "tier")
        self._busiest = Busiest(clock)
        self._ended = self._counter("predictions_ended", "Predictions that ended.", "tier", "status")
        text = "Results of workers that cannot be those of their predictions."
        self._invalid = self._counter("invalid_results", text, "tier")
        ProcessCollector(registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tierserve_{name}_total", text, labels, registry=self._registry)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered within ``seconds``; ``route`` is its pattern, not its path.

        ``method`` is one of ``METHODS``, or ``OTHER``.
        """
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)

    def rejected(self, tier: str, code: str) -> None:
        """Count a request that was answered with the problem ``code``."""
        self._rejected.labels(tier, code).inc()

    def limit_hit(self, tier: str, limit: str) -> None:
        """Count a request whose caller had reached ``limit``, one of ``LIMITS``."""
        self._limits_hit.labels(tier, limit).inc()

    def accepted(self, tier: str, owner: str) -> None:
        """Count a prediction of this owner that was accepted."""
        self._accepted.labels(tier).inc()
        self._busiest.add(owner)

    def ended(self, tier: str, status: str) -> None:
        """Count a prediction that has reached its final status."""
        self._ended.labels(tier, status).inc()

    def invalid(self, tier: str, count: int) -> None:
        """Count results that a worker handed in and that cannot be those of their predictions."""
        self._invalid.labels(tier).inc(count)

    def exposition(
        self,
        tiers: Mapping[str, TierFigures] | None,
        disks: Mapping[str, int],
        models: Sequence[ModelFigures] = (),
        *,
        in_force: bool,
        accepting: bool,
        streams: int,
    ) -> bytes:
        """Return all metrics in the format ``CONTENT_TYPE``; ``tiers`` is None when the queue could not be read.

        ``disks`` has the free bytes of each disk; ``accepting``: whether the storage takes new work;
        ``streams``: how many event streams are open.
        """
        for tier in tiers or ():
            self._accepted.labels(tier)
            self._invalid.labels(tier)
            for limit in LIMITS:
                self._limits_hit.labels(tier, limit)
            for status in self._statuses:
                # A counter that first appears with 1 hides its first event from Prometheus' rate(): begin with 0.
                self._ended.labels(tier, status)
        gauges = [
            _gauge("tierserve_queue_readable", "1 when the queue's figures could be read.", tiers is not None),
            _gauge("tierserve_settings_in_force", "1 when the files as they are now are what counts.", in_force),
            _gauge("tierserve_storage_accepting", "1 when the storage takes new work.", accepting),
            _gauge("tierserve_event_streams_open", "Event streams that are open.", streams),
            _labelled("tierserve_disk_free_bytes", "Bytes that a disk has left.", "disk", disks),
            _labelled(
                "tierserve_busiest_owners_predictions",
                f"Of the {SHOWN_OWNERS} busiest owners: predictions accepted in the last 5 to 10 minutes.",
                "owner",
                self._busiest.owners(),
            ),
            _labelled("tierserve_build_info", "The server's version.", "version", {self._version: 1}),
            *_of_tiers(tiers or {}),
            *_of_models(models),
        ]
        return generate_latest(_Scrape(self._registry, gauges))


class Busiest:
    """Which owners had most predictions accepted in the period under way and in the one before; from any thread.

    There may be any number of owners over time, so only so many of them are counted in a period.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._period, self._now, self._before = self._current(), Counts[str](), Counts[str]()

    def add(self, owner: str) -> None:
        """Count one more."""
        with self._lock:
            self._turn()
            if owner in self._now or len(self._now) < MOST_OWNERS:
                self._now[owner] += 1

    def owners(self) -> dict[str, int]:
        """The busiest owners with their counts, the busiest first."""
        with self._lock:
            self._turn()
            return dict((self._now + self._before).most_common(SHOWN_OWNERS))

    def _turn(self) -> None:
        if (passed := self._current() - self._period) > 0:
            self._before = self._now if passed == 1 else Counts[str]()
            self._now, self._period = Counts[str](), self._period + passed

    def _current(self) -> int:
        return int(self._clock() // PERIOD_SECONDS)


class _Scrape:
    """The registry's metrics and some more, without the time series ``..._created``, which nothing reads."""

    def __init__(self, registry: CollectorRegistry, more: Sequence[Metric]) -> None:
        self._registry, self._more = registry, more

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from self._more


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)


def _labelled(name: str, documentation: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _of_tiers(tiers: Mapping[str, TierFigures]) -> Iterator[Metric]:
    for name, documentation, read in TIER_GAUGES:
        family = GaugeMetricFamily(name, documentation, labels=["tier"])
        for tier, figures in tiers.items():
            if (value := read(figures)) is not None:
                family.add_metric([tier], value)
        yield family
    hard = GaugeMetricFamily(
        "tierserve_quota_hard", "What a tier's Jobs may use together.", labels=["tier", "resource"]
    )
    used = GaugeMetricFamily("tierserve_quota_used", "What a tier's Jobs use of it now.", labels=["tier", "resource"])
    for tier, figures in tiers.items():
        for resource, (most, now) in figures.quota.items():
            hard.add_metric([tier, resource], most)
            used.add_metric([tier, resource], now)
    yield hard
    yield used


def _of_models(models: Sequence[ModelFigures]) -> Iterator[Metric]:
    labels = ["tier", "model", "variant"]
    for name, documentation, read in MODEL_COUNTERS:
        counter = CounterMetricFamily(name, documentation, labels=labels)
        for one in models:
            counter.add_metric([one.tier, one.model, one.variant], read(one))
        yield counter
    times = HistogramMetricFamily(
        "tierserve_model_predict_seconds", "How long a worker took for a prediction.", labels=labels
    )
    for one in models:
        buckets = [("+Inf" if limit == math.inf else f"{limit:g}", many) for limit, many in one.within]
        times.add_metric([one.tier, one.model, one.variant], buckets, one.seconds)
    yield times
