"""The client of the operators' routes, and what the command prints of keys."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from client.client import HINT, ClientError
from client.console import cell, visible

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 60.0
# What a port says that has no such routes, or does not take the token.
OTHER_PORT = frozenset({"bad_admin_token", "no_such_route", "key_unknown", "too_many_wrong_keys"})
HELP = (
    "On a laptop, name the state folder of the server with --state. Elsewhere, name its internal port with --url and "
    "the file of its admin token with --admin-token-file."
)


class Operator:
    """Asks the internal port at ``url`` with the admin token. Every method raises ``ClientError``."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url.rstrip("/"), token

    def create(self, terms: Mapping[str, Any]) -> dict[str, Any]:
        """Make a key; the answer has its text as ``key``."""
        return self._ask("POST", "/v1/keys", terms)

    def keys(self) -> list[dict[str, Any]]:
        """All keys."""
        found: list[dict[str, Any]] = self._ask("GET", "/v1/keys")["keys"]
        return found

    def key(self, key_id: str) -> dict[str, Any]:
        """One key."""
        return self._ask("GET", f"/v1/keys/{key_id}")

    def rotate(self, key_id: str, terms: Mapping[str, Any]) -> dict[str, Any]:
        """Make a key in place of this one; the answer has its text as ``key``, and the old one as ``replaces``."""
        return self._ask("POST", f"/v1/keys/{key_id}/rotate", terms)

    def revoke(self, key_id: str) -> dict[str, Any]:
        """Revoke a key."""
        return self._ask("DELETE", f"/v1/keys/{key_id}")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return asyncio.run(self._answer(method, path, body))

    async def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        request = HTTPRequest(
            self._url + path,
            method,
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            None if body is None else json.dumps(body).encode(),
            connect_timeout=CONNECT_SECONDS,
            request_timeout=ANSWER_SECONDS,
            follow_redirects=False,  # the token is not for whoever the server names
        )
        try:
            response = await AsyncHTTPClient().fetch(request, raise_error=False)
        except (OSError, HTTPClientError, ValueError) as error:
            raise ClientError(f"no server answers at {self._url} ({error}). {HINT}") from error
        try:
            answer = json.loads(response.body or b"")
            if "code" in answer:
                hint = f". {HELP}" if answer["code"] in OTHER_PORT else ""
                raise ClientError(f"{answer['code']}: {answer['detail']}{hint}")
        except (ValueError, TypeError, LookupError) as error:
            raise ClientError(f"{self._url} answered {response.code}, and not as a server does. {HELP}") from error
        return dict(answer)


def show_new(made: Mapping[str, Any], as_json: bool) -> None:
    """Print a new key, alone on standard output, so that a program can take it."""
    if as_json:
        print(json.dumps(made, indent=2))  # noqa: T201
        return
    print(visible(made["key"]))  # noqa: T201
    ends = f"ends at {made['expires_at']}" if made["expires_at"] else "never ends"
    _say(f"The key {made['id']} of {made['owner']} opens {', '.join(made['tiers'])} and {ends}. It is shown only now.")
    if replaced := made.get("replaces"):
        _say(f"The key {replaced['id']}, which it replaces, ends at {replaced['expires_at']}.")


def show_keys(keys: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print keys as a table."""
    if as_json:
        print(json.dumps(keys, indent=2))  # noqa: T201
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("id", "owner", "tiers", "status", "ends (UTC)", "weight", "limits"):
        table.add_column(name, no_wrap=name == "id")
    for key in keys:
        limits = " ".join(f"{name}={value:g}" for name, value in key["limits"].items())
        ends = (key["expires_at"] or "never")[:19].replace("T", " ")
        cells = (key["id"], key["owner"], ", ".join(key["tiers"]), key["status"], ends, f"{key['weight']:g}", limits)
        table.add_row(*map(cell, cells))
    Console().print(table)


def show_revoked(key: Mapping[str, Any], as_json: bool) -> None:
    """Print that a key is revoked."""
    if as_json:
        print(json.dumps(key, indent=2))  # noqa: T201
    else:
        _say(f"The key {key['id']} of {key['owner']} is revoked: every server refuses it within 2 s.")


def _say(sentence: str) -> None:
    print(visible(sentence), file=sys.stderr)  # noqa: T201
