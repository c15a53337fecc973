"""``chart/values.yaml``, its schema and the cases of ``chart/ci``. These tests need no other program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from server import shipped
from server.settings import documents
from server.settings import values as config
from server.settings.documents import Schema
from tests.chart.charts import CASES

ROOT = documents.schema("values")
VALUES = documents.read(shipped.DEFAULT_VALUES).value
SINK = documents.read(CASES["kitchen-sink"]).value


def parts(part: Schema = ROOT, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every part of the schema with its path. In paths a tier's name is ``*``, and a list's item is ``[]``."""
    yield path, part
    inner = dict(part.get("properties", {}))
    inner |= {key: part[word] for key, word in (("*", "additionalProperties"), ("[]", "items")) if part.get(word)}
    for key, sub in inner.items():
        yield from parts(documents.resolve(ROOT, sub), f"{path}/{key}")


def paths(value: Any, part: Schema = ROOT, path: str = "") -> Iterator[str]:
    """The path, as in ``parts``, of every value that the schema describes."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else [("[]", item) for item in value]
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        known = part.get("properties", {}).get(key)
        sub = known or part.get("items" if key == "[]" else "additionalProperties")
        if sub:
            yield from paths(item, documents.resolve(ROOT, sub), f"{path}/{key if known or key == '[]' else '*'}")


def test_every_part_of_the_schema_is_closed_and_described() -> None:
    free = {"global", "affinity", "topologySpreadConstraints", "extraEnv", "extraVolumes", "extraVolumeMounts"}
    free |= {"extraObjects", "namespaceSelector", "podSelector", "ipBlock"}
    for path, part in parts():
        assert part["title"], path
        assert part["description"].endswith("."), path
        if part.get("type") == "object" and not free & set(path.split("/")):
            assert part["additionalProperties"] is False or isinstance(part["additionalProperties"], dict), path
        if part.get("type") in ("string", "array") and "pattern" not in part and "items" not in part:
            assert "maxLength" in part, path


def test_values_yaml_has_every_key_of_the_schema_and_no_other() -> None:
    optional = {path for path, _ in parts() if "[]" in path or "*" in path.split("/")[3:]}
    optional |= {f"/{key}/*" for key in ("jobTemplates", "commonLabels", "commonAnnotations")} | {"/tiers/*/quota/gpus"}
    optional |= {path for path, _ in parts() if path.startswith("/capacity/")}
    known = {path for path, _ in parts()} - optional
    assert set(paths(VALUES)) - optional == known


def test_values_yaml_has_the_schemas_defaults() -> None:
    for path, part in parts():
        if "default" in part and "*" not in path and "[]" not in path:
            found = VALUES
            for key in path.split("/")[1:]:
                found = found[key]
            assert found == part["default"], path


def test_the_kitchen_sink_writes_every_value() -> None:
    peers = {path for path, _ in parts() if "/networkPolicy/" in path and "[]/" in path}
    unwritten = {path for path, _ in parts()} - set(paths(SINK)) - peers - {"/global"}
    assert unwritten == set()


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_what_the_server_takes_too(name: str) -> None:
    assert config.load(CASES[name]).tiers


def test_there_are_at_least_twelve_cases() -> None:
    assert len(CASES) >= 12
