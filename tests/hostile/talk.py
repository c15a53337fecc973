"""A worker's channel over which mutated messages are sent, and the judge of what the server says to them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache

from websockets.exceptions import WebSocketException

from tests.channel import Channel, Closed, Refused
from tests.hostile.answers import Reply, complaint
from tests.hostile.mutator import Mutator, Sending
from tests.hostile.report import Report
from tests.running import ROOT

MOST_SAID = 30
QUIET_SECONDS = 0.3  # after which the server says nothing more
LOST = 1006  # the connection broke: the server's log says why, if it was the server's fault
SAID = {"renew", "outcomes", "lost", "stopping", "predictions"}
OUTCOMES = {"accepted", "duplicate", "final", "unknown", "invalid", "again"}

# Two channels of one Job end each other.
_one = threading.Lock()


def talk(port: int, token: str, mutator: Mutator, report: Report, may: Callable[[], bool]) -> None:
    """Say so many mutated messages as ``may`` allows, over one channel, unless another thread has one."""
    if not _one.acquire(blocking=False):
        return
    try:
        with Channel(f"http://127.0.0.1:{port}", token) as channel:
            _say(channel, mutator, report, may)
    except Refused as refused:
        headers = {name.lower(): value for name, value in refused.answer.headers.items()}
        reply = Reply(refused.answer.status, headers, refused.answer.body)
        report.note(reply)
        if what := complaint(reply, "GET"):
            report.fail(what, [mutator.saying()], reply)
    except (OSError, WebSocketException):
        report.note(None)
    finally:
        _one.release()


def _say(channel: Channel, mutator: Mutator, report: Report, may: Callable[[], bool]) -> None:
    said: list[Sending] = []
    try:
        channel.hold()
        while len(said) < MOST_SAID and may():
            said.append(mutator.saying())
            report.note(None, 1)
            with suppress(OSError):  # it may be closed already; what the server said can still be read
                channel.socket.socket.sendall(said[-1].data)
            with suppress(TimeoutError):
                while True:
                    _judge(channel.receive(0 if len(said) < MOST_SAID else QUIET_SECONDS), report, said)
                    mutator.leases.extend((one["id"], one["token"]) for one in channel.lease(64, 0, 0))
    except Closed as closed:
        report.count(f"closed {closed.code}")
        if closed.code != LOST and closed.code not in documented():
            report.fail(f"closed with {closed.code}", said, None)
    except (ValueError, KeyError, TypeError) as error:
        report.fail(f"no message of the protocol: {error!r}", said, None)


def _judge(message: dict[str, object], report: Report, said: list[Sending]) -> None:
    report.count("a message of the server")
    outcomes = message.get("outcomes", [])
    assert isinstance(outcomes, list)
    if message.keys() - SAID or not message or {outcome for _, outcome in outcomes} - OUTCOMES:
        report.fail(f"said {sorted(message)} {outcomes[:3]}", said, None)


@cache
def documented() -> frozenset[int]:
    """The codes of docs/worker-protocol.md with which a server closes a channel, and that of good order."""
    page = (ROOT / "docs" / "worker-protocol.md").read_text()
    return frozenset({1000, *map(int, re.findall(r"^\| ([14][04]\d\d) \|", page, re.MULTILINE))})
