"""All metrics: what this process counts and measures, and figures that others give at each scrape."""

from server.metrics.busiest import MOST_OWNERS, PERIOD_SECONDS, SHOWN_OWNERS, Busiest
from server.metrics.figures import ModelFigures, TierFigures
from server.metrics.metrics import CONTENT_TYPE, METHODS, OTHER, Metrics

__all__ = [
    "CONTENT_TYPE",
    "METHODS",
    "MOST_OWNERS",
    "OTHER",
    "PERIOD_SECONDS",
    "SHOWN_OWNERS",
    "Busiest",
    "Metrics",
    "ModelFigures",
    "TierFigures",
]
