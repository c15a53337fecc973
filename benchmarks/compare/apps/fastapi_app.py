"""FastAPI under uvicorn: a lane is a thread, so that the event loop stays free; ``COMPARE_LANES`` of them a process."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request

from benchmarks.compare.engine import Engine

app = FastAPI()
lane = threading.local()


def _begin() -> None:
    lane.engine = Engine()


def _classify(data: bytes) -> list[dict[str, Any]]:
    return lane.engine(data)


lanes = ThreadPoolExecutor(int(os.environ["COMPARE_LANES"]), initializer=_begin)


@app.post("/classify")
async def classify(request: Request) -> dict[str, Any]:
    """Classify the picture that is the body."""
    return {"labels": await asyncio.get_running_loop().run_in_executor(lanes, _classify, await request.body())}
