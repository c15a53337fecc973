"""Push a model into a server's store, whole or not at all, and pull one out of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import quote

from tierserve.directory import RECORD, Described, ModelFile, described, read
from tierserve.errors import TierserveError
from tierserve.operators import Operator, Refused, insist
from tierserve.together import together
from tierserve.trials import try_all

MODELS, FILES = "/v1/models", "/v1/model-files"


class Shown(Protocol):
    """Shows how much of the bytes has gone or come."""

    def begin(self, total: int) -> None:
        """So many bytes are to be moved."""

    def at(self, moved: int) -> None:
        """So many have been moved."""


class _Counted:
    """Counts the bytes of one attempt, after ``moved`` bytes of other files."""

    def __init__(self, shown: Shown, moved: int) -> None:
        self._shown, self._moved = shown, moved

    def advance(self, count: int) -> None:
        self._moved += count
        self._shown.at(self._moved)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did: whether the model was there ``before``, the bytes that were sent, and what was not tried."""

    model: Described
    before: bool
    sent: int
    untried: tuple[str, ...]


async def push(operator: Operator, directory: Path, tags: Sequence[str], only: Sequence[str], shown: Shown) -> Pushed:
    """Check a model's folder, try its variants (or ``only`` some), upload what the server has not, and announce it.

    Only the last step makes it a model of the store. Raises ``TierserveError``.
    """
    model = await asyncio.to_thread(read, directory)
    variants = _chosen(model, only)
    if before := await _is_there(operator, model):
        await _announce(operator, model, directory, tags, shown)
        return Pushed(model, before, 0, ())
    sent = 0

    async def upload() -> tuple[str, ...]:
        nonlocal sent
        sent = await _upload(operator, model.distinct, directory, shown)
        return ()

    missing, _ = await together(try_all(directory, variants), upload())
    await _announce(operator, model, directory, tags, shown)
    untried = tuple(name for name in model.variants if name not in variants or name in missing)
    return Pushed(model, before, sent, untried)


async def pull(operator: Operator, reference: str, folder: Path, shown: Shown) -> tuple[Path, bool]:
    """Download a model into ``folder/NAME@VERSION``, whole or not at all; return it, and whether it was not there yet.

    The link ``folder/NAME`` is made where there is none. Raises ``TierserveError``.
    """
    answer = await operator.look(path_of(reference), "record")
    try:
        model = described(answer["record"])
    except (ValueError, TypeError, LookupError) as error:
        raise TierserveError(f"the server's record of {reference} cannot be used: {error}") from error
    target = folder / model.reference
    try:
        new = not target.exists()
        if new:
            await _download(operator, model, target, shown)
        elif (await asyncio.to_thread(read, target)).digest != model.digest:
            raise TierserveError(f"{target} is another model; move it away")
        link = folder / model.name
        if not link.is_symlink() and not link.exists():
            link.symlink_to(target.name)
    except OSError as error:
        raise TierserveError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return target, new


def path_of(reference: str) -> str:
    """The path of the model that NAME, NAME@VERSION or NAME@TAG names."""
    return f"{MODELS}/{quote(reference, safe='@')}"


def _chosen(model: Described, only: Sequence[str]) -> tuple[str, ...]:
    if unknown := [name for name in only if name not in model.variants]:
        raise TierserveError(f"{model.reference} has no variant {unknown[0]}; it has {', '.join(model.variants)}")
    return tuple(name for name in model.variants if not only or name in only)


async def _is_there(operator: Operator, model: Described) -> bool:
    known = (await operator.look(MODELS, "limit_bytes"))["models"]
    return any((one["reference"], one["digest"]) == (model.reference, model.digest) for one in known)


async def _announce(
    operator: Operator, model: Described, directory: Path, tags: Sequence[str], shown: Shown
) -> dict[str, Any]:
    body = {"record": model.record, "tags": list(tags)}

    async def post() -> dict[str, Any]:
        return await operator.answer("POST", MODELS, body)

    try:
        return await insist(post)
    except Refused as refused:
        if refused.code != "missing_file":
            raise
    # The server sweeps files that no model has, if a push takes very long.
    await _upload(operator, model.distinct, directory, shown)
    return await insist(post)


async def _upload(operator: Operator, files: Sequence[ModelFile], directory: Path, shown: Shown) -> int:
    """Upload the files that the server has not; return how many bytes these have."""
    missing = [file for file in files if not await insist(partial(operator.has, f"{FILES}/{file.sha256}"))]
    total = sum(file.size for file in missing)
    shown.begin(total)
    moved = 0
    for file in missing:
        counted = partial(_Counted, shown, moved)
        await insist(partial(_send, operator, directory, file, counted))
        moved += file.size
        shown.at(moved)
    return total


async def _send(operator: Operator, directory: Path, file: ModelFile, counted: Callable[[], _Counted]) -> None:
    # Counted anew by each attempt.
    await operator.send(f"{FILES}/{file.sha256}", directory / file.name, file.size, counted().advance)


async def _download(operator: Operator, model: Described, target: Path, shown: Shown) -> None:
    with TemporaryDirectory(prefix=".pull-", dir=_folder(target)) as name:
        made = Path(name)
        shown.begin(sum(file.size for file in model.files))
        moved = 0
        for file in model.files:
            counted = partial(_Counted, shown, moved)
            await insist(partial(_fetch, operator, file, made / file.name, counted))
            moved += file.size
        (made / RECORD).write_text(json.dumps(model.record, indent=1, ensure_ascii=False) + "\n", "utf-8")
        _publish(made, target)


async def _fetch(operator: Operator, file: ModelFile, path: Path, counted: Callable[[], _Counted]) -> None:
    digest, moved = hashlib.sha256(), counted()
    with path.open("wb") as stream:

        def take(part: bytes) -> None:
            stream.write(part)
            digest.update(part)
            moved.advance(len(part))

        await operator.receive(f"{FILES}/{file.sha256}", file.size, take)
    if digest.hexdigest() != file.sha256:
        raise TierserveError(f"what came for {file.name} does not match its checksum")


def _folder(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent


def _publish(made: Path, target: Path) -> None:
    target.mkdir()
    try:
        made.chmod(target.stat().st_mode)  # a temporary folder is its maker's only
        made.rename(target)  # onto an empty folder
    except OSError:
        target.rmdir()
        raise
