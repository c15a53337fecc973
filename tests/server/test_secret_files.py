"""The files of the pepper and the admin token: nobody else has a hand in them, and what they hold is never told."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.access.operators import (
    ADMIN_TOKEN,
    INTERNAL_URL,
    PEPPER,
    AdminToken,
    BadSecret,
    given_secret,
    kept_secret,
    tell_url,
)
from server.redaction import redacted

WORD = "0123456789-abcdefghij"


def test_a_secret_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    state = tmp_path / "not" / "there" / "yet"
    made = [kept_secret(state, name) for name in (PEPPER, ADMIN_TOKEN)]
    assert len(set(made)) == 2
    assert all(len(text) >= 48 for text in made)
    assert [kept_secret(state, name) for name in (PEPPER, ADMIN_TOKEN)] == made
    assert sorted(path.name for path in state.iterdir()) == [ADMIN_TOKEN, PEPPER]
    for path in state.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made[0] not in redacted(f"the log says {made[0]}")


def test_servers_that_start_together_make_one(tmp_path: Path) -> None:
    for round_ in range(20):
        state = tmp_path / str(round_)
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda _: _outcome(state), range(4)))  # noqa: B023
        assert {one for one in outcomes if one} == {kept_secret(state, PEPPER)}
        assert [path.name for path in state.iterdir()] == [PEPPER]


def _outcome(state: Path) -> str:
    """The secret; empty if another one was just making the file."""
    try:
        return kept_secret(state, PEPPER)
    except BadSecret:
        return ""


def test_a_file_in_which_others_have_a_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / PEPPER
    path.write_text(WORD)
    for mode, command in ((0o604, "chmod 600"), (0o602, "chmod go-w")):
        path.chmod(mode)
        with pytest.raises(BadSecret, match=command):
            kept_secret(tmp_path, PEPPER)
    path.chmod(0o600)
    assert kept_secret(tmp_path, PEPPER) == WORD
    (tmp_path / ADMIN_TOKEN).symlink_to(path)
    with pytest.raises(BadSecret, match="link"):
        kept_secret(tmp_path, ADMIN_TOKEN)


def test_the_state_folder_may_be_a_link_or_sticky_but_not_open_to_others(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    real.chmod(0o1777)
    link.symlink_to(real)
    assert kept_secret(link, PEPPER) == kept_secret(real, PEPPER)
    tell_url(link, "http://127.0.0.1:8081")
    assert (real / INTERNAL_URL).is_file()
    real.chmod(0o777)
    with pytest.raises(BadSecret, match="chmod go-w"):
        kept_secret(real, PEPPER)


@pytest.mark.parametrize("text", ["", "short", "two words in one file here", "ä" * 30, "a\x00" * 20, WORD * 300])
def test_what_is_no_secret_is_refused_and_not_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / PEPPER
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(BadSecret, match="openssl rand") as given:
        given_secret(path)
    with pytest.raises(BadSecret, match="openssl rand") as kept:
        kept_secret(tmp_path, PEPPER)
    assert not text or text not in f"{given.value}{kept.value}"
    assert path.read_text() == text


def test_a_given_secret_may_be_a_mounted_one(tmp_path: Path) -> None:
    real = tmp_path / "..data"
    real.write_text(f"{WORD}\n")
    real.chmod(0o440)
    link = tmp_path / "pepper"
    link.symlink_to(real)
    assert given_secret(link) == WORD
    with pytest.raises(BadSecret, match="No such file"):
        given_secret(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadSecret):  # and does not wait for a writer
        given_secret(tmp_path / "pipe")


def test_the_url_is_told_in_a_file_that_is_replaced(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:8081", "http://127.0.0.1:9091"):
        tell_url(tmp_path, url)
        assert (tmp_path / INTERNAL_URL).read_text() == f"{url}\n"
    assert [path.name for path in tmp_path.iterdir()] == [INTERNAL_URL]
    assert stat.S_IMODE((tmp_path / INTERNAL_URL).stat().st_mode) == 0o600


def test_an_admin_token_is_matched_whole_and_not_shown() -> None:
    token = AdminToken(WORD)
    assert token.matches(WORD)
    for wrong in ("", WORD[:-1], WORD + "x", WORD.upper(), "ü", "\ud800"):
        assert not token.matches(wrong)
    assert WORD not in repr(token)
