"""All metrics: the counters of this process, and gauges of figures that the caller gives at each scrape.

The values of labels are routes, methods, statuses, problem codes, tiers, resources and models that the server knows,
and the names of the ten busiest owners. What a client sends never becomes one, as it could make any number of time
series.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from server.metrics.busiest import SHOWN_OWNERS, Busiest
from server.metrics.figures import ModelFigures, TierFigures, of_capacity, of_models, of_tiers

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
LIMITS = ("perSecond", "perDay", "queued", "bytesQueued")  # of callers, as the settings name them
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# From a free worker to a deadline: a prediction may wait for hours.
WAIT_BUCKETS = (*BUCKETS, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
START_BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one server; safe from any thread. ``statuses`` are those that a prediction can end with.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, version: str, statuses: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._version, self._statuses = version, statuses
        self._registry = CollectorRegistry()
        self._requests = self._counter("http_requests", "Requests answered.", "route", "method", "status")
        text = "From a request's head to its answer, its waiting included."
        self._seconds = self._histogram("http_request_duration", text, BUCKETS, "route")
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
        text = "How long predictions with a result had waited before a worker first took them."
        self._queued = self._histogram("prediction_queue", text, WAIT_BUCKETS, "tier")
        text = "From the acceptance of a prediction with a result to that."
        self._whole = self._histogram("prediction", text, WAIT_BUCKETS, "tier")
        text = "From a Job's start to the moment at which its worker first asked for work."
        self._starts = self._histogram("worker_start", text, START_BUCKETS, "tier")
        text = "Workers that were recalled, so that their tier gives back what it borrowed."
        self._recalled = self._counter("workers_recalled", text, "tier")
        text = "How long a transaction took that wrote into the database, until it was on disk."
        self._commits = Histogram("tierserve_commit_seconds", text, buckets=COMMIT_BUCKETS, registry=self._registry)
        ProcessCollector(registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        return cache(Counter(f"tierserve_{name}_total", text, labels, registry=self._registry).labels)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Callable[..., Histogram]:
        name = f"tierserve_{name}_seconds"
        # The library's own way from labels to their series takes longer than counting. Both keep as many series.
        return cache(Histogram(name, text, labels, buckets=buckets, registry=self._registry).labels)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered within ``seconds``; ``route`` is its pattern, not its path.

        ``method`` is one of ``METHODS``, or ``OTHER``.
        """
        self._requests(route, method, status).inc()
        self._seconds(route).observe(seconds)

    def rejected(self, tier: str, code: str) -> None:
        """Count a request that was answered with the problem ``code``."""
        self._rejected(tier, code).inc()

    def limit_hit(self, tier: str, limit: str) -> None:
        """Count a request whose caller had reached ``limit``, one of ``LIMITS``."""
        self._limits_hit(tier, limit).inc()

    def accepted(self, tier: str, owner: str) -> None:
        """Count a prediction of this owner that was accepted."""
        self._accepted(tier).inc()
        self._busiest.add(owner)

    def ended(self, tier: str, status: str) -> None:
        """Count a prediction that has reached its final status."""
        self._ended(tier, status).inc()

    def invalid(self, tier: str, count: int) -> None:
        """Count results that a worker handed in and that cannot be those of their predictions."""
        self._invalid(tier).inc(count)

    def took(self, tier: str, queued: float, whole: float) -> None:
        """Measure a prediction whose result came: it waited for ``queued`` seconds, and had ended after ``whole``."""
        self._queued(tier).observe(queued)
        self._whole(tier).observe(whole)

    def worker_began(self, tier: str, seconds: float) -> None:
        """Measure a worker that asks for work for the first time, so many ``seconds`` after its Job was started."""
        self._starts(tier).observe(seconds)

    def recalled(self, tier: str) -> None:
        """Count a worker that was recalled."""
        self._recalled(tier).inc()

    def committed(self, seconds: float) -> None:
        """Measure a transaction that has written."""
        self._commits.observe(seconds)

    def exposition(
        self,
        tiers: Mapping[str, TierFigures] | None,
        disks: Mapping[str, tuple[int, int]],
        models: Sequence[ModelFigures] = (),
        capacity: Mapping[str, tuple[float, float]] | None = None,
        *,
        in_force: bool,
        accepting: bool,
        streams: int,
    ) -> bytes:
        """Return all metrics in the format ``CONTENT_TYPE``; ``tiers`` is None when the queue could not be read.

        ``disks`` has for each disk the free bytes, and how many of them are kept free; ``capacity`` is (hard, used) by
        resource; ``accepting``: whether the storage takes new work; ``streams``: how many event streams are open.
        """
        for tier, figures in (tiers or {}).items():
            self._accepted(tier)
            self._invalid(tier)
            if figures.lending:
                self._recalled(tier)
            for times in (self._queued, self._whole, self._starts):
                times(tier)
            for limit in LIMITS:
                self._limits_hit(tier, limit)
            for status in self._statuses:
                # A counter that first appears with 1 hides its first event from Prometheus' rate(): begin with 0.
                self._ended(tier, status)
        gauges = [
            _gauge("tierserve_queue_readable", "1 when the queue's figures could be read.", tiers is not None),
            _gauge("tierserve_settings_in_force", "1 when the files as they are now are what counts.", in_force),
            _gauge("tierserve_storage_accepting", "1 when the storage takes new work.", accepting),
            _gauge("tierserve_event_streams_open", "Event streams that are open.", streams),
            _labelled(
                "tierserve_disk_free_bytes",
                "Bytes that a disk has left.",
                "disk",
                {name: free for name, (free, _) in disks.items()},
            ),
            _labelled(
                "tierserve_disk_reserve_bytes",
                "Of these, the bytes that no new picture takes.",
                "disk",
                {name: reserve for name, (_, reserve) in disks.items()},
            ),
            _labelled(
                "tierserve_busiest_owners_predictions",
                f"Of the {SHOWN_OWNERS} busiest owners: predictions accepted in the last 5 to 10 minutes.",
                "owner",
                self._busiest.owners(),
            ),
            _labelled("tierserve_build_info", "The server's version.", "version", {self._version: 1}),
            *of_tiers(tiers or {}),
            *of_capacity(capacity or {}),
            *of_models(models),
        ]
        return generate_latest(_Scrape(self._registry, gauges))


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
