"""The rules of ``chart/rules.yaml`` beside the schema. What they refuse is tried in tests/chart, where Helm is at hand.

How it could break: a place, a default or a path of a rule is misspelt, so that the rule never holds; a text of the
schema has no form, so that anything is taken; an error shows a regular expression; a form lets through what the
server's own parser refuses; a number is rounded so that a Job seems to fit into its quota.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.settings import documents, rules, values
from server.settings.documents import Schema
from server.settings.manifests import SERVER_LABELS
from server.settings.quantity import parse_quantity
from server.settings.render import Renderer
from server.settings.sources import read_templates

ROOT = documents.schema("values")
FORMS = {form["form"]: form for form in rules.book()["forms"]}
INJECTED = {"templates", "release"}


def parts(part: Schema = ROOT, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every part of the schema with its place as the rules write it."""
    yield path, part
    inner = dict(part.get("properties", {}))
    if one := part.get("additionalProperties") or part.get("items"):
        inner["*"] = one
    for key, sub in inner.items():
        yield from parts(documents.resolve(ROOT, sub), f"{path}.{key}".lstrip("."))


PLACES = dict(parts())
WITHIN = {path for path, part in PLACES.items() if part.get("type") == "object" and "additionalProperties" not in part}


def known(place: str) -> bool:
    """Whether the schema has a place, or a mapping around it of which it does not know the keys."""
    found = place.replace("networkPolicy.*", "networkPolicy.clients").replace("access.*", "access.keys")
    found = re.sub(r"^pod\.resources\.\*\.\*$", "pod.resources.limits.cpu", found)
    return found in PLACES or any(found.startswith(f"{around}.") for around in WITHIN)


def operands(rule: Any) -> Iterator[str]:
    """The paths that a rule reads."""
    if isinstance(rule, list):
        for each in rule:
            yield from operands(each)
    elif isinstance(rule, dict):
        yield from operands(list(rule.values()))
    elif isinstance(rule, str) and rule.startswith((".", "$.")):
        yield rule


def test_the_places_of_forms_are_in_the_schema() -> None:
    for form in FORMS.values():
        for place in (*form.get("values", ()), *form.get("keys", ())):
            assert known(place), place


@pytest.mark.parametrize("rule", rules.book()["rules"], ids=[rule["says"][:50] for rule in rules.book()["rules"]])
def test_the_paths_of_a_rule_are_in_the_schema_and_have_defaults(rule: dict[str, Any]) -> None:
    said = re.findall(r"\{([$.][^}]*)\}", rule["says"])
    for each in rule.get("each", [""]):
        assert not each or known(each), each
        for path in [*operands(rule.get("when", [])), *operands(rule.get("unique", "")), *said]:
            place = path[2:] if path.startswith("$.") else f"{each}{path}".rstrip(".")
            place = re.sub(r"(?<=\.job\.env\.)\w+", "*", place)
            if place not in INJECTED:
                assert known(place), place
                assert not place.startswith(("server.", "tiers.")) or place == each or has_default(place), place


def has_default(place: str) -> bool:
    """Whether both evaluators find something at a place of which the values say nothing, if the schema does."""
    found = rules.book()["defaults"]
    for key in place.split("."):
        found = found.get(key, {})
    return found != {} or "default" not in PLACES[place]


def test_the_defaults_are_the_schemas() -> None:
    tier = documents.filled({"tiers": {"*": {}}}, "values")
    for key in ("server", "tiers"):
        assert within(rules.book()["defaults"][key], tier[key])


def within(some: Any, all_of_it: Any) -> bool:
    """Whether the second value is the first one, or has what it has and more."""
    if isinstance(some, dict):
        return all(key in all_of_it and within(value, all_of_it[key]) for key, value in some.items())
    return bool(some == all_of_it)


def test_every_text_has_a_form_or_is_free() -> None:
    free = {"tiers.*.job.tolerations.*.key", "tiers.*.job.tolerations.*.value", "pod.tolerations.*.key"}
    free |= {"pod.tolerations.*.value", "jobTemplates.*", "service.loadBalancerClass", "tiers.*.job.env.*"}
    free |= {"tiers.*.template", "extraObjects.*"}  # one that must exist, and templates
    shaped = {place for form in FORMS.values() for place in form.get("values", ())}
    keyed = {place for form in FORMS.values() for place in form.get("keys", ())}
    for path, part in PLACES.items():
        patterns = {
            re.sub(r"^(networkPolicy|access)\.\w+", r"\1.*", path),
            re.sub(r"^pod\.resources\..*", "pod.resources.*.*", path),
        }
        if "string" in part.get("type", ()) and "enum" not in part and "nnotations.*" not in path:
            assert patterns & (shaped | free), path
        if part.get("additionalProperties"):
            assert f"{path}.*" in keyed, path


def test_no_error_shows_a_regular_expression() -> None:
    assert [
        path for path, part in PLACES.items() if "pattern" in part or "pattern" in part.get("propertyNames", {})
    ] == []


def test_the_server_sets_these_labels() -> None:
    (found,) = (rule for rule in rules.book()["rules"] if rule["rule"] == "labels")
    assert set(found["when"][0][2]) == SERVER_LABELS


def test_the_templates_of_the_chart_set_these_variables() -> None:
    templates = read_templates()
    free = values.load().tiers["free"]
    for name in templates.texts:
        job = Renderer(templates).job(replace(free, template=name), "run", "http://server")
        (worker,) = job["spec"]["template"]["spec"]["containers"]
        theirs = {each["name"] for each in worker["env"]} - {"TIERSERVE_SERVER", "TIERSERVE_TOKEN_FILE"}
        told = [rule for rule in rules.book()["rules"] if rule["rule"] == "env" and name in rule["when"][0][2]]
        assert {rule["when"][1][0] for rule in told} == {f".job.env.{variable}" for variable in theirs}


@given(st.from_regex(FORMS["network"]["pattern"], fullmatch=True))
def test_a_network_is_one_that_python_takes(text: str) -> None:
    assert ip_network(text, strict=False)


@given(st.ip_addresses(network="0.0.0.0/0") | st.ip_addresses(network="::/0"), st.data())
def test_every_network_is_one(address: Any, data: st.DataObject) -> None:
    text = f"{address}/{data.draw(st.integers(0, address.max_prefixlen))}"
    assert re.fullmatch(FORMS["network"]["pattern"], text)


@given(
    st.from_regex(FORMS["quantity"]["pattern"], fullmatch=True),
    st.from_regex(FORMS["quantity"]["pattern"], fullmatch=True),
)
def test_a_job_that_does_not_fit_is_refused(job: str, quota: str) -> None:
    assume(max(len(job), len(quota)) <= 32)
    tier = {"namespace": {"name": "n"}, "template": "t", "job": {"cpu": job}, "quota": {"cpu": quota}}
    full = documents.filled({"tiers": {"free": tier}}, "values")
    broken = [each.message for each in rules.broken_rules(full, ["t"]) if each.rule == "quota"]
    asked, there = parse_quantity(job), parse_quantity(quota)
    if there <= 0 or asked <= there:
        assert broken == []
    elif asked > there * Decimal("1.000000000000001"):  # floats are as exact as that
        assert broken == [
            f"tiers.free.job.cpu is {job}, more than tiers.free.quota.cpu, {quota}: no Job could ever start"
        ]
