"""The client of the routes for models, and what the commands print of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tierserve.operators import Operator
from tierserve.shown import cell, plain_table, remark, say, say_json, show
from tierserve.transfer import MODELS, Pushed, path_of, pull, push


class Models(Operator):
    """Pushes, lists, tags and removes models. Every method raises ``TierserveError``."""

    def push(self, directory: Path, tags: Sequence[str], only: Sequence[str]) -> Pushed:
        """Check, try and upload the model in a folder, as ``tierserve.transfer.push`` does, with a progress bar."""
        with _Bar("pushing") as bar:
            return asyncio.run(push(self, directory, tags, only, bar))

    def pull(self, reference: str, folder: Path) -> tuple[Path, bool]:
        """Download a model into a folder, as ``tierserve.transfer.pull`` does, with a progress bar."""
        with _Bar("pulling") as bar:
            return asyncio.run(pull(self, reference, folder, bar))

    def models(self) -> list[dict[str, Any]]:
        """All models of the store."""
        found: list[dict[str, Any]] = asyncio.run(self.look(MODELS, "limit_bytes"))["models"]
        return found

    def model(self, reference: str) -> dict[str, Any]:
        """The model that NAME, NAME@VERSION or NAME@TAG names, with its record."""
        return asyncio.run(self.look(path_of(reference), "record"))

    def tag(self, reference: str, tag: str) -> dict[str, Any]:
        """Point NAME@TAG to a model."""
        return self.ask("PUT", f"{path_of(reference)}/tags/{quote(tag, safe='')}")

    def remove(self, reference: str) -> dict[str, Any]:
        """Remove a model that no tier uses."""
        return self.ask("DELETE", path_of(reference))

    def rollback(self, tier: str, undo: bool) -> dict[str, Any]:
        """Have a tier serve the model that it served before, or (``undo``) what its settings name."""
        return self.ask("POST", f"/v1/tiers/{quote(tier, safe='')}/rollback", {"undo": undo})


class _Bar:
    """A progress bar on standard error, which goes away at the end."""

    def __init__(self, word: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(word, total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, total: int) -> None:
        self._progress.update(self._task, total=total, completed=0)

    def at(self, moved: int) -> None:
        self._progress.update(self._task, completed=moved)


def show_pushed(pushed: Pushed, tags: Sequence[str], as_json: bool) -> None:
    """Print that a model is in the store, and what to do next."""
    model = pushed.model
    if as_json:
        told = {"reference": model.reference, "digest": model.digest, "new": not pushed.before}
        say_json({**told, "sent_bytes": pushed.sent, "untried": list(pushed.untried), "tags": list(tags)})
        return
    what = "was in the store already" if pushed.before else f"is in the store ({_size(pushed.sent)} were sent)"
    say(f"{model.reference} {what}")
    for tag in tags:
        say(f"{model.name}@{tag} is {model.reference}")
    if pushed.untried:
        remark(f"not tried here, but by each worker that loads it: {', '.join(pushed.untried)}")
    names = " or ".join([model.name, *(f"{model.name}@{tag}" for tag in tags)])
    remark(f"Tiers whose model.name is {names} serve it from now on; others do with:")
    remark(f"--set tiers.TIER.model.name={model.reference} (make run ARGS='...', or helm upgrade ...)")


def show_models(models: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print models as a table."""
    if as_json:
        say_json(models)
        return
    table = plain_table("model", "also called", "pushed (UTC)", "size", "classes", "variants", "used by")
    table.columns[0].no_wrap = table.columns[3].no_wrap = True
    for model in models:
        also = [*([model["name"]] if model["latest"] else []), *(f"@{tag}" for tag in model["tags"])]
        pushed = str(model["pushed_at"])[:16].replace("T", " ")
        variants = ", ".join(f"{variant['runtime']}/{variant['name']}" for variant in model["variants"])
        cells = (_size(model["bytes"]), str(model["classes"]), variants, ", ".join(model["used_by"]))
        table.add_row(*map(cell, (model["reference"], ", ".join(also), pushed, *cells)))
    show(table)


def show_model(model: Mapping[str, Any], as_json: bool) -> None:
    """Print one model as JSON, or what most people want to know of it."""
    if as_json:
        say_json(model)
        return
    show_models([model], as_json=False)
    table = plain_table("variant", "file", "size", "top-1", "agreement", "sha256")
    for variant in model["record"]["variants"]:
        measured = variant["measured"]
        top1 = "" if measured["top1"] is None else f"{measured['top1']:.1%}"
        cells = (variant["file"], _size(variant["bytes"]), top1, f"{measured['agreement']:.1%}", variant["sha256"][:12])
        table.add_row(*map(cell, (f"{variant['runtime']}/{variant['name']}", *cells)))
    show(table)
    remark(f"digest: {model['digest']}")


def show_tagged(model: Mapping[str, Any], tag: str, as_json: bool) -> None:
    """Print what a tag points to now."""
    if as_json:
        say_json(model)
    else:
        say(f"{model['reference'].partition('@')[0]}@{tag} is {model['reference']}")


def show_removed(reference: str, answer: Mapping[str, Any], as_json: bool) -> None:
    """Print that a model is gone."""
    if as_json:
        say_json(answer)
    else:
        remark(f"{reference} is removed. Its files go within two hours, unless another model has them.")


def show_pulled(folder: Path, new: bool, as_json: bool) -> None:
    """Print where a model lies now."""
    if as_json:
        say_json({"folder": str(folder), "new": new})
    else:
        say(f"{folder} {'is there now' if new else 'was there already'}")


def _size(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def show_rolled_back(tier: str, answer: Mapping[str, Any], as_json: bool) -> None:
    """Print what a tier serves after a rollback."""
    if as_json:
        say_json(answer)
        return
    say(f"{tier} serves {answer['main'] or 'no model yet'}")
    if instead_of := answer["instead_of"]:
        remark(f"It does so in place of {instead_of}, until its settings name another model.")
        remark(f"To serve {instead_of} again: tierserve model rollback {tier} --undo")
