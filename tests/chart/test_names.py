"""Words that YAML or Kubernetes take for something else, wherever the values may have them.

Of each word two charts are rendered, one with the word and one with ``PLAIN`` in its place. They may differ in nothing
else: an unquoted ``on`` would be ``true`` in one of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from server import shipped
from server.settings import documents, merging, rules
from server.settings.documents import Schema
from tests.chart import schemas
from tests.chart.charts import CASES, Chart, Object, identity, only

pytestmark = pytest.mark.cluster

ROOT = documents.schema("values")
SINK = merging.over(documents.read(shipped.DEFAULT_VALUES), documents.read(CASES["kitchen-sink"])).value
PLAIN = "zq"
NAMES = ("no", "on", "true", "null", "9991103", "1e3", "0x1f", "0o17", "007")
TEXTS = (
    *(*NAMES, "y", "1.10", "1_000", "+5", ".5", ".inf", "0b1", "12:30:45", "2001-01-01", "~", "", "=", "<<", "-"),
    *("- a", "{x", "[x", "# c", "'", '"', "\\", "a: b", "a #b", " a ", "!!int 3", "&a", "*a", "%", "@", "`", "|"),
    *(">", "?", "{{ x }}", "\t", "\n", "a\nb\n", "\r\n", "\ufeff", "é", "🐈", "x" * 200 + " y"),
)
ANNOTATIONS = {f"k{number}": text for number, text in enumerate(TEXTS)}
JOB = {"annotations": ANNOTATIONS, "env": {key.upper(): text for key, text in [*ANNOTATIONS.items()][:50]}}
AS_THEY_ARE = (  # places whose text means something to the chart
    *("extraObjects", "pod/resources", "quota", "persistence/size", "template", "server/tracing", "blobs/url"),
    *("job/cpu", "job/memory", "job/modelStorage", "server/host", "server/cors", "server/trustedProxies"),
    *("service/loadBalancerSourceRanges", "namespace"),
)


class AsHelm(yaml.SafeLoader):
    """Takes ``=`` and ``<<`` for text."""


for tag in ("value", "merge"):
    AsHelm.add_constructor(f"tag:yaml.org,2002:{tag}", lambda loader, node: node.value)


def _regex(place: str) -> re.Pattern[str]:
    return re.compile("".join(f"/{'[^/]+' if part == '*' else re.escape(part)}" for part in place.split(".")))


FORMS = [
    (kind, _regex(place), form["pattern"])
    for form in rules.book()["forms"]
    for kind in ("values", "keys")
    for place in form.get(kind, ())
]


def fits(word: str, part: Schema, path: str, kind: str) -> bool:
    """Whether the schema and the rules take the word for the value, or for the key, of this path."""
    if not part.get("minLength", 0) <= len(word) <= part.get("maxLength", 4096):
        return False
    patterns = [pattern for of, place, pattern in FORMS if of == kind and place.fullmatch(path)]
    return bool(re.search(part.get("pattern", ""), word)) and all(re.fullmatch(each, word) for each in patterns)


def worded(value: Any, part: Schema, word: str, put: str, path: str = "") -> Any:
    """``value`` with ``put`` in the place of each text and name in it for which ``word`` is allowed."""
    if any(path.endswith(f"/{place}") or f"/{place}/" in path for place in AS_THEY_ARE):
        return value
    if isinstance(value, dict):
        known, other = part.get("properties", {}), part.get("additionalProperties")
        parts = {key: known.get(key) or other or {} for key in value}
        done = {key: worded(item, _of(parts[key]), word, put, f"{path}/{key}") for key, item in value.items()}
        last = next((key for key in reversed(done) if key not in known), None)
        names = _of(part.get("propertyNames", {}))
        new = isinstance(other, dict) and fits(word, names, f"{path}/{last}", "keys")
        new = new and (path, word) != ("/tiers", "true")  # which is refused
        return {put if new and key == last else key: item for key, item in done.items()}
    if isinstance(value, list):
        return [worded(item, _of(part.get("items", {})), word, put, f"{path}/[]") for item in value]
    asked = isinstance(value, str) and part.get("type") == "string"
    allowed = asked and all(fits(each, part, path, "values") for each in (word, PLAIN))
    return put if allowed else value


def _of(part: Schema) -> Schema:
    return documents.resolve(ROOT, part)


def replaced(value: Any, word: str) -> Any:
    """The value with the word where ``PLAIN`` stands."""
    if isinstance(value, dict):
        return {replaced(key, word): replaced(item, word) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, word) for item in value]
    return value.replace(PLAIN, word) if isinstance(value, str) else value


def opened(objects: list[Object]) -> list[Object]:
    """The objects with the values that the server reads as a mapping, without what depends on their bytes."""
    found: list[Object] = json.loads(json.dumps(objects))
    for each in found:
        if "values.yaml" in each.get("data", {}):
            each["data"]["values.yaml"] = documents.parse(each["data"]["values.yaml"], "values.yaml").value
        template = each.get("spec", {}).get("template", {})
        template.get("metadata", {}).get("annotations", {}).pop("tierserve.dev/values-checksum", None)
    return found


@pytest.fixture(scope="module")
def rendered(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """By word, what Helm renders with the word and with ``PLAIN`` in its place."""
    folder = tmp_path_factory.mktemp("words")
    found: dict[str, tuple[str, str]] = {}
    for word in NAMES:
        texts: list[str] = []
        for put in (word, PLAIN):
            values = worded(SINK, ROOT, word, put)
            [*values["tiers"].values()][-1]["namespace"] = {"name": f"{put}1"}
            values["tiers"]["premium"] = None  # so that the order of the tiers does not depend on the word
            path = folder / f"{len(found)}-{len(texts)}.yaml"
            path.write_text(json.dumps(values))
            texts.append(chart.text("--values", path, release=put, namespace=put))
        found[word] = (texts[0], texts[1])
    return found


@pytest.mark.parametrize("word", NAMES)
def test_a_word_arrives_as_it_is_wherever_it_may_stand(rendered: dict[str, tuple[str, str]], word: str) -> None:
    mine, plain = (opened([one for one in yaml.safe_load_all(text) if one]) for text in rendered[word])
    assert json.dumps(plain).count(PLAIN) > 100
    expected = replaced(plain, word)
    assert {identity(each): each for each in mine} == {identity(each): each for each in expected}


@pytest.fixture(scope="module")
def annotated(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What Helm renders with all of ``TEXTS`` in annotations and in variables of workers."""
    path = tmp_path_factory.mktemp("texts") / "values.yaml"
    values = {"commonAnnotations": ANNOTATIONS, "tiers": {"free": {"job": JOB}}}
    path.write_text(yaml.safe_dump(values, default_style='"'))
    return chart.text("--values", path)


def test_any_text_arrives_in_annotations(annotated: str) -> None:
    objects = [each for each in yaml.load_all(annotated, AsHelm) if each]
    for each in (*objects, only(objects, "Deployment")["spec"]["template"]):
        assert each["metadata"]["annotations"].items() >= ANNOTATIONS.items()
    text = only(objects, "ConfigMap", "tierserve")["data"]["values.yaml"]
    assert documents.parse(text, "values.yaml").value["tiers"]["free"]["job"].items() >= JOB.items()


def test_kubernetes_takes_all_of_it_for_text(
    chart: Chart, rendered: dict[str, tuple[str, str]], annotated: str, tmp_path: Path
) -> None:
    """It reads other words as numbers than PyYAML does."""
    text = "---\n".join([annotated, *(mine for mine, _ in rendered.values())])
    objects = [each for each in yaml.load_all(text, AsHelm) if each]
    location = schemas.write(tmp_path, {(each["apiVersion"], each["kind"]) for each in objects})
    flags = ["-strict", "-summary", "-n", "2", "-kubernetes-version", schemas.VERSIONS[-1]]
    done = chart.run("kubeconform", *flags, "-schema-location", location, text=text)
    assert ", Invalid: 0, Errors: 0, Skipped: 0" in done.stdout, done.stdout
