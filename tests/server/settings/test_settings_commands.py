"""The commands ``check`` and ``render``, with the process that judges settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from server.__main__ import main
from server.shipped import DEFAULT_VALUES, TEMPLATES

MINE = """\
{% extends "base.yaml.j2" %}
{% block annotations %}
{{ super() }}
        example.org/size: small
{% endblock %}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def values(name: str, given: object) -> str:
    Path(name).write_text(yaml.safe_dump(given))
    return name


def with_template(text: str) -> str:
    return values("my.yaml", {"tiers": {"free": {"template": "m.yaml.j2"}}, "jobTemplates": {"m.yaml.j2": text}})


def test_job_templates_of_the_values_are_seen() -> None:
    found = run("render", "free", "--values", with_template(MINE))
    job = yaml.safe_load(found.stdout)
    assert job["spec"]["template"]["metadata"]["annotations"]["example.org/size"] == "small"
    with_template(MINE.replace("block annotations", "block anotations"))
    found = run("check", "--values", "my.yaml")
    assert found.exit_code == 1
    assert found.stderr == (
        'Error: my.yaml (/jobTemplates/m.yaml.j2):2: "base.yaml.j2" has no block anotations, which is lost; '
        "did you mean annotations? (template)\n"
    )


def test_a_job_template_may_be_given_as_a_file_or_in_a_folder(tmp_path: Path) -> None:
    Path("mine.yaml.j2").write_text(MINE)
    folder = tmp_path / "jobs"
    folder.mkdir()
    for name, text in (("base", (TEMPLATES / "base.yaml.j2").read_text()), ("free", MINE)):
        (folder / f"{name}.yaml.j2").write_text(text)
    flags = ("--set-file", r"jobTemplates.premium\.yaml\.j2=mine.yaml.j2", "--templates", str(folder))
    for tier in ("free", "premium"):
        assert "example.org/size: small" in run("render", tier, *flags).stdout


@pytest.mark.parametrize(
    ("wrong", "rule"), [("       - x", "(yaml)"), ("        example.org/size: 1", "(type)")], ids=["no YAML", "no Job"]
)
def test_what_was_rendered_is_printed_if_it_is_wrong(wrong: str, rule: str) -> None:
    with_template(MINE.replace("        example.org/size: small", wrong))
    whole, near = run("render", "free", "--values", "my.yaml"), run("check", "--values", "my.yaml")
    for found in (whole, near):
        assert found.exit_code == 1
        marked = [line for line in found.stderr.splitlines() if line.startswith(">")]
        assert [line.split(maxsplit=2)[2] for line in marked] == [wrong.strip()]
        assert found.stderr.rstrip().endswith(rule)
    assert "   1 apiVersion: batch/v1" in whole.stderr
    assert "apiVersion" not in near.stderr


def test_a_diff_shows_all_that_changes_and_exits_with_1() -> None:
    one = values("one.yaml", {"tiers": {"free": {"quota": {"cpu": 3}}}})
    two = values("two.yaml", {"tiers": {"free": {"quota": {"cpu": 4}}}})
    flags = (
        *("--set", "tiers.free.waits.queueSeconds=77,tiers.free.limits.queue=7,tiers.free.model.name=flowers"),
        *("--set-json", "tiers.free.limits.queue=8,server.lobbySeconds=0.5"),
    )
    found = run("render", "free", "--values", one, "--values", two, *flags, "--diff", one)
    changed = [line[1:].strip() for line in found.stdout.splitlines() if line.startswith("+")]
    assert found.exit_code == 1
    assert changed == [
        "++ one.yaml two.yaml",
        "lobbySeconds: 0.5",
        "name: flowers",
        "cpu: '4'",
        "queue: 7",
        "queueSeconds: 77",
        "- flowers",
    ]


def test_a_diff_of_nothing_is_empty_and_exits_with_0() -> None:
    one = values("one.yaml", {"tiers": {"free": {"quota": {"cpu": 3}, "waits": {"idleSeconds": 30.0}}}})
    two = values("two.yaml", {"tiers": {"free": {"quota": {"cpu": "3"}}, "premium": {"limits": {"queue": 1}}}})
    found = run("render", "free", "--values", one, "--diff", str(DEFAULT_VALUES), "--diff", two)
    assert (found.exit_code, found.output) == (0, "")


def test_a_diff_shows_a_tier_that_goes() -> None:
    gone = values("gone.yaml", {"tiers": {"premium": None}})
    found = run("render", "premium", "--values", gone, "--diff", str(DEFAULT_VALUES))
    assert found.exit_code == 1
    assert "-  premium:" in found.stdout


def test_an_error_of_a_diff_exits_with_2() -> None:
    bad = values("bad.yaml", {"tiers": {"free": {"quota": {"cpu": "two"}}}})
    broken = with_template(MINE.replace("super", "supper"))
    for words in (("free", "--diff", bad), ("gold", "--diff", str(DEFAULT_VALUES)), ("free", "--diff", broken)):
        assert run("render", *words).exit_code == 2


GPUS = {"model": {"runtime": "timm"}, "job": {"gpus": 2}}


@pytest.mark.parametrize(
    ("capacity", "tiers", "told"),
    [
        ({}, {}, []),
        (  # a Job takes 0.9, so that half of the capacity has room for exactly two
            {"cpu": "3600m"},
            {"free": {"quota": {"cpu": 3.6}}, "premium": {"quota": {"cpu": "1.8"}}},
            [
                "free: share 1 of 2, Jobs in its part: 2, with what others lend: 4",
                "premium: share 1 of 2, Jobs in its part: 2, with what others lend: 2",
            ],
        ),
        (  # the memory is what there is least of
            {"cpu": 100, "memory": "4Gi"},
            {"free": {"share": 3, "quota": {"cpu": None}}, "premium": {"quota": {"pods": 0}}},
            [
                "free: share 3 of 4, Jobs in its part: 4, with what others lend: 4",
                "premium: share 1 of 4, Jobs in its part: 0, with what others lend: 0",
            ],
        ),
        (
            {"gpus": "6"},
            {"premium": GPUS},
            [
                "free: its Jobs use nothing of the capacity",
                "premium: share 1 of 2, Jobs in its part: 1, with what others lend: 3",
            ],
        ),
        (  # the part of one tier is less than a Job
            {"pods": 12},
            {"free": {"share": 99}, "premium": {"quota": {"cpu": None, "memory": None}}},
            [
                "free: share 99 of 100, Jobs in its part: 2, with what others lend: 2",
                "premium: share 1 of 100, Jobs in its part: 0, with what others lend: 10",
            ],
        ),
    ],
)
def test_check_tells_how_the_tiers_share_the_capacity(capacity: object, tiers: object, told: list[str]) -> None:
    found = run("check", "--values", values("my.yaml", {"capacity": capacity, "tiers": tiers}))
    assert found.stdout.splitlines() == ["values, schemas and the templates of 2 tiers are right", *told]


def test_a_changed_capacity_and_what_quotas_have_of_it_are_a_difference() -> None:
    one = values("one.yaml", {"tiers": {"free": {"quota": {"cpu": None}}}})
    two = values("two.yaml", {"capacity": {"cpu": 4}, "tiers": {"free": {"share": 2, "quota": {"cpu": None}}}})
    found = run("render", "free", "--values", two, "--diff", one)
    assert found.exit_code == 1
    changed = [line.replace(" ", "") for line in found.stdout.splitlines()[2:] if line[0] in "+-"]
    assert sorted(changed) == ["+capacity:", "+cpu:'4'", "+cpu:'4'", "+share:2", "-capacity:{}", "-share:1"]
