"""Figures that others know at a scrape, of tiers and of models, as metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric


@dataclass(frozen=True, slots=True)
class TierFigures:
    """The figures of one tier at one moment. ``oldest_wait`` and ``report_age`` are in seconds.

    ``quota`` is (hard, used) by resource; ``report_age`` is None before the first report. ``lending`` has
    ``share``, ``used``, ``borrowed`` and ``lent`` as parts of the capacity; it is empty without a capacity.
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
    lending: Mapping[str, float]


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
    ("tierserve_share", "A tier's part of the capacity, from 0 to 1.", lambda tier: tier.lending.get("share")),
    (
        "tierserve_share_used",
        "What a tier's Jobs use of the capacity, from 0 to 1.",
        lambda tier: tier.lending.get("used"),
    ),
    ("tierserve_share_borrowed", "What they use beyond the tier's part.", lambda tier: tier.lending.get("borrowed")),
    ("tierserve_share_lent", "What other tiers use of the tier's part.", lambda tier: tier.lending.get("lent")),
)


def of_tiers(tiers: Mapping[str, TierFigures]) -> Iterator[Metric]:
    """The gauges of tiers, by their names."""
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


def of_capacity(capacity: Mapping[str, tuple[float, float]]) -> Iterator[Metric]:
    """The gauges of the capacity, which is (hard, used) by resource."""
    hard = GaugeMetricFamily("tierserve_capacity_hard", "What all tiers' Jobs may use together.", labels=["resource"])
    used = GaugeMetricFamily("tierserve_capacity_used", "What they use of it now.", labels=["resource"])
    for resource, (most, now) in capacity.items():
        hard.add_metric([resource], most)
        used.add_metric([resource], now)
    yield hard
    yield used


def of_models(models: Sequence[ModelFigures]) -> Iterator[Metric]:
    """The counters and the times of models."""
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
