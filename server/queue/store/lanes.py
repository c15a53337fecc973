"""Threads that serve a bounded inbox of operations."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from server.queue.facts.errors import DatabaseBusy, DatabaseClosed

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Task(Generic[A]):
    """One operation and the future of its result."""

    operation: Callable[[A], Any]
    future: Future[Any]


class Lane(Generic[A]):
    """An inbox for at most ``limit`` operations, and one thread for each of ``servers``.

    A server is called with groups of up to ``group`` tasks; it must resolve every future and raise nothing.
    """

    def __init__(
        self, name: str, servers: Sequence[Callable[[list[Task[A]]], None]], limit: int, group: int = 1
    ) -> None:
        self._name, self._limit, self._group = name, limit, group
        self._inbox: queue.SimpleQueue[Task[A] | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(server,), name=f"{name}-{index}", daemon=True)
            for index, server in enumerate(servers)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, operation: Callable[[A], R]) -> Future[R]:
        """Queue an operation. Raises ``DatabaseBusy`` when the inbox is full, ``DatabaseClosed`` after ``close``."""
        future: Future[R] = Future()
        # Without the lock, an operation could be put behind the None of ``close`` and never be served.
        with self._gate:
            if self._closed:
                raise DatabaseClosed("the database is closed")
            if self._inbox.qsize() >= self._limit:
                raise DatabaseBusy(f"{self._limit} operations already wait for the {self._name}")
            self._inbox.put(Task(operation, future))
        return future

    def close(self) -> None:
        """Serve what waits, then end the threads."""
        with self._gate:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._inbox.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, server: Callable[[list[Task[A]]], None]) -> None:
        while (task := self._inbox.get()) is not None:
            group: list[Task[A]] = []
            while task is not None:
                if task.future.set_running_or_notify_cancel():  # False: its caller gave up
                    group.append(task)
                # A group is what already waits: the first operation never waits for a second one.
                if len(group) >= self._group or self._inbox.empty():
                    break
                task = self._inbox.get()
            if group:
                server(group)
            if task is None:
                return
