"""Triton's and KServe's own clients, unchanged, against a server with real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.checks import CAT, check_kserve, check_triton
from tests.running import Service, service


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(models, tmp_path_factory.mktemp("foreign")) as found:
        yield found


def ours(server: Service) -> list[dict[str, Any]]:
    labels: list[dict[str, Any]] = server.post("free", CAT.read_bytes()).json["results"][0]["labels"]
    return labels


def test_tritons_client_gets_what_our_own_route_says(server: Service) -> None:
    expected = ours(server)  # by now the server knows what it serves
    check_triton(f"127.0.0.1:{server.port}", expected, server.get("/v1/tiers/free").json["model"]["labels"])


def test_kserves_client_gets_what_our_own_route_says_in_both_versions(server: Service) -> None:
    check_kserve(f"http://127.0.0.1:{server.port}", ours(server))
