"""The client of tierserve: ``Client`` and ``AsyncClient`` for programs, and what the command ``tierserve`` shows."""

from tierserve.aio import AsyncClient
from tierserve.blocking import Client
from tierserve.errors import BadPicture, Misconfigured, NotYet, Refused, TierserveError, Unreachable
from tierserve.mapping import Outcome, Progress
from tierserve.pictures import Picture
from tierserve.predictions import (
    Event,
    Fault,
    Label,
    Lending,
    Metrics,
    Place,
    Prediction,
    PredictionFailed,
    Result,
    Tier,
)

__all__ = [
    "AsyncClient",
    "BadPicture",
    "Client",
    "Event",
    "Fault",
    "Label",
    "Lending",
    "Metrics",
    "Misconfigured",
    "NotYet",
    "Outcome",
    "Picture",
    "Place",
    "Prediction",
    "PredictionFailed",
    "Progress",
    "Refused",
    "Result",
    "Tier",
    "TierserveError",
    "Unreachable",
]
