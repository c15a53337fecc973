"""What a fault is, and what it acts on."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.faults.history import History
from tests.faults.pictures import Pictures
from tests.faults.proxy import Proxy
from tests.faults.world import World
from tests.faults.zygote import Zygote


@dataclass(frozen=True, slots=True)
class Scene:
    """What faults act on. ``lease`` is how many seconds a lease lasts."""

    world: World
    zygote: Zygote
    proxy: Proxy
    history: History
    pictures: Pictures
    lease: float
    roomy: Path | None
    """The small filesystem with the server's data, which a fault may fill; None if the data are on a large one."""


class Fault(ABC):
    """A fault that is injected once and healed once. A long run heals it after ``seconds``."""

    name: ClassVar[str]
    seconds: ClassVar[float] = 0.0

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self.scene, self.chance = scene, chance

    @classmethod
    def missing(cls, scene: Scene) -> str:
        """Why the fault cannot be injected here; empty when it can."""
        return ""

    @abstractmethod
    def inject(self) -> None:
        """Cause the fault."""

    def heal(self) -> None:  # noqa: B027 (many faults heal by themselves)
        """End the fault."""
