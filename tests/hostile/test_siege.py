"""The server under each attack and under all of them at once, as honest clients see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.hostile.attacks import ATTACKS
from tests.hostile.siege import Siege, besiege, siege
from tests.waiting import eventually

pytestmark = pytest.mark.alone

SECONDS, SECONDS_OF_ALL = 2.0, 4.0
ROUNDS = 3
# `make hostile` measures. Here only a server that stands still fails, since the machine may be busy.
FLOOR_SECONDS = 5.0
BACK_MB = 100.0


@pytest.fixture(scope="module")
def besieged(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with siege(models, tmp_path_factory.mktemp("siege")) as found:
        yield found


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_neither_fills_nor_slows_nor_stops_the_server(besieged: Siege, name: str) -> None:
    withstand(besieged, [name], SECONDS)


def test_all_attacks_at_once_neither_fill_nor_slow_nor_stop_the_server(besieged: Siege) -> None:
    withstand(besieged, list(ATTACKS), SECONDS_OF_ALL)


def test_after_the_attacks_the_server_is_as_small_as_before(besieged: Siege) -> None:
    eventually(
        lambda: besieged.memory.now() - besieged.rest_mb, 30, "the memory is given back", lambda more: more < BACK_MB
    )


def withstand(besieged: Siege, names: Sequence[str], seconds: float) -> None:
    """Attack until one round was fast. Nothing else may go wrong in any round."""
    assert not besieged.ended()
    said: list[str] = []
    wrong = besiege(besieged, names, seconds, ROUNDS, "a test", said.append, until_fast=True, floor=FLOOR_SECONDS)
    assert not wrong, "\n".join(said)
