"""Objects of the cluster whose text in messages is short."""

from __future__ import annotations

from typing import Any

FACTS = ("phase", "reason", "message", "active", "ready", "succeeded", "failed", "terminating")


class Thing(dict[str, Any]):
    """An object of the API server. It shows only what tests look at, because its whole text would fill pages."""

    def __repr__(self) -> str:
        meta, spec, status = self["metadata"], self.get("spec", {}), self.get("status", {})
        facts = {fact: status[fact] for fact in FACTS if fact in status}
        facts |= {"node": spec["nodeName"]} if "nodeName" in spec else {}
        facts |= {"deleted": meta["deletionTimestamp"]} if "deletionTimestamp" in meta else {}
        for container in status.get("containerStatuses", ()):
            facts[container["name"]] = {key: container[key] for key in ("ready", "restartCount", "state")}
        return f"<{self.get('kind', 'object')} {meta['name']} {facts}>"
