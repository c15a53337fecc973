"""The attackers' process: ``python -m tests.hostile.attacker``.

It is not the tests' own process, whose measures it would disturb, and it steps back behind all others, because the
server is measured, not the machine. Orders come on standard input and reports go to standard output, one JSON object a
line.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tests.hostile.attacks import ATTACKS
from tests.hostile.wire import Target

NICENESS = 15


async def attack(names: Sequence[str], target: Target, seconds: float, seed: str) -> dict[str, Any]:
    """Let attacks run side by side for so long; returns what each of them did."""
    attacks = [ATTACKS[name](target, random.Random(f"{seed}/{name}")) for name in names]
    tasks = [asyncio.create_task(one.run()) for one in attacks]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()  # an attack never ends by itself, so this raises what was wrong with it
    return {
        one.name: {"connections": one.tally.connections, "sent": one.tally.sent, "statuses": dict(one.tally.statuses)}
        for one in attacks
    }


def main() -> None:
    """Take orders until standard input is closed."""
    os.nice(NICENESS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with suppress(KeyboardInterrupt):
        for line in sys.stdin:
            order = json.loads(line)
            target = Target(order["port"], order["internal_port"], order["tier"])
            report = asyncio.run(attack(order["names"], target, order["seconds"], order["seed"]))
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
