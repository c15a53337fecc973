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

from server.settings import documents, render
from server.settings import values as config
from server.settings.documents import Document, Finding
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
    shutil.copytree(config.TEMPLATES, tmp_path / "jobs")
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
    assert worker["resources"]["limits"] == {"cpu": "900m", "memory": "512Mi", "ephemeral-storage": "128Mi"}


def test_a_worker_is_told_of_its_gpu_and_of_its_batches() -> None:
    def arguments(**changes: Any) -> list[str]:
        tier = dataclasses.replace(FREE, job=dataclasses.replace(FREE.job, **changes))
        args: list[str] = Renderer().job(tier, RUN, URL)["spec"]["template"]["spec"]["containers"][0]["args"]
        return args

    plain = arguments()
    assert arguments(gpus=2, batch=32) == [*plain, "--device", "cuda", "--batch", "32"]
    assert arguments(gpus=1) == [*plain, "--device", "cuda"]
    assert arguments(batch=2) == [*plain, "--batch", "2"]


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
    assert lines == ['none.yaml.j2 |  | there is no template "none.yaml.j2" (template)']


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


def test_checking_finds_every_broken_tier(templates: Path) -> None:
    assert judge(Files(templates=templates).read()).blueprints.broken == {}
    edit(templates / "premium.yaml.j2", "{{ super() }}", "{{ sup }}")
    broken = judge(Files(templates=templates).read()).blueprints.broken
    assert {tier: [str(finding) for finding in findings] for tier, findings in broken.items()} == {
        "premium": ["jobs/premium.yaml.j2:5: 'sup' is undefined (template)"]
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
    loaded = subprocess.run([sys.executable, "-c", script], cwd=config.ROOT, capture_output=True, text=True, check=True)
    assert not {"jinja2", "jsonschema", "kubernetes", "torch", "timm", "model"} & set(loaded.stdout.split())
