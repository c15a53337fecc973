"""What ``eventually`` says when it waited in vain."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.cluster.shell import ClusterError, until
from tests.waiting import SHOWN, eventually


def test_it_gives_what_was_enough() -> None:
    count = itertools.count()
    assert eventually(lambda: next(count), 20, "five", lambda seen: seen == 5) == 5


def test_it_says_what_it_waited_for_for_how_long_and_what_it_saw_last() -> None:
    with pytest.raises(AssertionError, match=r"^not within 0.1 s: two workers; last seen: \['one'\]$"):
        eventually(lambda: ["one"], 0.1, "two workers", lambda seen: len(seen) == 2)


def test_it_shows_the_last_error_that_it_bore() -> None:
    def look() -> None:
        raise ConnectionRefusedError("nobody listens")

    with pytest.raises(AssertionError, match=r"a server; last seen: ConnectionRefusedError\('nobody listens'\)"):
        eventually(look, 0.1, "a server", despite=(OSError,))
    with pytest.raises(ConnectionRefusedError) as caught:
        eventually(look, 0.1, "a server")
    assert caught.value.__notes__ == ["while waiting up to 0.1 s: a server"]


def test_the_last_look_begins_when_the_time_is_over() -> None:
    began = time.monotonic()
    assert eventually(lambda: time.monotonic() - began, 0.2, "the end", lambda seconds: seconds >= 0.2) >= 0.2


def test_a_long_text_is_shortened() -> None:
    with pytest.raises(AssertionError) as caught:
        eventually(lambda: "x" * 10 * SHOWN, 0, "an end", lambda seen: seen == "")
    assert len(str(caught.value)) < SHOWN + 100


def test_a_cluster_is_waited_for_despite_its_errors() -> None:
    count = itertools.count()

    def look() -> int:
        if (number := next(count)) < 3:
            raise ClusterError("not yet")
        return number

    assert until(look, 20, "the third time") == 3
    with pytest.raises(ClusterError, match=r"not within 0.1 s: a node; last seen: ''"):
        until(lambda: "", 0.1, "a node")
