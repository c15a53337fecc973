"""Trials of a model, each in a process of its own: ``python -m model try`` loads a variant as a worker does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tierserve.errors import TierserveError
from tierserve.together import together

TRIAL_SECONDS = 180.0  # the import of torch and timm alone takes ten on a busy machine
AT_ONCE = 2
NOT_INSTALLED = 4
"""The exit status of a trial whose library this installation has not."""
LAST_BYTES = 4096  # of what a trial says
# -P: no folder `model` of the caller's.
_COMMAND = (sys.executable, "-P", "-m", "model", "try")
_LIKE_A_WORKER = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # as in jobtemplates/base.yaml.j2


async def try_all(directory: Path, variants: Sequence[str]) -> tuple[str, ...]:
    """Try ``variants``, words as ``onnx/int8``, of the model in a folder; return those whose library is missing here.

    Raises ``TierserveError`` if one fails, crashes or takes longer than ``TRIAL_SECONDS``, or if none can be tried.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(variant: str) -> str | None:
        async with slots:
            return await _lacking(directory, variant)

    lacking = await together(*map(one, variants))
    missing = {variant: said for variant, said in zip(variants, lacking, strict=True) if said is not None}
    if len(missing) == len(variants):
        raise TierserveError(f"none of {', '.join(variants)} can be tried here{missing[variants[0]]}")
    return tuple(missing)


async def _lacking(directory: Path, variant: str) -> str | None:
    """Try a variant; return what is said if its library is missing here. Raises ``TierserveError`` if it failed."""
    process = await asyncio.create_subprocess_exec(
        *_COMMAND,
        str(directory),
        *variant.split("/"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | _LIKE_A_WORKER,
    )
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            said = await _said(process)
    except TimeoutError as error:
        raise TierserveError(
            f"{variant} was tried as a worker runs it, and took longer than {TRIAL_SECONDS:g} s"
        ) from error
    finally:
        if process.returncode is None:
            await _kill(process)
    if process.returncode == NOT_INSTALLED:
        return said
    if process.returncode:
        raise TierserveError(f"{variant} was tried as a worker runs it, and {_ended(process.returncode)}{said}")
    return None


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a process, and return when it has ended, also if this task is cancelled meanwhile."""
    process.kill()
    # Until its pipe is closed, too, which wait() does not wait for.
    ended = asyncio.ensure_future(process.communicate())
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(ended)


async def _said(process: asyncio.subprocess.Process) -> str:
    """The last line that a process writes, once it has ended."""
    assert process.stderr is not None
    last = b""
    while part := await process.stderr.read(LAST_BYTES):
        last = (last + part)[-LAST_BYTES:]
    await process.wait()
    lines = last.decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def _ended(status: int) -> str:
    if status == 1:
        return "failed"
    if status > 0:
        return f"ended with status {status}"
    try:
        return f"crashed ({signal.Signals(-status).name})"
    except ValueError:
        return f"crashed (signal {-status})"
