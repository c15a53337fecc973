"""Kubernetes quantities (``900m``, ``2Gi``, ``1e3``) as exact numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Usage:
    """One resource of a tier's quota: the most that the tier may use, and what it uses now, in the base unit."""

    hard: float
    used: float


_SUFFIXES = {
    "": Decimal(1),
    **{suffix: Decimal(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_QUANTITY = re.compile(
    r"((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?", re.ASCII
)


def parse_quantity(text: str) -> Decimal:
    """Return the number that ``text`` stands for, in its base unit (CPUs, bytes, pieces); it is never negative.

    Raises ``ValueError`` when ``text`` is not a Kubernetes quantity.
    """
    number, scale = quantity_parts(text)
    return number * scale


def quantity_parts(text: str) -> tuple[Decimal, Decimal]:
    """Return the number in ``text`` and what its suffix stands for. Raises what ``parse_quantity`` raises."""
    match = _QUANTITY.fullmatch(text) if len(text) <= 32 else None
    if match is None or (match[2] and "e" in match[1].lower()):
        raise ValueError(f'"{text:.40}" is not a quantity such as "900m" or "2Gi"')
    return Decimal(match[1]), _SUFFIXES[match[2] or ""]


def sum_of_bytes(*texts: str) -> str:
    """Return the sum of these quantities as a quantity, rounded up to a byte: ``64Mi`` and ``1Gi`` are ``1088Mi``.

    Raises ``ValueError`` when one of them is not a Kubernetes quantity.
    """
    total = math.ceil(sum(map(parse_quantity, texts)))
    mebibytes, rest = divmod(total, 1024**2)
    return str(total) if rest else f"{mebibytes}Mi"
