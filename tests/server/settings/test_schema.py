"""The schema of the values: its defaults, who reads them, and the page made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import shipped
from server.settings import documents, reference
from server.settings.documents import Schema


def leaves(part: Schema, path: str = "") -> list[tuple[str, Schema]]:
    if "default" in part:
        return [(path, part)]
    root = documents.schema("values")
    known = {f"{path}/{key}": documents.resolve(root, sub) for key, sub in part.get("properties", {}).items()}
    if isinstance(part.get("additionalProperties"), dict):
        known[f"{path}/*"] = documents.resolve(root, part["additionalProperties"])
    inner = [leaf for at, sub in known.items() for leaf in leaves(sub, at)]
    return inner or [(path, part)]


def all_parts(part: Schema) -> list[Schema]:
    root = documents.schema("values")
    subs = [*part.get("properties", {}).values(), part.get("additionalProperties"), part.get("items")]
    inner = [all_parts(documents.resolve(root, sub)) for sub in subs if isinstance(sub, dict)]
    return [part, *(each for parts in inner for each in parts)]


FREE = {"/tiers/*/access/anonymous": True}
PREMIUM = {
    "/tiers/*/access/perSecond": 0,
    "/tiers/*/access/burst": 0,
    "/tiers/*/access/queued": 500,
    "/tiers/*/access/bytesQueued": 1073741824,
    "/tiers/*/model/variant": "fp32",
    "/tiers/*/waits/idleSeconds": 300,
}


@pytest.mark.parametrize(("tier", "differs"), [("free", FREE), ("premium", PREMIUM)])
def test_the_schemas_defaults_are_the_charts(tier: str, differs: dict[str, object]) -> None:
    values = documents.read(shipped.DEFAULT_VALUES).value
    for path, part in leaves(documents.schema("values")):
        if "default" in part:
            found = values
            for key in path.replace("*", tier).split("/")[1:]:
                found = found[key]
            assert found == differs.get(path, part["default"]), path


def test_the_schema_is_written_for_readers() -> None:
    for part in all_parts(documents.schema("values")):
        assert part["title"]
        assert part["description"].endswith(".")
    for path, part in leaves(documents.schema("values")):
        assert "default" in part or part["examples"], path


def test_the_reference_page_is_current() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), f"run {reference.COMMAND}"
    assert reference.README.read_text(encoding="utf-8") == reference.readme(), f"run {reference.COMMAND}"


def test_the_reference_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "PAGE", tmp_path / "configuration.md")
    monkeypatch.setattr(reference, "README", tmp_path / "README.md")
    assert reference.main(["--check"]) == 1
    assert "is stale: run python -m server.settings.reference" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    (tmp_path / "README.md").write_text("")
    assert reference.main(["--check"]) == 1
    assert reference.main(["--help"]) == 2


def test_the_chart_has_no_link_and_is_whole_without_the_rest_of_the_repository() -> None:
    """GitOps tools copy a chart's folder without its links, and Helm then accepts whatever the schema would refuse."""
    chart = shipped.ROOT / "chart"
    assert [path for path in chart.rglob("*") if path.is_symlink()] == []
    assert (shipped.SCHEMAS / "values.schema.json").resolve() == chart / "values.schema.json"
    assert shipped.TEMPLATES.resolve() == chart / "files" / "jobtemplates"
