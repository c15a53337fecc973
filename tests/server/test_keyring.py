"""Keys: their text and digests, who is recognized by them, and the files of hashed keys."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access.callers import Caller
from server.access.keyring import Keyring
from server.access.keys import KEY, KeyRefused, Pepper, Terms, from_record, limits_of, make, moment, record, shown
from server.queue import Key, PepperDiffers, Queue, StorageError
from tests.server.given import HandClock
from tests.server.http.http_site import FailingDatabase

PEPPER = Pepper("a pepper of tests")
NOW = 1_800_000_000.0


class Ring:
    """A keyring over a real queue, and a file of keys beside it."""

    def __init__(self, folder: Path, file: Path | None = None) -> None:
        self.clock = HandClock(NOW)
        database = FailingDatabase.open(folder / "data", self.clock)
        assert isinstance(database, FailingDatabase)
        self.database, self.queue = database, Queue(database)
        self.keyring = Keyring(self.queue, PEPPER, self.clock, file)

    def add(self, terms: Terms) -> tuple[str, Key]:
        text, key = make(PEPPER, terms, self.clock())
        self.queue.add_key(key, PEPPER.check).result()
        return text, key

    def refused(self, text: str) -> str:
        with pytest.raises(KeyRefused) as error:
            self.keyring.recognize(text)
        assert not text or text not in error.value.detail
        return error.value.code


@contextmanager
def ring(folder: Path, file: Path | None = None) -> Iterator[Ring]:
    found = Ring(folder, file)
    try:
        yield found
    finally:
        found.database.close()


def test_a_key_has_160_random_bits_and_only_its_digest_is_kept() -> None:
    text, key = make(PEPPER, Terms("anna", ["free"]), NOW)
    named = KEY.fullmatch(text)
    assert named is not None
    assert named[1] == key.id
    assert len(text.rpartition("_")[2]) * 5 == 160
    assert key.digest == hmac.new(b"a pepper of tests", text.encode(), hashlib.sha256).hexdigest()
    assert text.rpartition("_")[2] not in repr((key, shown(key), record(key)))
    assert make(PEPPER, Terms("anna", ["free"]), NOW)[0] != text


def test_an_owner_is_recognized_by_each_of_its_keys(tmp_path: Path) -> None:
    with ring(tmp_path) as site:
        first, key = site.add(Terms("anna", ["free", "premium"], limits={"queued": 3}, weight=2.0))
        second, other = site.add(Terms("anna", ["free"]))
        site.keyring.refresh()
        caller = site.keyring.recognize(first)
        assert caller == Caller("owner:anna", "anna", key.id, frozenset({"free", "premium"}), {"queued": 3}, 2.0)
        assert site.keyring.recognize(second).key == other.id
        assert site.keyring.recognize(second).name == caller.name


def test_whatever_is_no_key_of_ours_is_refused_alike(tmp_path: Path) -> None:
    with ring(tmp_path) as site:
        text, key = site.add(Terms("anna", ["free"]))
        elsewhere, _ = make(Pepper("another pepper"), Terms("anna", ["free"]), NOW)
        site.queue.add_key(replace(key, id="0" * 12), PEPPER.check).result()  # the right digest under another id
        site.keyring.refresh()
        last = "a" if text[-1] != "a" else "b"
        wrong = [text[:-1] + last, f"tsk_{'0' * 12}_{'a' * 32}", elsewhere, f"tsk_{'0' * 12}_{text[17:]}"]
        odd = ["", "tsk_", text.upper(), f" {text}", f"{text}\n", text[:-1], f"{text}a", "ü" * 49, "\ud800", "x" * 9999]
        assert {site.refused(one) for one in wrong + odd} == {"key_unknown"}
        assert site.keyring.recognize(text).key == key.id


@given(st.text(max_size=80))
def test_no_other_text_is_a_key(text: str) -> None:
    with pytest.raises(KeyRefused, match="none of this service's"):
        _EMPTY.recognize(text)


class Counting(Pepper):
    """Counts the digests that are made."""

    made = 0

    def digest(self, key: str) -> str:
        self.made += 1
        return super().digest(key)


def test_an_id_that_does_not_exist_costs_the_same_work_as_a_wrong_secret(tmp_path: Path) -> None:
    pepper = Counting("a pepper of tests")
    with ring(tmp_path) as site:
        text, _ = site.add(Terms("anna", ["free"]))
        keyring = Keyring(site.queue, pepper, site.clock)
        keyring.refresh()
        counts = []
        for one in (text, text[:-1] + "a", f"tsk_{'0' * 12}_{'a' * 32}", "no key"):
            before = pepper.made
            try:
                keyring.recognize(one)
            except KeyRefused as error:
                assert error.code == "key_unknown"
            counts.append(pepper.made - before)
        assert counts == [1, 1, 1, 1]


def test_a_revoked_and_an_expired_key_are_told_apart_only_to_who_has_them(tmp_path: Path) -> None:
    with ring(tmp_path) as site:
        revoked, key = site.add(Terms("anna", ["free"]))
        expiring, _ = site.add(Terms("anna", ["free"], expires_at=NOW + 10))
        site.queue.revoke_key(key.id).result()
        site.keyring.refresh()
        assert site.refused(revoked) == "key_revoked"
        site.keyring.recognize(expiring)
        site.clock.advance(10)
        assert site.refused(expiring) == "key_expired"  # with no look at the database in between
        assert site.refused(revoked[:-1] + ("a" if revoked[-1] != "a" else "b")) == "key_unknown"


def test_the_last_good_keys_stay_while_the_database_is_away(tmp_path: Path) -> None:
    with ring(tmp_path) as site:
        text, key = site.add(Terms("anna", ["free"]))
        site.keyring.refresh()
        site.database.failure = StorageError("the disk refused")
        with pytest.raises(StorageError):
            site.keyring.refresh()
        assert site.keyring.recognize(text).owner == "anna"
        site.database.failure = None
        site.queue.revoke_key(key.id).result()
        site.keyring.refresh()
        assert site.refused(text) == "key_revoked"


def test_keys_are_read_again_only_when_they_have_changed(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    replace_file(file, [record(make(PEPPER, Terms("bert", ["free"]), NOW)[1])])
    with ring(tmp_path, file) as site:
        site.add(Terms("anna", ["free"]))
        site.keyring.refresh()
        before = site.keyring.held()
        site.keyring.refresh()
        assert [one is other for one, other in zip(before, site.keyring.held(), strict=True)] == [True, True]


def test_keys_of_another_pepper_are_a_problem_that_is_told(tmp_path: Path) -> None:
    with ring(tmp_path) as site:
        site.add(Terms("anna", ["free"]))
        other = Keyring(site.queue, Pepper("another pepper"), site.clock)
        with pytest.raises(PepperDiffers):
            other.refresh()
        assert "another pepper" in other.problem


def test_a_file_of_hashed_keys_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys.yaml"
    text, key = make(PEPPER, Terms("anna", ["premium"], limits=limits_of({"perDay": 5}), weight=2.0), NOW)
    other, second = make(PEPPER, Terms("bert", ["free"], expires_at=NOW + 100), NOW)
    with ring(tmp_path, file) as site, caplog.at_level(logging.INFO):
        site.keyring.refresh()  # the Secret may come later
        assert site.refused(text) == "key_unknown"
        replace_file(file, [record(key)])
        site.keyring.refresh()
        assert site.keyring.recognize(text).own_limits == {"per_day": 5}
        assert site.keyring.recognize(text).weight == 2.0
        replace_file(file, [record(second)])
        site.keyring.refresh()
        assert site.refused(text) == "key_unknown"
        assert site.keyring.recognize(other).owner == "bert"
        assert [(one.key.id, one.in_file) for one in site.keyring.held()] == [(second.id, True)]
        site.clock.advance(101)
        assert site.refused(other) == "key_expired"
        told = [one.getMessage() for one in caplog.records if one.name == "server.audit"]
        assert {tuple(line.split()[:3]) for line in told} == {
            ("key", "added:", f"id={key.id}"),
            ("key", "removed:", f"id={key.id}"),
            ("key", "added:", f"id={second.id}"),
        }


def test_a_wrong_file_keeps_the_last_good_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys.yaml"
    text, key = make(PEPPER, Terms("anna", ["free"]), NOW)
    good = record(key)
    replace_file(file, [good])
    with ring(tmp_path, file) as site:
        site.keyring.refresh()
        for bad, why in (
            ([good | {"digest": text}], "digest"),
            ([good | {"owner": "anonymous"}], "owner"),
            ([good | {"expires": "2030-01-01T00:00:00"}], "expires"),
            ([good, good], "unique"),
            ([good | {"colour": "red"}], "colour"),
            ([good | {"weight": 0}], "weight"),
        ):
            replace_file(file, bad)
            site.keyring.refresh()
            assert why in site.keyring.problem
            assert "keys.yaml" in site.keyring.problem
            assert text not in site.keyring.problem + caplog.text
            assert site.keyring.recognize(text).owner == "anna"
        replace_file(file, [good])
        site.keyring.refresh()
        assert site.keyring.problem == ""


def test_a_folder_of_files_counts_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    texts = []
    for owner in ("anna", "bert"):
        text, key = make(PEPPER, Terms(owner, ["free"]), NOW)
        replace_file(folder / f"{owner}.yaml", [record(key)])
        texts.append(text)
    with ring(tmp_path, folder) as site:
        site.keyring.refresh()
        assert [site.keyring.recognize(text).owner for text in texts] == ["anna", "bert"]
        (folder / "anna.yaml").unlink()
        site.keyring.refresh()
        assert site.refused(texts[0]) == "key_unknown"


def test_a_key_of_the_database_goes_before_the_same_key_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    with ring(tmp_path, file) as site:
        text, key = site.add(Terms("anna", ["free"]))
        replace_file(file, [record(key)])
        site.queue.revoke_key(key.id).result()
        site.keyring.refresh()
        assert site.refused(text) == "key_revoked"


def test_the_file_is_followed_while_the_database_is_away(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    text, key = make(PEPPER, Terms("anna", ["free"]), NOW)
    replace_file(file, [record(key)])
    with ring(tmp_path, file) as site:
        site.keyring.refresh()
        site.database.failure = StorageError("the disk refused")
        file.unlink()
        with pytest.raises(StorageError):
            site.keyring.refresh()
        assert site.refused(text) == "key_unknown"


def test_a_record_is_the_key_again() -> None:
    terms = Terms("anna", ["free"], NOW + 0.5, limits_of({"perSecond": 2.5, "bytesQueued": 7}), 3.0)
    _, key = make(PEPPER, terms, NOW)
    assert from_record(json.loads(json.dumps(record(key)))) == replace(key, created_at=0.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 90 * 86400), ("12h", 43200), ("30m", 1800), ("45s", 45), ("2w", 1209600), ("99999w", 99999 * 604800)],
)
def test_ends_of_keys_in_words(text: str, seconds: int) -> None:
    assert moment(text, NOW) == NOW + seconds
    shown(make(PEPPER, Terms("anna", ["free"], moment(text, NOW)), NOW)[1])


def test_ends_of_keys_as_moments() -> None:
    assert moment("2030-01-31T00:00:00Z", NOW) == moment("2030-01-31T01:00:00+01:00", NOW) == 1896048000
    for wrong in ("", "d", "90", "-1d", "1.5d", "2030-01-31", "2030-01-31T00:00:00", "9" * 99, "0y"):
        with pytest.raises(ValueError, match="is no time such as"):
            moment(wrong, NOW)
    with pytest.raises(ValueError, match="is over already"):
        moment("2020-01-31T00:00:00Z", NOW)


def replace_file(file: Path, records: list[dict[str, object]]) -> None:
    """As a mounted Secret changes: another file takes the place of the old one."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"keys": records}))
    new.replace(file)


class _NoQueue(Queue):
    def __init__(self) -> None:
        """It is never asked."""


_EMPTY = Keyring(_NoQueue(), PEPPER, lambda: NOW)
