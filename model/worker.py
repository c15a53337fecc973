"""A worker: it takes predictions ahead, classifies them, sends the results and ends when idle.

Three threads share a ``Desk`` and a ``Line``: the receiver puts on the desk what the server sends, the main thread
classifies and sends the results, and a third renews the leases. The main thread classifies one prediction after
another, or ``Batches`` of their pictures. A prediction waits only for those before it, never for a batch to fill.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from model import prediction_log
from model.batches import Batches
from model.channel import REPLY_SECONDS, Dismissed, RequestRejected
from model.decoder import Decoder, DecoderUnavailable, DecodingStopped
from model.decoders import Decoders, processors
from model.desk import Completion, Desk
from model.images import ImageError
from model.line import GONE_SECONDS, Line, ServerGone
from model.messages import Lease
from model.results import completion, labelled, unreadable
from model.runtimes.base import Model, Runtime
from model.terms import Terms

PICTURE_SECONDS = 20.0  # the longest that decoding one picture may take
LAST_SECONDS = 5.0  # how long a worker that was told to end may take for what it has begun


class Worker:
    """The worker of one Job. ``server`` is the URL of the server's internal port, ``token`` returns the Job's token."""

    def __init__(self, server: str, token: Callable[[], str], model: Model, runtime: Runtime, terms: Terms) -> None:
        if not runtime.batches:
            terms = replace(terms, batch=1)
        self._model, self._runtime = model, runtime
        self._desk = Desk(terms)
        self._line = Line(server, token, self._desk)
        self._decoder: Decoder | Decoders
        if not terms.batches:
            self._decoder = Decoder(model.preprocessing, terms.max_pixels, PICTURE_SECONDS)
            self._work = self._predict
        else:
            threads = min(processors(), terms.batch)
            self._decoder = Decoders(model.preprocessing, terms.max_pixels, PICTURE_SECONDS, threads)
            batches = Batches(self._desk, model, runtime, self._decoder, threads, terms.batch)
            self._work = partial(batches.run, self._line.tell)
        self._failures: list[ServerGone | RequestRejected | DecoderUnavailable] = []
        self._idle = threading.Event()  # nothing more is begun

    def run(self) -> str:
        """Work until there is a reason to end, and return it as text.

        Call it from the main thread, with SIGTERM and SIGINT blocked. Raises ``ServerGone`` when the server has been
        unreachable for long, ``RequestRejected`` when it rejects what this worker sends, and ``DecoderUnavailable``.
        """
        threading.Thread(target=self._heed_signals, name="signals", daemon=True).start()
        receiver = threading.Thread(target=self._guarded, args=(self._line.run,), name="receiver", daemon=True)
        renewer = threading.Thread(target=self._renew, name="renewer", daemon=True)
        receiver.start()
        renewer.start()
        self._guarded(self._work)
        self._idle.set()
        self._decoder.close()
        self._desk.close()
        self._line.tell()
        # Results that are on their way are worth waiting for, and, with no channel, that the server comes back.
        receiver.join(REPLY_SECONDS if self._desk.is_online() else GONE_SECONDS)
        self._line.hang_up()
        receiver.join(REPLY_SECONDS)
        self._desk.end()
        renewer.join(REPLY_SECONDS)
        if self._failures:
            raise self._failures[0]
        return self._desk.done

    def _predict(self) -> None:
        while (lease := self._desk.next()) is not None:
            self._line.tell()
            done = predict(lease, self._model, self._runtime, self._decoder)
            self._desk.finish(done)
            self._line.tell()
            prediction_log.write(self._desk.log, time.time(), lease, done)

    def _renew(self) -> None:
        while self._desk.wait():
            self._line.tell()

    def _heed_signals(self) -> None:
        number = signal.sigwait({signal.SIGTERM, signal.SIGINT})
        self._desk.stop(f"received {signal.Signals(number).name}", hand_back=True)
        self._line.tell()
        # A prediction that is cut short is handed back, as one that was not begun.
        if not self._idle.wait(LAST_SECONDS):
            self._decoder.interrupt()

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except DecodingStopped:
            pass  # the worker is ending
        except Dismissed as error:
            self._desk.stop(f"dismissed: {error}", hand_back=True)
        except (ServerGone, RequestRejected, DecoderUnavailable) as error:
            self._failures.append(error)
            self._desk.stop(str(error), hand_back=True)


def predict(lease: Lease, model: Model, runtime: Runtime, decoder: Decoder | Decoders) -> Completion:
    """Classify every picture of a prediction; the result of a picture that cannot be classified is an error.

    Raises ``DecodingStopped`` and ``DecoderUnavailable``.
    """
    began = time.perf_counter()
    results: list[dict[str, Any]] = []
    for picture in lease.pictures:
        try:
            array = decoder.load(bytes(picture))
        except ImageError as error:
            results.append(unreadable(error))
            continue
        (logits,) = runtime.predict([array])
        results.append(labelled(logits, model, lease))
    return completion(lease, model, results, began)
