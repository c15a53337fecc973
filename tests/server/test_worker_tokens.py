"""The tokens of workers."""

from __future__ import annotations

import pytest

from server.access.workers import AccessDenied, Worker, WorkerTokens

TOKENS = WorkerTokens(b"secret")


def test_a_token_names_tier_and_job() -> None:
    assert TOKENS.check(TOKENS.mint("free", "tierserve-free-a1")) == Worker("free", "tierserve-free-a1")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "free.job",
        "free.job.",
        "ü.job.x",
        TOKENS.mint("free", "job").replace("free", "premium"),
        TOKENS.mint("free", "job") + "0",
        TOKENS.mint("free", "job")[:-1],
        WorkerTokens(b"another").mint("free", "job"),
    ],
)
def test_nothing_else_is_believed(token: str) -> None:
    with pytest.raises(AccessDenied):
        TOKENS.check(token)
