"""Values that change with time, as CSS animations that jump from value to value."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar
from xml.sax.saxutils import escape

T = TypeVar("T", bound=Hashable)

Change = tuple[float, str]


class Timeline:
    """Collects the rules of one animation, of ``seconds``, that is repeated for ever.

    Who wants no motion (``prefers-reduced-motion``) sees the moment ``still``.
    """

    def __init__(self, seconds: float, still: float) -> None:
        self._seconds, self._still = seconds, still
        self._rules: list[str] = []
        self._names: dict[tuple[str, ...], str] = {}

    def animate(self, changes: Iterable[Change], jump: bool = True) -> str:
        """The class of an element whose declarations change at these seconds; the first of them is at 0."""
        kept: list[Change] = []
        for at, value in changes:
            if not jump or not kept or kept[-1][1] != value:
                kept.append((at, value))
        still = [value for at, value in kept if at <= self._still][-1]
        if len({value for _, value in kept}) == 1:
            frames, motion = "", ""
        else:
            frames = "".join(f"{100 * at / self._seconds:.2f}%{{{value}}}" for at, value in kept)
            motion = f";animation:NAME {self._seconds:g}s {'step-end' if jump else 'linear'} infinite"
        name = self._names.setdefault((still, frames, motion), f"k{len(self._names)}")
        rule = f".{name}{{{still}{motion.replace('NAME', name)}}}"
        if rule not in self._rules:
            self._rules += [rule, f"@keyframes {name}{{{frames}}}"] if frames else [rule]
        return name

    def text(self, x: float, y: float, width: float, told: Sequence[tuple[float, str]], style: str) -> str:
        """A line of text that changes: all its texts are below each other in a window of one line."""
        height, texts = 30, list(dict.fromkeys(text for _, text in told))
        name = self.animate((at, f"transform:translateY({-height * texts.index(text)}px)") for at, text in told)
        lines = "".join(
            f'<text y="{height * number + 21}"{_anchor(style, width)}>{escape(text)}</text>'
            for number, text in enumerate(texts)
            if text
        )
        window = f'<svg x="{x:g}" y="{y:g}" width="{width:g}" height="{height}">'
        return f'{window}<g class="{style}"><g class="{name}">{lines}</g></g></svg>'

    def css(self) -> str:
        """All rules."""
        calm = "@media(prefers-reduced-motion:reduce){*{animation:none!important}}"
        return "\n".join([*self._rules, calm])


def _anchor(style: str, width: float) -> str:
    return f' x="{width / 2:g}" text-anchor="middle"' if "middle" in style else ""


def told(times: Sequence[float], values: Iterable[T], text: Callable[[T], str]) -> list[Change]:
    """What a text or a declaration is at each time."""
    return [(at, text(value)) for at, value in zip(times, values, strict=True)]
