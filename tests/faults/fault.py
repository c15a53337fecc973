"""What a fault is, and where it happens."""

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
    """Where faults happen. ``lease`` is how long one lasts, in seconds."""

    world: World
    zygote: Zygote
    proxy: Proxy
    history: History
    pictures: Pictures
    lease: float
    roomy: Path | None
    """A small filesystem that the server's data lies on, if there is one to be filled."""


class Fault(ABC):
    """Injected once, healed once. ``seconds``: how long it lasts, if nothing else says so."""

    name: ClassVar[str]
    seconds: ClassVar[float] = 0.0

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self.scene, self.chance = scene, chance

    @classmethod
    def missing(cls, scene: Scene) -> str:
        """Why it cannot be done here; empty when it can."""
        return ""

    @abstractmethod
    def inject(self) -> None:
        """Do harm."""

    def heal(self) -> None:  # noqa: B027 (much harm heals by itself)
        """Make it good again."""
