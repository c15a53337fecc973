"""Counts of times by their class: few numbers, that can be added up, and that tell any quantile within 9 %."""

from __future__ import annotations

import math
from collections.abc import Mapping

PARTS = 4  # classes of time in each doubling


def class_of(milliseconds: float, last: int) -> int:
    """The class of a time: class ``i`` ends with 2**(i/4) ms; the first and the last have all beyond them."""
    if milliseconds <= 1:
        return 0
    return min(last, math.ceil(PARTS * math.log2(milliseconds)))


def quantile(milliseconds: Mapping[int, int], part: float) -> float | None:
    """The time that ``part`` of those counted by class did not exceed, in ms, within 9 %; None without any."""
    wanted, passed = part * sum(milliseconds.values()), 0
    for at in sorted(milliseconds):
        passed += milliseconds[at]
        if passed and passed >= wanted:
            return round(2 ** ((at - 0.5) / PARTS), 1)  # the middle of the class
    return None
