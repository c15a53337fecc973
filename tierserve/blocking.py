"""The client for programs without an event loop."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tierserve.aio import AsyncClient
from tierserve.mapping import Counting, Outcome, Progress
from tierserve.pictures import Picture
from tierserve.predictions import Event, Prediction, Tier
from tierserve.sending import PATIENCE_SECONDS
from tierserve.wanted import Wanted

T = TypeVar("T")


class Client:
    """Asks a server as ``AsyncClient`` does, and has the same methods, which block until they are done.

    It does so in an event loop in a thread of its own, which begins with the first request. It can be used by several
    threads at once. Use it as a ``with``, or call ``close``.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, patience: float = PATIENCE_SECONDS) -> None:
        self._client = AsyncClient(url, key, patience=patience)
        self._loop = _Loop(self._client)
        # Also when nobody uses the client any more, or the program ends.
        self._finalize = weakref.finalize(self, self._loop.close)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end the thread. Nothing can be asked afterwards."""
        self._finalize()

    def classify(
        self,
        picture: Picture,
        tier: str = "free",
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        cancel_after: float | None = None,
        idempotency_key: str | None = None,
    ) -> Prediction:
        """Classify a picture, and return its prediction once that has succeeded, as ``AsyncClient.classify`` does."""
        wanted = Wanted(tier, top_k, function_to_apply, cancel_after)
        return self._do(self._client.ask, wanted, picture, idempotency_key)

    def submit(
        self,
        picture: Picture,
        tier: str = "free",
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        cancel_after: float | None = None,
        idempotency_key: str | None = None,
    ) -> Prediction:
        """Send a picture, and return its prediction at once, as ``AsyncClient.submit`` does."""
        wanted = Wanted(tier, top_k, function_to_apply, cancel_after)
        return self._do(self._client.send, wanted, picture, idempotency_key)

    def wait(self, prediction: Prediction | str, timeout: float | None = None) -> Prediction:
        """Return a prediction once it has succeeded, as ``AsyncClient.wait`` does."""
        return self._do(self._client.wait, prediction, timeout)

    def get(self, prediction: Prediction | str) -> Prediction:
        """A prediction as it is now."""
        return self._do(self._client.get, prediction)

    def cancel(self, prediction: Prediction | str) -> Prediction:
        """Cancel a prediction that has not ended; return it as it is then."""
        return self._do(self._client.cancel, prediction)

    def stream(self, prediction: Prediction | str) -> Iterator[Event]:
        """The states of a prediction as they change, until its end, which is the last event."""
        events = self._client.stream(prediction)
        try:
            while (event := self._do(anext, events, None)) is not None:
                yield event
        finally:
            self._do(events.aclose)

    def map(
        self,
        pictures: Iterable[Picture],
        tier: str = "free",
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        cancel_after: float | None = None,
        concurrency: int = 32,
        ordered: bool = False,
        progress: bool | Callable[[Progress], None] = False,
    ) -> Iterator[Outcome]:
        """Classify many pictures, ``concurrency`` at a time, as ``AsyncClient.map`` does.

        An iterator of pictures is read in another thread.
        """
        wanted = Wanted(tier, top_k, function_to_apply, cancel_after)
        begun = self._loop.running().wrap_async_context_manager(
            self._client.begun(pictures, wanted, concurrency, ordered)
        )
        with Counting(progress, pictures) as counting, begun as many:
            while batch := self._do(many.batch):
                for outcome in batch:
                    counting.count(outcome)
                    yield outcome

    def tiers(self) -> list[Tier]:
        """All tiers, as they are now."""
        return self._do(self._client.tiers)

    def predictions(
        self,
        *,
        tier: str | Sequence[str] | None = None,
        status: str | Sequence[str] | None = None,
        since: datetime | str | None = None,
        limit: int = 20,
    ) -> list[Prediction]:
        """The latest predictions of the owner of the key, the newest first, as ``AsyncClient.predictions`` does."""
        return self._do(partial(self._client.predictions, tier=tier, status=status, since=since, limit=limit))

    def _do(self, ask: Callable[..., Awaitable[T]], *given: Any) -> T:
        done = self._loop.running().start_task_soon(ask, *given)
        try:
            return done.result()
        except BaseException:
            done.cancel()  # as Ctrl-C ends the wait only
            raise


class _Loop:
    """The event loop of a client, in a thread that begins when it is needed."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._lock, self._stack = threading.Lock(), ExitStack()
        self._portal: BlockingPortal | None = None
        self._closed = False

    def running(self) -> BlockingPortal:
        with self._lock:
            if self._closed:
                raise RuntimeError("this client is closed")
            if self._portal is None:
                self._portal = self._stack.enter_context(start_blocking_portal())
                self._stack.callback(self._portal.call, self._client.aclose)
            return self._portal

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._stack.close()
