"""The client of the routes for keys, and what the command prints of keys."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tierserve.operators import Operator
from tierserve.shown import cell, visible


class Keys(Operator):
    """Makes and ends keys. Every method raises ``TierserveError``."""

    def create(self, terms: Mapping[str, Any]) -> dict[str, Any]:
        """Make a key; the answer has its text as ``key``."""
        return self.ask("POST", "/v1/keys", terms)

    def keys(self) -> list[dict[str, Any]]:
        """All keys."""
        found: list[dict[str, Any]] = self.ask("GET", "/v1/keys")["keys"]
        return found

    def key(self, key_id: str) -> dict[str, Any]:
        """One key."""
        return self.ask("GET", f"/v1/keys/{key_id}")

    def rotate(self, key_id: str, terms: Mapping[str, Any]) -> dict[str, Any]:
        """Make a key in place of this one; the answer has its text as ``key``, and the old one as ``replaces``."""
        return self.ask("POST", f"/v1/keys/{key_id}/rotate", terms)

    def revoke(self, key_id: str) -> dict[str, Any]:
        """Revoke a key."""
        return self.ask("DELETE", f"/v1/keys/{key_id}")


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
