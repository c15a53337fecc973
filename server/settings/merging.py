"""Merges values as Helm does."""

from __future__ import annotations

from typing import Any

from server.settings.documents import Document


def merge(below: Document, above: Document) -> Document:
    """Merge ``above`` into ``below``: mappings are merged, and other values replace; an empty document changes nothing.

    A null replaces, too, and stays: it takes a default away when all is laid ``over`` the chart's values.
    """
    value = {} if above.value is None else above.value
    return Document(_merged(below.value, value), above.file, {**below.locations, **above.locations})


def over(defaults: Document, values: Document) -> Document:
    """Lay ``values`` over the chart's: as ``merge``, but a null removes the key, if the chart has a value for it."""
    value = _coalesced(defaults.value, {} if values.value is None else values.value)
    return Document(value, values.file, {**defaults.locations, **values.locations})


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merged(below.get(key), value) for key, value in above.items()}


def _coalesced(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {
        key: _coalesced(below.get(key), above[key]) if key in above else below[key]
        for key in below | above
        if above.get(key, "") is not None or below.get(key) is None
    }
