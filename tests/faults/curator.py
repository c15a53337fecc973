"""The harness as an operator of models: it pushes versions, and changes at random which ones the tier free serves."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.description import Model, read_model
from tests.faults.actor import Actor
from tests.faults.clients import ask
from tests.faults.history import History
from tests.faults.world import World
from tests.pushable import pushable
from tests.running import Answer

NAME, TAG = "blooms", "live"
WORDS = ("red", "green", "blue")
BUILT = "tf_efficientnet_lite0"  # what the tier serves by its default settings, from the folder of models
PERCENTS = (0, 0, 10, 50, 100)
PAUSE_SECONDS, TRY_SECONDS = 0.2, 10.0
GONE = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Versions:
    """Models of one name whose labels begin with a word of their own; ``words`` has those by reference."""

    built: str
    models: Sequence[Model]
    words: Mapping[str, str]


def versions(models: Path, folder: Path) -> Versions:
    """Make them of the built model; all have its one file."""
    built = read_model(models / BUILT)
    made = [
        read_model(pushable(models / BUILT, folder / word, NAME, labels=[f"{word} {label}" for label in built.labels]))
        for word in WORDS
    ]
    words = {model.reference: word for model, word in zip(made, WORDS, strict=True)}
    return Versions(built.reference, made, words | {built.reference: ""})


class Settings:
    """What the values and the store say; ``wanted``: the models that a tier with these may serve."""

    def __init__(self, built: str) -> None:
        self._built = built
        self.name, self.canary, self.percent = BUILT, "", 0
        self.pushed: list[str] = []  # the latest push comes last
        self.tags: dict[str, str] = {}

    def resolved(self, name: str) -> str:
        """The reference that a name stands for; empty: nothing has this name."""
        if name == BUILT:
            return self._built
        if name == NAME:
            return self.pushed[-1] if self.pushed else ""
        return self.tags.get(name.partition("@")[2], name if name in self.pushed else "")

    def wanted(self) -> set[str]:
        """The references of the main model and of the canary."""
        return {self.resolved(self.name), self.resolved(self.canary) if self.percent else ""} - {""}

    def values(self) -> dict[str, Any]:
        """As a file of values."""
        model = {"name": self.name, "canary": {"name": self.canary, "percent": self.percent}}
        return {"tiers": {"free": {"model": model}}}


class Curator(Actor):
    """Looks at what is served, and changes it now and then. ``values`` is the file that the server reads.

    Of each change the history has the models that may be served from its beginning (``wanted`` of the call), and those
    that may be served once it is in force (``wanted`` of the answer), besides those that were seen to be served.
    ``canaries``: whether some of its changes begin or end a canary. ``quiet``: seconds between two changes; each
    time one of them is chosen.
    """

    def __init__(
        self,
        seed: int,
        world: World,
        history: History,
        made: Versions,
        patience: Callable[[], object],
        *,
        canaries: bool,
        quiet: Sequence[float],
    ) -> None:
        super().__init__("curator")
        self._chance = random.Random(f"{seed} {self.name}")
        self._world, self._history, self._patience = world, history, patience
        self._made, self._settings = made, Settings(made.built)
        self._quiet, self._rest, self._changes = quiet, 0.0, 0
        others = {self._tag: 4, self._canary: 3 if canaries else 0, self._push_again: 2, self._remove: 1}
        self._others = others | {self._roll_back: 2}

    def step(self) -> None:
        """Look at what is served; when it is time, change it."""
        self.look()
        self._rest -= PAUSE_SECONDS
        if self._rest <= 0:
            self._rest = self._chance.choice(self._quiet)
            self._change()
        self.over.wait(PAUSE_SECONDS)

    def look(self) -> None:
        """See what the tier serves."""
        number = self._history.call(self.name, "served")
        answer = self._ask("GET", "/v1/tiers/free")
        if answer is None or answer.status != 200:
            self._history.answer(number, status=answer.status if answer else 0)
            return
        model = answer.json["model"]
        canary = model["canary"] or {}
        shown = [model["reference"], canary.get("reference")]
        self._history.answer(number, status=200, models=[one for one in shown if one])

    def push_all(self) -> None:
        """Push every version, which changes nothing for a tier that has none of them."""
        for model in self._made.models:
            self._push(model)

    def _change(self) -> None:
        """Name another model, at the beginning and every other time; else do anything."""
        self._changes += 1
        if self._changes % 2:
            self._choose()
        else:
            self._chance.choices(list(self._others), list(self._others.values()))[0]()

    def _choose(self) -> None:
        """Name another model in the values."""
        settings = self._settings
        names = [BUILT, NAME, *settings.pushed, *(f"{NAME}@{tag}" for tag in settings.tags)]
        names = [name for name in names if settings.resolved(name) not in settings.wanted()]
        self._write(name=self._chance.choice(names))

    def _canary(self) -> None:
        """Begin, change or end a canary."""
        canary = self._chance.choice([BUILT, *self._settings.pushed])
        self._write(canary=canary, percent=self._chance.choice(PERCENTS))

    def _write(self, **changes: Any) -> None:
        settings = self._settings
        before = settings.wanted()
        for name, value in changes.items():
            setattr(settings, name, value)
        number = self._begin("values", before | settings.wanted(), **changes)
        self._save()
        self._end(number, 200)

    def _save(self) -> None:
        path = self._world.values
        assert path is not None
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self._settings.values()))
        new.replace(path)

    def _tag(self) -> None:
        """Let the tag point to another version."""
        chosen = self._chance.choice(self._settings.pushed)
        before = self._settings.wanted()
        self._settings.tags[TAG] = chosen
        number = self._begin("tag", before | self._settings.wanted(), model=chosen)
        path = f"/v1/models/{chosen}/tags/{TAG}"
        self._end(number, self._until_done("PUT", path, b""))

    def _push_again(self) -> None:
        """Push a version, which makes it the latest."""
        self._push(self._chance.choice(self._made.models))

    def _push(self, model: Model) -> None:
        settings, before = self._settings, self._settings.wanted()
        settings.pushed = [one for one in settings.pushed if one != model.reference] + [model.reference]
        number = self._begin("push", before | settings.wanted(), model=model.reference)
        status = 0
        for variant in model.variants:
            data = (model.path / variant.file).read_bytes()
            status = self._until_done("PUT", f"/v1/model-files/{variant.sha256}", data)
        if status:
            record = json.loads((model.path / "model.json").read_text())
            status = self._until_done("POST", "/v1/models", json.dumps({"record": record}).encode())
        self._end(number, status)

    def _remove(self) -> None:
        """Remove a version that the settings do not name. The server refuses it while the tier serves it."""
        settings = self._settings
        unused = [one for one in settings.pushed if one not in settings.wanted() and len(settings.pushed) > 1]
        unused = [one for one in unused if one not in settings.tags.values()]
        if not unused:
            return
        chosen = self._chance.choice(unused)
        number = self._begin("remove", settings.wanted(), model=chosen)
        answer = self._ask("DELETE", f"/v1/models/{chosen}")
        if answer is None or answer.status in (200, 404):
            settings.pushed.remove(chosen)
        self._end(number, answer.status if answer else 0)
        if answer is None:  # nobody knows whether it is there, so it is made sure that it is
            self._push(next(model for model in self._made.models if model.reference == chosen))

    def _roll_back(self) -> None:
        """Bring back what the tier served before, or end that. It may be any model."""
        number = self._begin("rollback", set(self._made.words))
        body = json.dumps({"undo": self._chance.random() < 0.3}).encode()
        answer = self._ask("POST", "/v1/tiers/free/rollback", body)
        if answer is not None and answer.status in (200, 409):
            main = {answer.json["main"]} if answer.status == 200 else set[str]()
            self._end(number, answer.status, self._settings.wanted() | main)
        else:
            self._end(number, answer.status if answer else 0, set(self._made.words))

    def _begin(self, what: str, wanted: Collection[str], **facts: Any) -> int:
        return self._history.call(self.name, "change", change=what, wanted=sorted(wanted), **facts)

    def _end(self, number: int, status: int, wanted: Collection[str] | None = None) -> None:
        chosen = self._settings.wanted() if wanted is None else wanted
        self._history.answer(number, status=status, wanted=sorted(chosen))

    def _until_done(self, method: str, path: str, body: bytes) -> int:
        """Repeat a request that may be repeated until it is done; 0 if the harness ended before."""
        while not self.over.is_set():
            answer = self._ask(method, path, body)
            if answer is not None and answer.status < 300:
                return answer.status
            assert answer is None or answer.status in (429, 500, 503, 507), f"{method} {path}: {answer}"
            self.over.wait(PAUSE_SECONDS)
        return 0

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Answer | None:
        """Ask as an operator; GET a page of the public port, as anybody."""
        service, headers = self._world.service, dict[str, str]()
        port = service.port
        if method != "GET":
            headers["Content-Type"] = "application/json"
            port = service.internal_port
            with suppress(OSError):  # the first server has not made it yet
                headers["Authorization"] = f"Bearer {(self._world.state / 'admin-token').read_text().strip()}"
        try:
            return ask(("127.0.0.1", port), method, path, body, headers, TRY_SECONDS)
        except GONE:
            self._patience()
            return None
