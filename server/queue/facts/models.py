"""What the queue keeps of models: those that were pushed, which ones the tiers serve, and how these did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a pushed model: its SHA-256, hexadecimal, and its size in bytes. Several models may have it."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that was pushed. ``record`` is the text of its ``model.json``; ``tags`` are sorted.

    ``latest``: of the models of its name, it was pushed last.
    """

    name: str
    version: str
    digest: str
    record: str
    files: tuple[StoredFile, ...]
    pushed_at: float
    tags: tuple[str, ...] = ()
    latest: bool = False

    @property
    def reference(self) -> str:
        """``NAME@VERSION``, which names exactly this model."""
        return f"{self.name}@{self.version}"

    @property
    def bytes(self) -> int:
        """What its files take, if no other model has any of them."""
        return sum({file.sha256: file.size for file in self.files}.values())


@dataclass(frozen=True, slots=True)
class Served:
    """A model as workers of a tier run it, since when."""

    reference: str
    digest: str
    runtime: str
    variant: str
    since: float

    @property
    def key(self) -> str:
        """What a Job's row says of its model: two with one key answer alike."""
        return f"{self.reference} {self.runtime}/{self.variant}"


@dataclass(frozen=True, slots=True)
class Serving:
    """What a tier serves. ``percent`` of its predictions go to the ``canary``; None: there is none.

    ``previous`` are the models that it served before, the latest first. ``instead_of`` is the reference that the
    settings name and that was rolled back; it is empty unless ``main`` is served in its place. ``problem`` says why
    what the settings name is not served; it is empty when it is.
    """

    main: Served | None = None
    canary: Served | None = None
    percent: float = 0.0
    previous: tuple[Served, ...] = ()
    instead_of: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a model did in a tier: predictions, and of their pictures those that failed and those of low confidence.

    ``milliseconds`` counts predictions by the class of the time that they took: see ``server.time_classes``.
    """

    predictions: int = 0
    pictures: int = 0
    failed: int = 0
    unsure: int = 0
    milliseconds: Mapping[int, int] = field(default_factory=dict, hash=False)
