"""The address of a client is what trusted proxies say of it, and nobody else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.addresses import forwarded
from server.settings.live import Live
from server.settings.sources import Files
from tests.server.http.http_site import Site, running

PROXIES = ("10.0.0.0/8", "192.168.7.7/32", "fd00::/8")


@pytest.mark.parametrize(
    ("connection", "headers", "address"),
    [
        ("10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["198.51.100.1, 203.0.113.9,10.9.9.9 , 192.168.7.7"], "203.0.113.9"),
        ("10.1.2.3", ["198.51.100.1", "203.0.113.9", "10.9.9.9"], "203.0.113.9"),
        ("::ffff:10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["2001:DB8::0001, fd00::2"], "2001:db8::1"),
        ("10.1.2.3", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.1.2.3", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.1.2.3", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["fe80::1%eth0"], "fe80::1"),
        # None is said, or only trusted ones.
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["10.9.9.9"], "10.1.2.3"),
        # What is no address hides what stands before it.
        ("10.1.2.3", ["203.0.113.9, unknown"], "10.1.2.3"),
        ("10.1.2.3", ["203.0.113.9, "], "10.1.2.3"),
        ("10.1.2.3", ["203.0.113.9, 10.9.9.9.9, 10.9.9.9"], "10.1.2.3"),
        ("10.1.2.3", ["garbage, 203.0.113.9"], "203.0.113.9"),
        # Whoever is no proxy says it of itself.
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("2001:db8::7", ["198.51.100.1"], "2001:db8::7"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_last_address_that_is_no_proxys(connection: str, headers: list[str], address: str) -> None:
    assert forwarded(connection, headers, PROXIES) == address


@given(st.lists(st.text(st.characters(codec="latin-1")), max_size=4), st.ip_addresses())
def test_what_a_client_sends_itself_changes_nothing(sent: list[str], client: object) -> None:
    trusted = ("203.0.113.0/24",)
    address = forwarded("203.0.113.1", [", ".join([*sent, str(client)])], trusted)
    assert address == forwarded("203.0.113.1", [str(client)], trusted)
    assert forwarded("198.51.100.1", sent, trusted) == "198.51.100.1"


def test_what_a_caller_is_counted_by(tmp_path: Path) -> None:
    """One who is behind a trusted proxy is not the proxy; of IPv6, the network is."""
    live = Live(Files(overrides=("server.host=0.0.0.0", "server.trustedProxies={127.0.0.1/32}")))
    with running(tmp_path, live) as site:
        for said in ("203.0.113.9", "2001:db8:1:2:3::4", "203.0.113.9, unknown", None):
            headers: dict[str, str] = {} if said is None else {"X-Forwarded-For": said}
            assert site.submit(headers=headers).status == 202
        assert callers(tmp_path) == [
            "address:203.0.113.9/32",
            "address:2001:db8:1:2::/64",
            "address:127.0.0.1/32",
            "address:127.0.0.1/32",
        ]


def test_without_trusted_proxies_no_header_counts(site: Site, tmp_path: Path) -> None:
    assert site.submit(headers={"X-Forwarded-For": "203.0.113.9"}).status == 202
    assert callers(tmp_path) == ["address:127.0.0.1/32"]


def callers(folder: Path) -> list[str]:
    """Whose predictions are kept, the oldest first."""
    with closing(sqlite3.connect(folder / "data" / "queue.db")) as connection:
        return [caller for (caller,) in connection.execute("SELECT caller FROM predictions ORDER BY seq")]
