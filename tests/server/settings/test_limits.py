"""Texts of settings that would take time or memory without end are refused in time, and stop one tier at most."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.settings import apart
from server.settings.manifests import NamedModel
from server.settings.records import Settings
from server.settings.sources import MOST_TEMPLATES, ConfigError, Files
from server.shipped import DEFAULT_VALUES, SCHEMAS, TEMPLATES

MOST_SECONDS = 90.0  # on a busy machine; the limits on processor time are 2 and 5 s


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A copy of the defaults."""
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    shutil.copy(DEFAULT_VALUES, tmp_path / "values.yaml")
    return Files((tmp_path / "values.yaml",), base=None, templates=tmp_path / "templates")


def in_time(files: Files) -> dict[str, str]:
    """Judge the files within the limit; returns what is wrong with each tier that is broken."""
    begun = time.monotonic()
    broken = apart.judge(files.read()).blueprints.broken
    assert time.monotonic() - begun < MOST_SECONDS
    return {name: "\n".join(map(str, findings)) for name, findings in broken.items()}


BIG = 10**9
TEMPLATE_BOMBS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "much output": "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
    "long text": f'{{{{ ("x" * {BIG}) | tojson }}}}',
    "a power": "{{ (9 ** 9 ** 9) | tojson }}",
    "center": f'{{{{ "x" | center({BIG}) | tojson }}}}',
    "indent": f'{{{{ "x\\nx" | indent({BIG}) | tojson }}}}',
    "format": f'{{{{ "%{BIG}d" | format(1) | tojson }}}}',
    "a list": f"{{{{ ([0] * {BIG}) | tojson }}}}",
    "doubling": "{% set ns = namespace(x='x') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "a macro in itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "two macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "itself included": '{% include "free.yaml.j2" %}',
    "itself extended": '{% extends "free.yaml.j2" %}',
    "blocks in blocks": "{% for a in [1] %}" * 40 + "{% endfor %}" * 40,
    "brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " | tojson }}",
    "a big file": "{# " + "x" * (1 << 18) + " #}",
    "big YAML": "a: [" + "[1]," * 20_000 + "]",
    "deep YAML": "a: " + "[" * 3000,
    "a long number": "a: 0x" + "f" * 4000,
}


@pytest.mark.parametrize("text", TEMPLATE_BOMBS.values(), ids=list(TEMPLATE_BOMBS))
def test_a_template_that_does_not_end_stops_its_tier_only(files: Files, text: str) -> None:
    (files.templates / "free.yaml.j2").write_text(text)
    broken = in_time(files)
    assert list(broken) == ["free"]
    assert text != TEMPLATE_BOMBS["nested loops"] or "more than 2 s of processor time" in broken["free"]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 100 << 20)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (pipe, "is not a regular file"),
        (device, "is not a regular file"),
        (loop, "Too many levels of symbolic links"),
        (Path.mkdir, "Is a directory"),
        (huge, "is larger than"),
    ],
)
def test_what_is_no_text_file_is_refused(files: Files, make: Callable[[Path], None], said: str) -> None:
    template = files.templates / "free.yaml.j2"
    template.unlink()
    make(template)
    broken = in_time(files)
    assert list(broken) == ["free"]
    assert said in broken["free"]
    files.values[0].unlink()
    make(files.values[0])
    with pytest.raises(ConfigError, match=said):
        files.read()
    assert files.state()


def test_too_many_templates_stop_only_the_tiers_of_the_last_ones(files: Files) -> None:
    for number in range(MOST_TEMPLATES):
        (files.templates / f"g{number}.yaml.j2").touch()
    broken = in_time(files)
    assert list(broken) == ["premium"]
    assert "which is too many" in broken["premium"]


VALUES_BOMBS = {
    "hexadecimal": "server: {tickSeconds: 0x" + "f" * 4000 + "}",
    "octal": "server: {tickSeconds: 0" + "7" * 4000 + "}",
    "sexagesimal": "server: {tickSeconds: " + "1:" * 100_000 + "1}",
    "digits": "server: {tickSeconds: 1" + "0" * 100_000 + "}",
    "a fraction": "server: {tickSeconds: 0." + "3" * 100_000 + "}",
    "infinite": "server: {tickSeconds: .inf}",
    "overflowing": "server: {tickSeconds: 1e999}",
    "no number": "server: {tickSeconds: .nan}",
    "a quantity": 'tiers: {free: {job: {cpu: "' + "9" * 4000 + '"}}}',
    "a quantity's exponent": 'tiers: {free: {job: {cpu: "1e99"}}}',
    "a big whole number": "tiers: {free: {limits: {queue: 0x" + "f" * 60 + "}}}",
    "depth": "a: " + "[" * 100_000,
    "many keys": "".join(f"key{number}: 1\n" for number in range(50_000)),
    "one long key": "k" * 900_000 + ": 1",
    "many wrong items": "tiers: {free: {job: {tolerations: [" + "1," * 100_000 + "]}}}",
    "long keys around many items": "x" * 400_000 + ": [" + "1," * 200_000 + "]",
    "aliases": "a: &a [x]\nb: &b [*a, *a]\n",
    "anchors": "".join(f"a{number}: &a{number} 1\n" for number in range(30_000)),
    "quotes": "a: " + "'" * 500_001,
    "a long text": "a: |\n" + " x\n" * 300_000,
    "many documents": "---\n" * 200_000,
}


@pytest.mark.parametrize("text", VALUES_BOMBS.values(), ids=list(VALUES_BOMBS))
def test_values_without_end_are_refused_in_time(tmp_path: Path, text: str) -> None:
    (values := tmp_path / "values.yaml").write_text(text)
    begun = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        apart.judge(Files((values,)).read())
    assert time.monotonic() - begun < MOST_SECONDS
    assert len(str(caught.value)) < 100_000


def test_a_flag_without_end_is_refused_in_time() -> None:
    for flag in ("server.tickSeconds=0x" + "f" * 4000, "a." * 5000 + "b=1", "tiers.free=" + "[" * 5000, "=" * 5000):
        with pytest.raises(ConfigError):
            apart.judge(Files(overrides=(flag,)).read())


def patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for value in schema.values():
            yield from patterns(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from patterns(value)


PATTERNS = sorted({one for path in SCHEMAS.glob("*.json") for one in patterns(json.loads(path.read_text()))})


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_pattern_takes_long_for_any_text(pattern: str) -> None:
    begun = time.process_time()
    for start in ("", "a", "1", "s3://", "v1.2.3-eksbuild.", "arn:aws:", "us-"):
        for part in ("a", "0", "-", ".", "a-", "a.", "-a", "_", "/", "1.", "*.", "a/", "::"):
            for end in ("", "!", "\n", "-"):
                re.search(pattern, start + part * 2_000 + end)
    assert time.process_time() - begun < 5


def test_a_template_may_place_what_belongs_to_one_job_but_not_calculate_with_it(files: Files) -> None:
    base = files.templates / "base.yaml.j2"
    text = base.read_text()
    for where in (
        "{{ run | upper | tojson }}",
        "{{ server_url[:12] | tojson }}",
        "{{ job[-1] | tojson }}",
        "{{ model[:9] | tojson }}",
    ):
        base.write_text(text.replace("value: {{ server_url | tojson }}", f"value: {where}"))
        assert "calculates with run, job, server_url or the model" in in_time(files)["free"]
    placed = '{{ ("at " ~ run ~ " of " ~ server_url) | tojson }}'
    base.write_text(text.replace("value: {{ server_url | tojson }}", f"value: {placed}"))
    job = apart.judge(files.read()).blueprints.job("free", "0123456789", "http://server:1")
    assert job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == "at 0123456789 of http://server:1"
    assert job["metadata"]["name"] == "tierserve-free-0123456789"


def test_each_job_gets_the_model_that_it_is_given_and_otherwise_the_one_that_the_settings_name(files: Files) -> None:
    blueprints = apart.judge(files.read()).blueprints

    def said(model: NamedModel | None) -> list[str]:
        job = blueprints.job("free", "0123456789", "http://server:1", model)
        args: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
        return args[:4]

    given = NamedModel("flowers@3f9a2c81", "3f9a2c81" * 8)
    assert said(given) == ["--model", given.reference, "--digest", given.digest]
    assert said(None) == ["--model", "tf_efficientnet_lite0", "--digest", "0" * 64]


def test_a_judgement_is_the_same_apart_as_within(files: Files) -> None:
    from server.settings import judging, values

    found, inside = apart.judge(files.read()), judging.judge(files.read())
    settings: Settings = values.load(files.values[0], base=None)
    assert found.settings == inside.settings == settings
    for tier in settings.tiers:
        assert found.blueprints.job(tier) == inside.blueprints.job(tier)
