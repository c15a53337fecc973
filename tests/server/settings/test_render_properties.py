from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import kubernetes_validate
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import V1Job

from server.settings import documents, records
from server.settings import values as config
from server.settings.documents import Document
from server.settings.records import Tier
from server.settings.render import Renderer, RenderError

RUN, URL = "0k3f9a", "http://10.0.0.7:8081"
FREE = config.load().tiers["free"]


def names(pattern: str, longest: int) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= longest)


LABEL = r"[a-z]([a-z0-9-]{0,17}[a-z0-9])?"
seconds = st.integers(1, 10**6) | st.floats(0.1, 10**6)
quantities = st.sampled_from(["1m", "900m", "0.25", "1", ".5", "1e-3"])

switches = st.sampled_from(["no", "on", "true", "null", "y"])  # what YAML takes for something else without quotes
numbers = st.sampled_from(["9991103", "1e3", "0x1f", "0o17", "007"])
legal_tiers = st.builds(
    Tier,
    name=switches | names(LABEL, 20),
    namespace=switches | numbers | names(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", 63),
    template=st.sampled_from(["base.yaml.j2", "free.yaml.j2", "premium.yaml.j2"]),
    model=st.builds(
        records.ModelChoice,
        name=names(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", 100),
        variant=st.sampled_from(["fp32", "int8"]),
        runtime=st.sampled_from(["onnx", "timm"]),
        canary=st.none(),
    ),
    quota=st.just({"cpu": "1", "memory": "8Gi"}) | st.just({}),
    job=st.builds(
        records.JobShape,
        image=names(r"[a-z0-9]{1,20}([._:/-][a-z0-9]{1,20}){0,3}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", 200),
        cpu=quantities,
        memory=st.sampled_from(["64Mi", "1e9", "8Gi"]),
        max_predictions=st.integers(1, 10**9),
        deadline=st.integers(1, 10**6),
        grace=st.integers(1, 600),
        ttl=st.integers(0, 86400),
        image_pull_policy=st.sampled_from(["Always", "IfNotPresent", "Never"]),
        node_selector=st.dictionaries(st.sampled_from(["tier", "a.b/c"]), names("[a-z]{0,63}", 63), max_size=2),
        tolerations=st.lists(
            st.fixed_dictionaries(
                {"key": st.just("tier"), "operator": st.just("Equal"), "value": names("[a-z]{1,63}", 63)},
                optional={"effect": st.sampled_from(["NoSchedule", "PreferNoSchedule"])},
            ),
            max_size=2,
        ),
        priority_class_name=st.sampled_from(["", "system-cluster-critical", "on", "1e3"]),
        affinity=st.sampled_from([{}, {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}]),
        runtime_class_name=st.sampled_from(["", "nvidia"]),
        labels=st.dictionaries(switches | numbers | st.just("a.b/c"), switches | numbers | names("[a-z]{0,63}", 63)),
        annotations=st.dictionaries(switches | numbers | st.just("a.b/c"), switches | numbers | st.text(max_size=50)),
        env=st.dictionaries(st.sampled_from(["A", "b_1", "no"]), switches | numbers | st.text(max_size=50)),
        model_storage=st.sampled_from(["0", "512Mi", "1e9", "0.5"]),
        gpus=st.integers(0, 16),
        gpu_resource=st.sampled_from(["nvidia.com/gpu", "amd.com/gpu"]),
        batch=st.integers(1, 256),
        user=st.integers(0, 2**31 - 1),
    ),
    limits=st.builds(
        records.Limits,
        queue=st.just(1),
        queue_bytes=st.just(1),
        images=st.just(1),
        image_bytes=st.just(1),
        image_pixels=st.integers(1, 10**9),
        attempts=st.just(1),
    ),
    waits=st.builds(
        records.Waits, sync=st.just(1.0), queue=st.just(1.0), results=st.just(1.0), idle=seconds, start=st.just(1.0)
    ),
)
RENDERER = Renderer()


@given(
    legal_tiers,
    names(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", 32),
    st.sampled_from([URL, "https://a.b-c", "http://[::1]:80"]),
)
def test_any_legal_tier_renders_to_a_job_that_is_valid(tier: Tier, run: str, url: str) -> None:
    job = RENDERER.job(tier, run, url)
    assert documents.validate(Document(job, "job", {}), "job") == []
    V1Job.model_validate(job)
    kubernetes_validate.validate(job, "1.37", strict=True)
    assert len(job["metadata"]["name"]) <= 63
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    flags = dict(zip(args[::2], args[1::2], strict=True))
    assert flags["--model"] == tier.model.name
    assert float(flags["--idle"]) == tier.waits.idle


CHANGES: Mapping[str, Callable[[str], Tier]] = {
    "name": lambda text: dataclasses.replace(FREE, name=text),
    "namespace": lambda text: dataclasses.replace(FREE, namespace=text),
    "model": lambda text: dataclasses.replace(FREE, model=dataclasses.replace(FREE.model, name=text)),
    "variant": lambda text: dataclasses.replace(FREE, model=dataclasses.replace(FREE.model, variant=text)),
    "image": lambda text: dataclasses.replace(FREE, job=dataclasses.replace(FREE.job, image=text)),
    "cpu": lambda text: dataclasses.replace(FREE, job=dataclasses.replace(FREE.job, cpu=text)),
    "annotation": lambda text: dataclasses.replace(FREE, job=dataclasses.replace(FREE.job, annotations={"key": text})),
    "label": lambda text: dataclasses.replace(FREE, job=dataclasses.replace(FREE.job, labels={"key": text})),
    "variable": lambda text: dataclasses.replace(FREE, job=dataclasses.replace(FREE.job, env={"KEY": text})),
    "gpu": lambda text: dataclasses.replace(FREE, job=dataclasses.replace(FREE.job, gpus=1, gpu_resource=text)),
}
HARMLESS = {
    **dict.fromkeys(("name", "namespace", "model", "annotation", "label", "variable"), "a"),
    "variant": "fp32",
    "image": "a:1",
    "cpu": "1",
    "gpu": "a.b/c",
}
hostile = st.text("a0-._:/ \n\t\"'\\{}[]#&*!|>%@`\x00\x7f\x85\u2028\ufeff\U0001f600", max_size=30) | st.sampled_from(
    [
        'x", privileged: true, y: "',
        "a\nhostNetwork: true",
        "{{ 7 * 7 }}",
        "x\\",
        "*a",
        "~",
        "1e3",
        "yes",
        "a: b",
        "a #b",
    ]
)


@given(st.sampled_from(list(CHANGES)), hostile)
def test_no_text_of_a_tier_gets_around_the_parameters(field: str, text: str) -> None:
    try:
        job = RENDERER.job(CHANGES[field](text), RUN, URL)
    except RenderError as error:
        assert error.findings
    else:
        harmless = RENDERER.job(CHANGES[field](HARMLESS[field]), RUN, URL)
        assert shape(job, text) == shape(harmless, HARMLESS[field])


def shape(value: Any, given: str) -> Any:
    """Types in the place of values; the keys, but for the one that is ``given``."""
    if isinstance(value, dict):
        return {"given" if key == given else key: shape(item, given) for key, item in value.items()}
    return [shape(item, given) for item in value] if isinstance(value, list) else type(value)


@given(hostile | st.text())
def test_no_text_at_all_breaks_out_of_its_scalar(text: str) -> None:
    template = RENDERER._environment.from_string(
        "a:\n  - {{ x | tojson }}\n  - b: {{ x | tojson }} # {{ x | tojson }}\n"
    )
    assert documents.parse(template.render(x=text), "x").value == {"a": [text, {"b": text}]}
