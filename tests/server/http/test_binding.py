"""Where a port listens, on a machine with addresses of both families."""

from __future__ import annotations

import errno
import socket
from contextlib import closing, suppress

import pytest

from server.http import binding
from tests.running import free_port


def reached(url: str, host: str) -> bool:
    """Whether somebody listens at the URL's port of another address."""
    with suppress(OSError), socket.create_connection((host, int(url.rpartition(":")[2])), timeout=1):
        return True
    return False


@pytest.mark.parametrize(
    ("host", "shown", "addresses"),
    [
        ("127.0.0.1", "127.0.0.1", {"127.0.0.1"}),
        ("0.0.0.0", "127.0.0.1", {"127.0.0.1", "127.0.0.2"}),
        ("::1", "[::1]", {"::1"}),
        ("0:0:0:0:0:0:0:1", "[::1]", {"::1"}),
        ("::", "127.0.0.1", {"127.0.0.1", "127.0.0.2", "::1"}),
        ("localhost", "localhost", {"127.0.0.1"}),
    ],
)
def test_a_port_listens_at_its_addresses_and_no_others(host: str, shown: str, addresses: set[str]) -> None:
    sockets = binding.bind(0, host, "server.port")
    try:
        url = binding.url(sockets, host)
        assert url == f"http://{shown}:{sockets[0].getsockname()[1]}"
        others = {"127.0.0.1", "127.0.0.2", "::1"} - ({"::1"} if host == "localhost" else set())
        assert {address for address in others if reached(url, address)} == addresses
    finally:
        for one in sockets:
            one.close()


def test_all_addresses_are_those_of_ipv4_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(socket.socket):
        """A socket of a kernel that was started without IPv6."""

        def __init__(self, family: int = -1, *others: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *others)

    monkeypatch.setattr(socket, "socket", Old)
    sockets = binding.bind(0, "::", "server.port")
    assert [one.family for one in sockets] == [socket.AF_INET]
    sockets[0].close()


# Tornado leaves the socket that it could not bind to the garbage collection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_taken_port_and_an_address_of_another_machine_are_refused_in_words() -> None:
    port = free_port()
    with closing(socket.create_server(("127.0.0.1", port))):
        for host in ("127.0.0.1", "::"):
            with pytest.raises(binding.CannotListen, match=f"port {port} of {host} is in use. Choose another: make"):
                binding.bind(port, host, "server.port")
    with pytest.raises(binding.CannotListen, match=r"cannot listen on 2001:db8::1, port 0: Cannot assign requested"):
        binding.bind(0, "2001:db8::1", "server.port")
