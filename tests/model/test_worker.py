"""What the worker makes of a prediction."""

from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.decoder import Decoder
from model.messages import Lease
from model.runtimes.base import Model, Runtime, read_model
from model.worker import predict

LEASE = Lease(id="p1", token="t1", top_k=5, pictures=())


class Failing(Runtime):
    """A runtime whose model gives the last class this logit."""

    def __init__(self, score: float, classes: int) -> None:
        self.scores = np.full(classes, 0.1, np.float32)
        self.scores[-1] = score

    def setup(self, model: Model, variant: str, device: str = "cpu") -> None:
        pass

    def predict(self, batch: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [self.scores for _ in batch]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_numbers_are_an_error_of_this_picture(models: Path, cat_bytes: bytes, score: float) -> None:
    model = read_model(models / "tf_efficientnet_lite0")
    one = replace(LEASE, pictures=(memoryview(cat_bytes),))
    with closing(Decoder(model.preprocessing, 1_000_000, 20)) as decoder:
        completion = predict(one, model, Failing(score, len(model.labels)), decoder)
    (found,) = completion["results"]
    assert found["error"]["code"] == "model_failed"
    json.dumps(completion, allow_nan=False)


def test_a_result_says_which_model_was_loaded(models: Path, cat_bytes: bytes) -> None:
    model = replace(read_model(models / "tf_efficientnet_lite0"), name="flowers", version="3f9a2c81")
    one = replace(LEASE, pictures=(memoryview(cat_bytes),))
    with closing(Decoder(model.preprocessing, 1_000_000, 20)) as decoder:
        completion = predict(one, model, Failing(0.5, len(model.labels)), decoder)
    assert completion["model"] == "flowers@3f9a2c81"
