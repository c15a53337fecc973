"""A process that sends mutated requests: ``python -m tests.hostile.sender``, which reads its order as JSON.

It writes a report each second and at its end, one JSON object a line. A request that got a wrong answer is in the
report with all that was sent on its connection before.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from tests.hostile.answers import Reader, Reply, complaint
from tests.hostile.mutator import INTERNAL, PUBLIC, Mutator, Sending
from tests.hostile.report import Report
from tests.hostile.talk import talk

THREADS = 12
ANSWER_SECONDS = 75.0  # longer than the server lets any request wait
# Of a request whose end is not clear the server may wait for more.
UNCLEAR_SECONDS = 0.3
ON_A_CONNECTION, AT_ONCE = 30, 6
INTERNAL_SHARE, CHANNEL_SHARE = 0.3, 0.2


class Sender(threading.Thread):
    """Sends so many requests, on one connection after another."""

    def __init__(self, order: dict[str, Any], index: int, report: Report) -> None:
        super().__init__(daemon=True)
        seed = f"{order['seed']}/{order['index']}/{index}"
        self._order = order
        self._chance, self._ports, self._report = random.Random(seed), order["ports"], report
        self._left = order["count"] // THREADS
        self._mutator = Mutator(self._chance, base64.b64decode(order["picture"]), order["token"], order["admin"])

    def run(self) -> None:
        """Called by the thread."""
        while self._left > 0:
            if self._chance.random() < CHANNEL_SHARE:
                talk(self._ports[INTERNAL], self._order["token"], self._mutator, self._report, self._spend)
            port = INTERNAL if self._chance.random() < INTERNAL_SHARE else PUBLIC
            # Without a listener nothing can be sent; whether the server lives is for the parent to see.
            try:
                with socket.create_connection(("127.0.0.1", self._ports[port]), timeout=10) as connection:
                    self._talk(connection, port)
            except OSError:
                self._report.note(None)
                time.sleep(0.05)

    def _spend(self) -> bool:
        """Count one sending more; returns whether there may be one."""
        self._left -= 1
        return bool(self._left >= 0)

    def _talk(self, connection: socket.socket, port: str) -> None:
        reader, said = Reader(connection), list[Sending]()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while len(said) < ON_A_CONNECTION and self._left > 0:
            some = [self._mutator.next(port) for _ in range(self._chance.randint(1, AT_ONCE))]
            # What follows a request without a clear end may be taken for its body.
            some = some[: 1 + next((index for index, one in enumerate(some) if not one.whole), len(some))]
            self._left -= len(some)
            self._report.note(None, len(some))
            connection.settimeout(ANSWER_SECONDS)
            with suppress(OSError):  # the server may have closed after one of the first; its answers can still be read
                connection.sendall(b"".join(one.data for one in some))
            for one in some:
                said.append(one)
                connection.settimeout(ANSWER_SECONDS if one.whole else UNCLEAR_SECONDS)
                if not self._heard(reader, one, said):
                    return

    def _heard(self, reader: Reader, sending: Sending, said: list[Sending]) -> bool:
        """Read the answer; returns whether the connection can be used for more."""
        try:
            reply = reader.read(sending.method)
        except TimeoutError:
            if sending.whole:
                self._report.fail("no answer", said, None)
            return False
        except OSError:
            return False
        except ValueError as error:
            self._report.fail(str(error), said, None)
            return False
        if reply is None:
            return False
        self._report.note(reply)
        if what := complaint(reply, sending.method):
            self._report.fail(what, said, reply)
        self._learn(reply)
        return sending.whole and not reply.is_stream and reply.headers.get("connection", "").lower() != "close"

    def _learn(self, reply: Reply) -> None:
        if reply.status in (200, 202) and isinstance(reply.json, dict) and "urls" in reply.json:
            self._mutator.ids.append(reply.json["id"])


def main() -> None:
    """Send what the order asks for."""
    order, report = json.loads(sys.stdin.readline()), Report()
    senders = [Sender(order, index, report) for index in range(THREADS)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        time.sleep(1.0)
        report.tell()
    report.tell()


if __name__ == "__main__":
    main()
