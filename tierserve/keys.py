"""The client of the routes for keys, and what the command prints of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tierserve.operators import Operator
from tierserve.shown import cell, plain_table, remark, say, say_json, show


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
        say_json(made)
        return
    say(made["key"])
    ends = f"ends at {made['expires_at']}" if made["expires_at"] else "never ends"
    remark(
        f"The key {made['id']} of {made['owner']} opens {', '.join(made['tiers'])} and {ends}. It is shown only now."
    )
    if replaced := made.get("replaces"):
        remark(f"The key {replaced['id']}, which it replaces, ends at {replaced['expires_at']}.")


def show_keys(keys: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print keys as a table."""
    if as_json:
        say_json(keys)
        return
    table = plain_table("id", "owner", "tiers", "status", "ends (UTC)", "weight", "limits")
    table.columns[0].no_wrap = True
    for key in keys:
        limits = " ".join(f"{name}={value:g}" for name, value in key["limits"].items())
        ends = (key["expires_at"] or "never")[:19].replace("T", " ")
        cells = (key["id"], key["owner"], ", ".join(key["tiers"]), key["status"], ends, f"{key['weight']:g}", limits)
        table.add_row(*map(cell, cells))
    show(table)


def show_revoked(key: Mapping[str, Any], as_json: bool) -> None:
    """Print that a key is revoked."""
    if as_json:
        say_json(key)
    else:
        remark(f"The key {key['id']} of {key['owner']} is revoked: every server refuses it within 2 s.")
