"""What a tier serves, decided from its settings, from what it served before, and from which models there are. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from server.models.folder import NoModel
from server.queue import Served, Serving
from server.settings.records import ModelChoice

MOST_PREVIOUS = 5


class Known(Protocol):
    """A model that a tier can serve."""

    @property
    def reference(self) -> str:
        """``NAME@VERSION``."""

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal."""


Resolve = Callable[[str], Known]
"""The model that a name stands for now: ``NAME``, ``NAME@VERSION`` or ``NAME@TAG``. Raises ``NoModel``."""


def decide(choice: ModelChoice, before: Serving, resolve: Resolve, now: float) -> Serving:
    """What the tier serves from ``now`` on, in seconds of the epoch.

    Where the settings name what cannot be served, the tier goes on with what it served. A canary that is new gets no
    predictions yet: see ``with_canary``. To decide again with the result as ``before`` changes nothing.
    """
    main, instead_of, problem = _main(choice, before, resolve, now)
    canary, trouble = _canary(choice, before, resolve, now)
    if canary is not None and (main is None or canary.key == main.key or canary.reference == instead_of):
        canary = None
    opened = canary is not None and before.canary is not None and canary.key == before.canary.key and before.percent > 0
    return Serving(
        main=main,
        canary=canary,
        percent=choice.canary.percent if opened and choice.canary else 0.0,
        previous=_previous(before, main, instead_of),
        instead_of=instead_of,
        problem="; ".join(filter(None, (problem, trouble))),
    )


def with_canary(serving: Serving, choice: ModelChoice, obstacle: str) -> Serving:
    """Give the canary its percentage, or nothing while there is an ``obstacle``, which ``problem`` then tells too."""
    if serving.canary is None or choice.canary is None:
        return serving
    if not obstacle:
        return replace(serving, percent=choice.canary.percent)
    told = f"the canary {serving.canary.reference} gets no predictions: {obstacle}"
    return replace(serving, percent=0.0, problem="; ".join(filter(None, (serving.problem, told))))


def roll_back(choice: ModelChoice, before: Serving, resolve: Resolve, now: float) -> Serving:
    """Serve again what was served before ``main``, for as long as the settings name the same model as now.

    Raises ``NoModel`` when nothing that was served before is left.
    """
    for number, earlier in enumerate(before.previous):
        main = _served(choice, earlier.reference, resolve, now)
        if before.main is not None and isinstance(main, Served):
            named = _served(choice, choice.name, resolve, now)
            instead_of = before.main.reference if isinstance(named, str) else named.reference
            rest = before.previous[number + 1 :]
            rolled = replace(
                before, main=main, previous=rest, instead_of=instead_of if instead_of != main.reference else ""
            )
            return decide(choice, rolled, resolve, now)
    raise NoModel("no model that the tier served before is left: push one, or name another in model.name of the tier")


def startable(serving: Serving, choice: ModelChoice) -> bool:
    """Whether Jobs can be started for the tier, which run the variant and the runtime of the settings."""
    main = serving.main
    return main is not None and (main.runtime, main.variant) == (choice.runtime, choice.variant)


def _main(choice: ModelChoice, before: Serving, resolve: Resolve, now: float) -> tuple[Served | None, str, str]:
    """The main model, what it is served instead of, and the problem."""
    held = _served(choice, before.main.reference, resolve, now) if before.main else ""
    held = _kept(held, before.main) if isinstance(held, Served) else held
    named = _served(choice, choice.name, resolve, now)
    if isinstance(named, str):
        return (held if isinstance(held, Served) else before.main), before.instead_of, named
    if before.instead_of == named.reference and isinstance(held, Served):
        return held, before.instead_of, ""
    return _kept(named, before.main), "", ""


def _canary(choice: ModelChoice, before: Serving, resolve: Resolve, now: float) -> tuple[Served | None, str]:
    """The canary, and the problem."""
    if choice.canary is None:
        return None, ""
    named = _served(choice, choice.canary.name, resolve, now)
    if isinstance(named, Served):
        return _kept(named, before.canary), ""
    old = before.canary
    same = old is not None and (old.runtime, old.variant) == (choice.runtime, choice.variant)
    return (old if same else None), f"the canary: {named}"


def _served(choice: ModelChoice, name: str, resolve: Resolve, now: float) -> Served | str:
    try:
        known = resolve(name)
    except NoModel as error:
        return str(error)
    return Served(known.reference, known.digest, choice.runtime, choice.variant, now)


def _kept(served: Served, before: Served | None) -> Served:
    """The same since when it was served first."""
    return replace(served, since=before.since) if before is not None and before.key == served.key else served


def _previous(before: Serving, main: Served | None, instead_of: str) -> tuple[Served, ...]:
    earlier = (before.main, *before.previous) if before.main else before.previous
    now = {main.reference if main else "", instead_of}
    return tuple(one for one in earlier if one.reference not in now)[:MOST_PREVIOUS]
