"""A run whose queue is worth seeing: a flood in one tier, waves in another, and a quota that is raised meanwhile."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.picture import SOURCE
from tests.events import Stream
from tests.running import Service, service
from tests.waiting import eventually

FREE, PREMIUM = "free", "premium"
STREAM_SECONDS = 60.0
END_SECONDS = 300.0
SETTINGS = ["tiers.free.quota.cpu=8", "tiers.premium.quota.pods=1"]
ASYNC = {"Content-Type": "application/json", "Prefer": "respond-async"}


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens. ``flood`` and ``wave`` are numbers of requests; those of the flood have ``images`` pictures each.

    ``workers`` is the quota of free before it is raised and afterwards. ``pause`` are seconds between two acts, and
    ``idle`` those for which workers of free and of premium stay without work.
    """

    flood: int = 140
    wave: int = 24
    images: int = 8
    workers: tuple[int, int] = (1, 3)
    pause: float = 2.5
    idle: tuple[float, float] = (2.0, 10.0)


@dataclass(frozen=True, slots=True)
class Passage:
    """When a prediction was accepted, when a worker began it, and when it had ended: seconds since 1970."""

    tier: str
    created: float
    started: float
    completed: float


@dataclass(slots=True)
class Recording:
    """What was seen in a run. The first part of ``acts`` and of ``looks`` are seconds since 1970."""

    began: float
    acts: list[tuple[float, str]] = field(default_factory=list)
    looks: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    ended: float = 0.0

    @property
    def latest(self) -> dict[str, Any]:
        """The tiers by name, as they were told last."""
        return self.looks[-1][1]


def record(scene: Scene, models: Path, folder: Path) -> Recording:
    """Run the scene on a server of its own. Raises ``RuntimeError`` if a prediction is refused or fails."""
    values = folder / "values.yaml"
    _set_quota(values, scene.workers[0])
    stay = dict(zip((FREE, PREMIUM), scene.idle, strict=True))
    settings = [*SETTINGS, *(f"tiers.{tier}.waits.idleSeconds={seconds:g}" for tier, seconds in stay.items())]
    with service(models, folder / "state", settings, values) as server:
        recording = Recording(time.time())
        # A daemon, so that a failed run does not wait for the stream; it ends when the server stops.
        watcher = threading.Thread(target=_watch, args=(server.port, recording.looks), daemon=True)
        watcher.start()
        eventually(lambda: len(recording.looks), STREAM_SECONDS, "the tiers are told")
        _play(scene, server, values, recording)
        recording.ended = time.time()
    watcher.join(STREAM_SECONDS)
    return recording


def _play(scene: Scene, server: Service, values: Path, recording: Recording) -> None:
    def act(text: str) -> None:
        recording.acts.append((time.time(), text))

    few, many = scene.workers
    time.sleep(scene.pause / 2)
    act(f"{scene.flood} requests of {scene.images} pictures come to free, whose quota has room for {_workers(few)}")
    ids = _send(server, FREE, scene.flood, scene.images)
    time.sleep(scene.pause)
    act(f"{scene.wave} requests come to premium, which has a quota of its own: they pass all that wait at free")
    ids += _send(server, PREMIUM, scene.wave, 1)
    time.sleep(scene.pause)
    act(f"The quota of free is raised to {_workers(many)}: the server sees it while it runs")
    _set_quota(values, many)
    eventually(lambda: recording.latest[FREE]["quota"]["pods"]["hard"] == many, END_SECONDS, "the quota is raised")
    time.sleep(scene.pause)
    act(f"{scene.wave} more requests come to premium, and find its worker there")
    ids += _send(server, PREMIUM, scene.wave, 1)
    recording.passages = [_passage(server, one) for one in ids]
    act("All have their labels. The workers find no more work, and leave")
    eventually(lambda: not any(tier["workers"] for tier in recording.latest.values()), END_SECONDS, "all workers left")
    time.sleep(scene.pause / 2)


def _workers(number: int) -> str:
    return f"{number} worker{'' if number == 1 else 's'}"


def _set_quota(values: Path, workers: int) -> None:
    fresh = values.with_suffix(".new")
    fresh.write_text(json.dumps({"tiers": {FREE: {"quota": {"pods": str(workers)}}}}))  # JSON is YAML
    fresh.rename(values)


def _watch(port: int, looks: list[tuple[float, dict[str, Any]]]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STREAM_SECONDS)
    try:
        connection.request("GET", "/v1/tiers/events")
        events = Stream(connection.getresponse()).rest()
        looks.extend((time.time(), _by_name(event.data["tiers"])) for event in events if event.name == "tiers")
    finally:
        connection.close()


def _by_name(tiers: list[dict[str, Any]]) -> dict[str, Any]:
    return {tier["name"]: tier for tier in tiers}


def _send(server: Service, tier: str, requests: int, images: int) -> list[str]:
    body = json.dumps({"inputs": [base64.b64encode(SOURCE.read_bytes()).decode()] * images}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=STREAM_SECONDS)
    ids = []
    try:
        for _ in range(requests):
            connection.request("POST", f"/img-classification/{tier}", body, ASYNC)
            response = connection.getresponse()
            answer = response.read()
            if response.status != http.HTTPStatus.ACCEPTED:
                raise RuntimeError(f"{tier} answered {response.status}: {answer.decode()}")
            ids.append(json.loads(answer)["id"])
    finally:
        connection.close()
    return ids


def _passage(server: Service, prediction: str) -> Passage:
    def look() -> dict[str, Any]:
        found: dict[str, Any] = server.get(f"/v1/predictions/{prediction}").json
        return found

    found = eventually(look, END_SECONDS, f"{prediction} has ended", lambda one: one["completed_at"])
    if found["status"] != "succeeded":
        raise RuntimeError(f"prediction {prediction} is {found['status']}: {found['error']}")
    times = [datetime.fromisoformat(found[name]).timestamp() for name in ("created_at", "started_at", "completed_at")]
    return Passage(found["tier"], *times)
