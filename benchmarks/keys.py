"""Whether the time of an answer tells an unknown id from a wrong secret, and what it costs to recognize a caller.

Run: python -m benchmarks.keys [--models FOLDER] [--pairs 10000]

A pair is a request with an unknown id and one with a wrong secret of a key that exists, in random order, on one
connection to a real server. If their times had no difference, the second would be the slower one in half of the pairs:
the share may differ from that by noise, of which ``z`` says how many standard deviations it is.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from server.access.keyring import Keyring
from server.access.keys import KeyRefused, Pepper, Terms, make
from server.queue import Queue, SQLite
from tests.running import Service, service

KEYS, PAIRS = 1000, 10_000
FAR = 4.0  # standard deviations, which noise reaches once in 16,000 runs


def pairs(many: int, unknown: Callable[[], object], wrong: Callable[[], object]) -> tuple[list[float], list[float]]:
    """The seconds that each call took, in pairs."""
    both: tuple[list[float], list[float]] = ([], [])
    calls = (unknown, wrong)
    for _ in range(many):
        for which in random.sample((0, 1), 2):
            start = time.perf_counter()
            calls[which]()
            both[which].append(time.perf_counter() - start)
    return both


def report(what: str, unknown: list[float], wrong: list[float]) -> bool:
    """Print how the times of pairs differ; returns whether that is noise."""
    later = sum(one < other for one, other in zip(unknown, wrong, strict=True))
    z = (later - len(wrong) / 2) / math.sqrt(len(wrong) / 4)
    medians = f"{1e6 * median(unknown):.2f} and {1e6 * median(wrong):.2f} us"
    print(f"{what}: {medians}; the wrong secret is slower in {100 * later / len(wrong):.2f} % of pairs, z = {z:+.1f}")
    return abs(z) < FAR


def refused(keyring: Keyring, text: str) -> None:
    """Have the keyring look at a key that opens nothing."""
    try:
        keyring.recognize(text)
    except KeyRefused:
        return
    raise RuntimeError("the key was taken")


def in_the_keyring(folder: Path, many: int) -> None:
    """Compare the calls themselves, without what a network adds, beside what a right key costs."""
    database, pepper = SQLite.open(folder), Pepper("a pepper of benchmarks")
    queue = Queue(database)
    keyring = Keyring(queue, pepper, time.time)
    right = ""
    for number in range(KEYS):
        right, key = make(pepper, Terms(f"owner{number}", ["free"]), time.time())
        queue.add_key(key, pepper.check).result()
    keyring.refresh()
    unknown, wrong = f"tsk_{'0' * 12}_{right[-32:]}", _with_other_secret(right)
    report(f"keyring of {KEYS}", *pairs(many, lambda: refused(keyring, unknown), lambda: refused(keyring, wrong)))
    taken, _ = pairs(many, lambda: keyring.recognize(right), lambda: None)
    print(f"a right key: {1e6 * median(taken):.2f} us")
    database.close()


def over_http(server: Service, many: int) -> bool:
    """Compare requests. After the first ten they get 429, on the same way."""
    token = (server.state / "admin-token").read_text().strip()
    asking = http.client.HTTPConnection("127.0.0.1", server.internal_port, timeout=60)
    terms = json.dumps({"owner": "owner", "tiers": ["free"]})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asking.request("POST", "/v1/keys", terms, headers)
    key = json.load(asking.getresponse())["key"]
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def sent(text: str) -> None:
        client.request("GET", "/v1/tiers", headers={"Authorization": f"Bearer {text}"})
        answer = client.getresponse()
        answer.read()
        if answer.status not in (401, 429):
            raise RuntimeError(f"status {answer.status}")

    unknown, wrong = f"tsk_{'0' * 12}_{key[-32:]}", _with_other_secret(key)
    return report("over HTTP", *pairs(many, lambda: sent(unknown), lambda: sent(wrong)))


def _with_other_secret(key: str) -> str:
    return key[:-1] + ("a" if key[-1] != "a" else "b")


def main() -> None:
    """Print all figures; exit with 1 if a difference over HTTP is more than noise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        in_the_keyring(Path(folder) / "data", given.pairs)
        with service(given.models, Path(folder) / "state") as server:
            even = over_http(server, given.pairs)
    sys.exit(0 if even else 1)


if __name__ == "__main__":
    main()
