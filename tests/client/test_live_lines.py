"""The lines of pictures under way fit into the terminal, say where each stands, and show text of others safely."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tierserve.live import Board

QUEUED = {"id": "p", "position": 3, "ahead": 2, "eta_seconds": 12.4, "reason": "the quota is used up"}
STARTING = {**QUEUED, "stage": "pulling", "job": "free-1"}


def answer(label: str = "tabby") -> dict[str, Any]:
    labels = [{"label": label, "score": 0.87654}]
    return {"status": "succeeded", "results": [{"labels": labels}], "metrics": {"predict_ms": 8.2}}


def board(total: int, height: int = 24, width: int = 120) -> tuple[Board, Console]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    return Board("free", total, console), console


def lines(made: tuple[Board, Console]) -> list[str]:
    shown, console = made
    with console.capture() as capture:
        console.print(shown.table())
    return [" ".join(line.split()) for line in capture.get().splitlines()]


@pytest.mark.parametrize(
    ("event", "data", "words"),
    [
        ("sending", {}, "sending"),
        ("queued", QUEUED, "waiting at 3 of free, about 12 s: the quota is used up"),
        ("queued", {**QUEUED, "eta_seconds": None, "reason": ""}, "waiting at 3 of free"),
        ("starting", STARTING, "waiting at 3 of free, about 12 s, a worker is starting: pulling: the quota is used up"),
        (
            "starting",
            {**STARTING, "stage": None, "reason": ""},
            "waiting at 3 of free, about 12 s, a worker is starting",
        ),
        ("leased", {"attempts": 1}, "working"),
        ("leased", {"attempts": 2}, "working, attempt 2"),
    ],
)
def test_where_a_picture_stands_is_said_in_words(event: str, data: dict[str, Any], words: str) -> None:
    made = board(1)
    made[0].tell(Path("cat.jpg"), event, data)
    assert lines(made) == [f"cat.jpg {words}", "0 of 1 done 1 under way, 0 not sent yet"]


def test_what_says_nothing_of_a_picture_changes_nothing() -> None:
    made = board(1)
    made[0].tell(Path("cat.jpg"), "queued", QUEUED)
    before = lines(made)
    made[0].tell(Path("cat.jpg"), "drain", {"detail": "this server stops"})
    made[0].tell(Path("cat.jpg"), "an event of a later server", {})
    assert lines(made) == before


def test_an_ended_picture_has_its_label_or_its_problem() -> None:
    made = board(3)
    made[0].end(Path("cat.jpg"), answer())
    made[0].end(Path("bad.jpg"), {"code": "image_broken", "detail": "it is cut off"})
    made[0].tell(Path("dog.jpg"), "leased", {"attempts": 1})
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
        made[0].end(Path(f"{number}.jpg"), answer())
    for number in range(100, 164):
        made[0].tell(Path(f"{number}.jpg"), "queued", {**QUEUED, "reason": "words " * 100})
    shown = lines(made)
    assert len(shown) <= max(2, height - 1)
    assert shown[-1] == "100 of 300 done 64 under way, 136 not sent yet"
    assert shown[-2].startswith("1")
    for number in range(100, 164):
        made[0].end(Path(f"{number}.jpg"), answer())
    assert len(lines(made)) <= max(2, height - 1)


def test_a_narrow_terminal_cuts_lines_and_breaks_none() -> None:
    made = board(2, width=40)
    made[0].tell(Path("a" * 100 + ".jpg"), "queued", {**QUEUED, "reason": "words " * 100})
    made[0].end(Path("b.jpg"), answer("a label with very many words " * 10))
    assert len(lines(made)) == 3


def test_text_of_others_cannot_steer_the_terminal() -> None:
    made = board(2)
    made[0].tell(Path("[b]\x1b.jpg"), "queued", {**QUEUED, "reason": "[red]a\x1b[31mb\x07\nc"})
    made[0].end(Path("c.jpg"), answer("\x1b[2J:rose:"))
    assert lines(made)[:2] == [
        r"c.jpg \x1b[2J:rose: 0.877 8 ms",
        r"[b]\x1b.jpg waiting at 3 of free, about 12 s: [red]a\x1b[31mb\x07\nc",
    ]
