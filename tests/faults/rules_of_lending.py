"""The judge's rules about tiers that lend each other quota: together they keep to the capacity, and a recall costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.faults.case import Case

LATE_SECONDS = 8.0  # what a fault did may be noticed so late: a lease of 5 s must run out, on a busy machine
DEADLY = ("worker-", "server-", "database-")  # faults after which a worker may not finish what it holds


def capacity_kept(case: Case) -> Iterator[str]:
    """There are never more workers of all tiers together than the capacity allows."""
    most = case.story.run.get("capacity")
    for sample in case.story.told("sample"):
        if most is not None and sum(sample["workers"].values()) > most:
            yield f"{sample['workers']} workers at {sample['at']}; {most} are allowed"


def recalls_cost_nothing(case: Case) -> Iterator[str]:
    """A prediction has more than one attempt only where a fault explains each further one."""
    if "capacity" not in case.story.run:
        return
    faults = [event["at"] for event in case.story.told("fault") if event["name"].startswith(DEADLY)]
    faults += [event["at"] for event in case.story.told("life") if event["step"] != "start"]
    for key, ops in case.seen.items():
        tries = case.accepted.get(key)
        if tries is None:
            continue
        attempts, op = max(((int(op.answer.get("attempts", 0)), op) for op in ops), key=lambda pair: pair[0])
        until = op.ended or 0.0
        explained = sum(1 for at in faults if tries[0].begun - LATE_SECONDS < at < until)
        if attempts > 1 + explained:
            yield f"{key} had {attempts} attempts by {until}, and {explained} faults explain them"


OF_LENDING: tuple[Callable[[Case], Iterator[str]], ...] = (capacity_kept, recalls_cost_nothing)
