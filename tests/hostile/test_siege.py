"""The server under each attack and under all of them at once, as honest clients see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.hostile.attacks import ATTACKS
from tests.hostile.siege import Siege, siege
from tests.hostile.verdict import broken, slow
from tests.waiting import eventually

SECONDS, SECONDS_OF_ALL, REST_SECONDS = 1.5, 4.0, 2.0
# Other programs of the machine come and go, and a pause of theirs must not fail a test. A slow server is always slow.
ROUNDS = 4
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
    """Attack until one round is fast enough. Nothing else may go wrong in any round."""
    assert not besieged.ended()
    for _ in range(ROUNDS):
        seen, sent = besieged.attack(names, seconds, besieged.rest(REST_SECONDS), "a test")
        assert broken(seen) == [], sent
        complaints = slow(seen)
        if not complaints:
            return
    pytest.fail(f"in the last of {ROUNDS} rounds: {complaints}")
