from __future__ import annotations

import copy
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes.client import V1Job

from server import shipped
from server.settings import documents, render
from server.settings import values as config
from server.settings.documents import Document, Finding
from server.settings.excerpts import excerpt
from server.settings.judging import judge
from server.settings.manifests import job_labels
from server.settings.records import Tier
from server.settings.render import Renderer, RenderError, Verdict
from server.settings.sources import Files, read_templates

RUN, URL = "0k3f9a", "http://10.0.0.7:8081"
TIERS = config.load().tiers
FREE = TIERS["free"]
POD = "/spec/template/spec"
WORKER = f"{POD}/containers/0"


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(shipped.TEMPLATES, tmp_path / "jobs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "jobs"


def refused(templates: Path, tier: Tier = FREE) -> list[str]:
    """Render a Job that is refused; returns the findings, each with the text of its line instead of the number."""
    renderer = Renderer(read_templates(templates))
    with pytest.raises(RenderError) as caught:
        renderer.job(tier, RUN, URL)
    assert str(caught.value) == "\n".join(map(str, caught.value.findings))
    return [named(finding, renderer, tier) for finding in caught.value.findings]


def named(finding: Finding, renderer: Renderer, tier: Tier) -> str:
    rendered = finding.file.endswith(" (rendered)")
    line = ""
    if finding.line:
        text = renderer.text(tier, RUN, URL) if rendered else Path(finding.file).read_text()
        line = text.splitlines()[finding.line - 1].strip()
    what = "rendered" if rendered else Path(finding.file).name
    pointer = f"{finding.pointer}: " if finding.pointer else ""
    return f"{what} | {line} | {pointer}{finding.message} ({finding.rule})"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("tier", TIERS.values(), ids=list(TIERS))
def test_a_job_is_what_its_tier_says(tier: Tier) -> None:
    job = Renderer().job(tier, RUN, URL)
    name, labels = f"tierserve-{tier.name}-{RUN}", job_labels(tier.name, RUN)
    assert job["metadata"] == {"name": name, "namespace": tier.namespace, "labels": labels}
    assert job["spec"]["activeDeadlineSeconds"] == tier.job.deadline
    assert job["spec"]["ttlSecondsAfterFinished"] == tier.job.ttl
    assert job["spec"]["template"]["metadata"]["labels"] == labels
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "tierserve-worker"
    assert pod["terminationGracePeriodSeconds"] == tier.job.grace
    (worker,) = pod["containers"]
    assert worker["image"] == "tierserve-worker:0.1.0"
    assert worker["command"] == ["python", "-m", "model", "work"]
    flags = dict(zip(worker["args"][::2], worker["args"][1::2], strict=True))
    assert flags == {
        "--model": tier.model.name,
        "--digest": render.SAMPLE_DIGEST,
        "--variant": tier.model.variant,
        "--runtime": tier.model.runtime,
        "--idle": f"{tier.waits.idle:g}",
        "--max-predictions": "100000",
        "--max-pixels": "24000000",
    }
    assert {pair["name"]: pair["value"] for pair in worker["env"]} == {
        "TIERSERVE_SERVER": URL,
        "TIERSERVE_TOKEN_FILE": "/var/run/secrets/tierserve/token",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }
    assert worker["resources"]["requests"] == worker["resources"]["limits"]
    assert worker["resources"]["limits"] == {"cpu": "900m", "memory": "512Mi", "ephemeral-storage": "640Mi"}


def shaped(**changes: Any) -> Tier:
    return dataclasses.replace(FREE, job=dataclasses.replace(FREE.job, **changes))


def pod_of(tier: Tier) -> Any:
    return Renderer().job(tier, RUN, URL)["spec"]["template"]["spec"]


def test_a_worker_is_told_of_its_gpu_and_of_its_batches() -> None:
    def arguments(**changes: Any) -> Any:
        return pod_of(shaped(**changes))["containers"][0]["args"]

    plain = arguments()
    assert arguments(gpus=2, batch=32) == [*plain, "--device", "cuda", "--batch", "32"]
    assert arguments(gpus=1) == [*plain, "--device", "cuda"]
    assert arguments(batch=2) == [*plain, "--batch", "2"]


def test_a_job_has_the_gpus_of_its_tier() -> None:
    (worker,) = pod_of(shaped(gpus=2, gpu_resource="amd.com/gpu"))["containers"]
    assert worker["resources"]["limits"]["amd.com/gpu"] == worker["resources"]["requests"]["amd.com/gpu"] == "2"


def test_a_job_has_what_its_tier_gives_it() -> None:
    affinity: dict[str, Any] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    labels, annotations = {"team": "vision", "example.org/a": ""}, {"example.org/owner": 'a "b"'}
    env = {"CUDA_MODULE_LOADING": "LAZY", "EMPTY": ""}
    given = {"affinity": affinity, "labels": labels, "annotations": annotations, "env": env}
    job = Renderer().job(shaped(runtime_class_name="nvidia", **given), RUN, URL)
    kubernetes_validate.validate(job, "1.37", strict=True)
    pod = job["spec"]["template"]
    assert (pod["spec"]["runtimeClassName"], pod["spec"]["affinity"]) == ("nvidia", affinity)
    assert job["metadata"]["labels"] == pod["metadata"]["labels"] == labels | job_labels("free", RUN)
    assert pod["metadata"]["annotations"].items() > annotations.items()
    names = [variable["name"] for variable in pod["spec"]["containers"][0]["env"]]
    assert names == ["TIERSERVE_SERVER", "TIERSERVE_TOKEN_FILE", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX", *env]


@pytest.mark.parametrize(("room", "tmp", "disk"), [("2Gi", "2112Mi", "2176Mi"), ("1", "67108865", "134217729")])
def test_a_worker_has_disk_for_the_model_that_it_gets(room: str, tmp: str, disk: str) -> None:
    pod = pod_of(shaped(model_storage=room))
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == tmp
    assert pod["containers"][0]["resources"]["limits"]["ephemeral-storage"] == disk


def test_a_tiers_annotation_takes_the_place_of_its_templates() -> None:
    evict, disrupt = "cluster-autoscaler.kubernetes.io/safe-to-evict", "karpenter.sh/do-not-disrupt"
    for template, key in (("free.yaml.j2", evict), ("premium.yaml.j2", evict), ("premium.yaml.j2", disrupt)):
        tier = dataclasses.replace(shaped(annotations={key: "mine"}), template=template)
        assert Renderer().job(tier, RUN, URL)["spec"]["template"]["metadata"]["annotations"][key] == "mine"


def test_what_a_tier_sets_and_its_template_sets_too_is_refused(templates: Path) -> None:
    (line,) = refused(templates, shaped(env={"OMP_NUM_THREADS": "4"}))
    says = "OMP_NUM_THREADS is set twice: by the template, and once more by it or by job.env (env)"
    assert line == f'rendered | - name: "OMP_NUM_THREADS" | {WORKER}/env/4/name: {says}'
    (line,) = refused(templates, shaped(annotations={"kubectl.kubernetes.io/default-container": "x"}))
    assert line.endswith('the key "kubectl.kubernetes.io/default-container" is there twice (yaml)')
    (line, _) = refused(templates, shaped(labels={"tierserve.dev/tier": "gold"}))
    assert 'is "free" by the server\'s decision' in line


def test_a_template_that_has_other_gpus_than_its_tier_is_refused(templates: Path) -> None:
    base = templates / "base.yaml.j2"
    text = base.read_text()
    base.write_text(text.replace("{{ gpus | string | tojson }}", '"2"'))
    found = refused(templates, shaped(gpus=1))
    says = "must have 1 of nvidia.com/gpu, as job.gpus says, not 2 of nvidia.com/gpu (gpus)"
    assert [line.partition(" | /")[2] for line in found] == [
        f"{WORKER[1:]}/resources/{kind}: {says}" for kind in ("requests", "limits")
    ]
    base.write_text(text.replace("{% if gpus %}", "{% if not gpus %}"))
    assert all("not none (gpus)" in line for line in refused(templates, shaped(gpus=1)))
    assert all("as job.gpus says, not 0 of nvidia" in line for line in refused(templates))


@pytest.mark.parametrize("tier", TIERS.values(), ids=list(TIERS))
def test_kubernetes_takes_the_job(tier: Tier) -> None:
    job = Renderer().job(tier, RUN, URL)
    V1Job.model_validate(job)
    for version in ("1.31", "1.34", "1.37"):
        kubernetes_validate.validate(job, version, strict=True)
    assert documents.validate(Document(job, "job", {}), "job") == []


def test_tiers_differ_in_who_may_move_their_workers() -> None:
    renderer = Renderer()
    annotations = {
        name: renderer.job(tier, RUN, URL)["spec"]["template"]["metadata"]["annotations"]
        for name, tier in TIERS.items()
    }
    assert annotations["free"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"
    assert annotations["premium"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_the_base_template_is_a_job_of_its_own() -> None:
    Renderer().job(dataclasses.replace(FREE, template="base.yaml.j2"), RUN, URL)


def test_each_rendering_is_a_new_manifest() -> None:
    renderer = Renderer()
    first = renderer.job(FREE, RUN, URL)
    kept = copy.deepcopy(first)
    first["spec"]["template"]["spec"]["containers"].clear()
    assert renderer.job(FREE, RUN, URL) == kept


def test_a_renderer_keeps_the_templates_it_was_made_with(templates: Path) -> None:
    renderer = Renderer(read_templates(templates))
    before = renderer.job(FREE, RUN, URL)
    edit(templates / "base.yaml.j2", '["python",', '["python3",')
    assert renderer.job(FREE, RUN, URL) == before
    assert Renderer(read_templates(templates)).job(FREE, RUN, URL) != before


BAD = documents.read(Path(__file__).parent / "values" / "bad-templates.yaml").value


@pytest.mark.parametrize("bad", BAD, ids=[bad["case"] for bad in BAD])
def test_a_bad_template_is_named_by_line(bad: dict[str, Any], templates: Path) -> None:
    edit(templates / bad["file"], bad["old"], bad["new"])
    assert refused(templates) == bad["findings"]


def test_an_alias_bomb_is_refused_at_its_first_alias(templates: Path) -> None:
    bomb = "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9) if n else 'lol'}]" for n in range(12))
    (templates / "free.yaml.j2").write_text(bomb)
    (line,) = refused(templates)
    assert line.startswith("rendered | x1: &x1 [*x0, *x0")
    assert line.endswith("| aliases are not allowed (yaml)")


def test_a_job_beyond_the_quota_is_refused(templates: Path) -> None:
    for kind in ("limits", "requests"):
        edit(
            templates / "base.yaml.j2",
            f"{kind}:\n              cpu: {{{{ cpu | tojson }}}}",
            f'{kind}:\n              cpu: "3"',
        )
    expected = f"{WORKER}/resources/limits/cpu: 3 is more than the tier's quota of 2 (quota)"
    assert refused(templates) == [f'rendered | cpu: "3" | {expected}']
    paused = dataclasses.replace(FREE, quota={"cpu": "0"})
    assert Renderer(read_templates(templates)).job(paused, RUN, URL)


def test_a_missing_template_is_named(templates: Path) -> None:
    lines = refused(templates, dataclasses.replace(FREE, template="none.yaml.j2"))
    there = "there are base.yaml.j2, free.yaml.j2, premium.yaml.j2"
    assert lines == [f'none.yaml.j2 |  | there is no template "none.yaml.j2"; {there} (template)']


def test_text_is_what_the_template_says_before_the_stamp() -> None:
    text = Renderer().text(FREE, RUN, URL)
    assert documents.parse(text, "free").value["spec"].keys() < Renderer().job(FREE, RUN, URL)["spec"].keys()


def test_a_verdict_for_each_step_up_to_the_failed_one(templates: Path) -> None:
    assert Renderer(read_templates(templates)).validate(FREE) == [Verdict(step) for step in render.STEPS]

    def failing() -> str:
        *passed, last = Renderer(read_templates(templates)).validate(FREE)
        assert all(verdict.ok for verdict in passed)
        assert not last.ok
        return last.step

    *_, last = Renderer(read_templates(templates)).validate(FREE, run="Not a run")
    assert (last.step, [finding.pointer for finding in last.findings]) == ("parameters", ["/job", "/run"])
    changes = {
        "invariants": ("{{ image | tojson }}", "other"),
        "schema": ("completions: 1", "completions: 2"),
        "yaml": ("kind: Job", "kind: [Job"),
        "template": ("{{ model | tojson }}", "{{ modle | tojson }}"),
    }
    for step, (old, new) in changes.items():
        edit(templates / "base.yaml.j2", old, new)
        assert failing() == step


GOOD = {
    "a block within a block": """{% block annotations %}{{ super() }}{% block own %}{% endblock %}{% endblock %}""",
    "variables and macros of its own": """{% set mine = 1 %}
{% macro line(value) %}{{ mine | tojson }}{{ value | tojson }}{% endmacro %}
{% block annotations %}{{ super() }}
{% for each in range(2) %}
        example.org/{{ each | tojson }}: {{ line("x") | upper | tojson }}
{% endfor %}{% endblock %}""",
    "who asks whether a name is defined": """{% block annotations %}{{ super() }}
{% if later is defined %}        example.org/a: {{ later | tojson }}{% endif %}
        example.org/b: {{ other | default("none") | tojson }}
{% endblock %}""",
    "a template that is included if it is there": """{% block annotations %}{{ super() }}
{% include "none.yaml.j2" ignore missing %}{% endblock %}""",
    "as on Windows, behind a byte order mark": "{% block annotations %}\n{{ super() }}\n{% endblock %}\n",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=list(GOOD))
def test_what_only_looks_like_a_misspelling_is_rendered(text: str, templates: Path) -> None:
    whole = '{% extends "base.yaml.j2" %}\n# a comment\n' + text
    windows = "as on Windows" in next(name for name, given in GOOD.items() if given == text)
    encoding, ends = ("utf-8-sig", "\r\n") if windows else ("utf-8", "\n")
    (templates / "free.yaml.j2").write_text(whole, encoding=encoding, newline=ends)
    assert Renderer(read_templates(templates)).job(FREE, RUN, URL)


def test_a_base_that_is_chosen_at_run_time_is_not_judged(templates: Path) -> None:
    base = '"base.yaml.j2" if gpus else "premium.yaml.j2"'
    (templates / "free.yaml.j2").write_text(f"{{% extends {base} %}}\n{{% block other %}}{{% endblock %}}\n")
    assert Renderer(read_templates(templates)).job(FREE, RUN, URL)


def test_a_block_of_any_template_above_may_be_filled(templates: Path) -> None:
    (templates / "mine.yaml.j2").write_text('{% extends "free.yaml.j2" %}{% block scheduling %}{% endblock %}')
    mine = dataclasses.replace(FREE, template="mine.yaml.j2")
    pod = Renderer(read_templates(templates)).job(mine, RUN, URL)["spec"]["template"]["spec"]
    assert "topologySpreadConstraints" not in pod
    edit(templates / "mine.yaml.j2", "scheduling", "sheduling")
    (line,) = refused(templates, mine)
    assert '"free.yaml.j2" has no block sheduling, which is lost; did you mean scheduling?' in line


def test_what_was_rendered_is_shown_with_the_marked_line() -> None:
    text = "one\ntwo\x1b[2J\n" + "x" * 200 + "\nfour\nfive"
    findings = [Finding("f (rendered)", 2, "", "yaml", "wrong")]
    whole = f"    1 one\n>   2 two\\x1b[2J\n    3 {'x' * 160}...\n    4 four\n    5 five"
    assert excerpt(text, findings) == whole
    assert excerpt(text, [*findings, Finding("f", 5, "", "yaml", "wrong")], around=0) == (
        ">   2 two\\x1b[2J\n     ...\n>   5 five"
    )
    assert excerpt("a\n" * 1000, []).endswith("\n  400 a\n     ... and 600 lines more")


def test_checking_finds_every_broken_tier(templates: Path) -> None:
    assert judge(Files(templates=templates).read()).blueprints.broken == {}
    edit(templates / "premium.yaml.j2", "{{ super() }}", "{{ sup }}")
    broken = judge(Files(templates=templates).read()).blueprints.broken
    assert {tier: [str(finding) for finding in findings] for tier, findings in broken.items()} == {
        "premium": ["jobs/premium.yaml.j2:5: 'sup' is undefined; did you mean super? (template)"]
    }


def test_a_diff_shows_what_changes() -> None:
    renderer = Renderer()
    more = config.load(overrides=["tiers.free.job.cpu=1", "worker.image.tag=2.0"]).tiers["free"]
    old, new = renderer.job(FREE, RUN, URL), renderer.job(more, RUN, URL)
    assert render.diff(old, old) == ""
    changed = [line for line in render.diff(old, new, "a.yaml", "b.yaml").splitlines() if line[0] in "+-"]
    assert changed == [
        "--- a.yaml",
        "+++ b.yaml",
        "-        image: tierserve-worker:0.1.0",
        "+        image: tierserve-worker:2.0",
        *["-            cpu: '900m'", "+            cpu: '1'"] * 2,
    ]


def test_a_dump_reads_as_the_manifest() -> None:
    job = Renderer().job(FREE, RUN, URL)
    assert documents.parse(render.dump(job), "dump").value == job
    assert list(job) == ["apiVersion", "kind", "metadata", "spec"]


def test_starting_costs_no_more_than_it_must() -> None:
    script = "import sys, server.settings.values, server.settings.render; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=shipped.ROOT, capture_output=True, text=True, check=True
    )
    assert not {"jinja2", "jsonschema", "kubernetes", "torch", "timm", "model"} & set(loaded.stdout.split())
