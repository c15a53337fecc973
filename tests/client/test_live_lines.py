"""The lines of pictures under way fit into the terminal, say where each stands, and show text of others safely."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.answers import succeeded
from tierserve.errors import Refused
from tierserve.live import NAME_CHARACTERS, Board
from tierserve.mapping import Outcome
from tierserve.predictions import Event, Place, Prediction

QUEUED = Event("queued", "p", Place(3, 2, "the quota is used up", 12.4))
STARTING = Event("starting", "p", QUEUED.place, "pulling", "free-1")


def outcome(picture: str, label: str = "tabby") -> Outcome:
    return Outcome(0, Path(picture), Prediction.of(succeeded(label=label, score=0.87654, predict_ms=8.2)), None)


def board(total: int, height: int = 24, width: int = 120) -> tuple[Board, Console]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    return Board("free", total, console), console


def lines(made: tuple[Board, Console]) -> list[str]:
    shown, console = made
    with console.capture() as capture:
        console.print(shown.table())
    return [" ".join(line.split()) for line in capture.get().splitlines()]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (None, "sending"),
        (QUEUED, "waiting at 3 of free, about 12 s: the quota is used up"),
        (Event("queued", "p", Place(3, 2, "", None)), "waiting at 3 of free"),
        (STARTING, "waiting at 3 of free, about 12 s, a worker is starting: pulling: the quota is used up"),
        (Event("starting", "p", Place(3, 2, "", 12.4)), "waiting at 3 of free, about 12 s, a worker is starting"),
        (Event("leased", "p", attempts=1), "working"),
        (Event("leased", "p", attempts=2), "working, attempt 2"),
    ],
)
def test_where_a_picture_stands_is_said_in_words(event: Event | None, words: str) -> None:
    made = board(1)
    made[0].tell(Path("cat.jpg"), event)
    assert lines(made) == [f"cat.jpg {words}", "0 of 1 done 1 under way, 0 not sent yet"]


def test_an_ended_picture_has_its_label_or_its_problem() -> None:
    made = board(3)
    made[0].end(outcome("cat.jpg"))
    made[0].end(Outcome(1, Path("bad.jpg"), None, Refused(422, {"code": "image_broken", "detail": "it is cut off"})))
    made[0].tell(Path("dog.jpg"), Event("leased", "p", attempts=1))
    assert lines(made) == [
        "cat.jpg tabby 0.877 8 ms",
        "bad.jpg image_broken: it is cut off",
        "dog.jpg working",
        "2 of 3 done, 1 of them failed 1 under way, 0 not sent yet",
    ]


@pytest.mark.parametrize("height", [1, 2, 3, 10, 24])
def test_many_pictures_fit_into_the_terminal(height: int) -> None:
    made = board(300, height)
    for number in range(100):
        made[0].end(outcome(f"{number}.jpg"))
    for number in range(100, 164):
        made[0].tell(Path(f"{number}.jpg"), Event("queued", "p", Place(3, 2, "words " * 100, 12.4)))
    shown = lines(made)
    assert len(shown) <= max(2, height - 1)
    assert shown[-1] == "100 of 300 done 64 under way, 136 not sent yet"
    assert shown[-2].startswith("1")
    for number in range(100, 164):
        made[0].end(outcome(f"{number}.jpg"))
    assert len(lines(made)) <= max(2, height - 1)


def test_a_narrow_terminal_cuts_lines_and_breaks_none() -> None:
    made = board(2, width=40)
    made[0].tell(Path("a" * 100 + ".jpg"), Event("queued", "p", Place(3, 2, "words " * 100, 12.4)))
    made[0].end(outcome("b.jpg", "a label with very many words " * 10))
    assert len(lines(made)) == 3


def test_an_ascii_terminal_gets_whole_lines() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, force_terminal=True, width=60, height=24, color_system=None)
    shown = Board("free", 2, console)
    shown.tell("long " * 10 + "\u84b2.jpg", Event("queued", "p", Place(3, 2, "words " * 100, 12.4)))
    shown.end(outcome("\xe9.jpg", "a label \u84b2 with very many words " * 10))
    console.print(shown.table())
    file.flush()
    printed = file.buffer.getvalue().decode("ascii").splitlines()
    assert [len(line) for line in printed] == [60] * 3
    assert "\\xe9.jpg" in printed[0]
    assert printed[1].startswith("...")
    assert printed[1][:NAME_CHARACTERS].endswith(r"long \u84b2.jpg")


def test_text_of_others_cannot_steer_the_terminal() -> None:
    made = board(2)
    made[0].tell(Path("[b]\x1b.jpg"), Event("queued", "p", Place(3, 2, "[red]a\x1b[31mb\x07\nc", 12.4)))
    made[0].end(outcome("c.jpg", "\x1b[2J:rose:"))
    assert lines(made)[:2] == [
        r"c.jpg \x1b[2J:rose: 0.877 8 ms",
        r"[b]\x1b.jpg waiting at 3 of free, about 12 s: [red]a\x1b[31mb\x07\nc",
    ]
