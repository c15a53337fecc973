from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from server.settings import documents, records
from server.settings.records import Settings
from server.settings.sources import Files
from server.settings.values import ConfigError, as_settings, complete, load

VALUES = Path(__file__).parent / "values"


def lines(error: ConfigError) -> list[str]:
    assert str(error).splitlines() == [str(finding) for finding in error.findings]
    return [str(finding) for finding in error.findings]


def test_the_defaults() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.internal_port, settings.tick) == ("127.0.0.1", 8080, 8081, 1.0)
    assert settings.lobby_seconds == 1
    assert settings.lease == records.LeaseTimes(seconds=30.0, heartbeat=10.0, reclaim=5.0)
    assert list(settings.tiers) == ["free", "premium"]
    assert settings.tiers["free"] == records.Tier(
        name="free",
        namespace="tierserve-free",
        template="free.yaml.j2",
        model=records.ModelChoice(name="tf_efficientnet_lite0", variant="int8", runtime="onnx"),
        quota={"cpu": "2", "memory": "2Gi", "pods": "10"},
        job=records.JobShape(
            image="tierserve-worker:0.1.0",
            image_pull_policy="IfNotPresent",
            cpu="900m",
            memory="512Mi",
            max_predictions=100000,
            deadline=3600,
            grace=20,
            ttl=300,
            node_selector={},
            tolerations=(),
            priority_class_name="",
            affinity={},
            runtime_class_name="",
            labels={},
            annotations={},
            env={},
            model_storage="512Mi",
            gpus=0,
            gpu_resource="nvidia.com/gpu",
            batch=1,
            user=10001,
        ),
        access=records.Access(
            anonymous=True,
            limits=records.CallerLimits(per_second=20.0, burst=100, per_day=0, queued=250, bytes_queued=536870912),
        ),
        limits=records.Limits(
            queue=1000, queue_bytes=2147483648, images=8, image_bytes=10485760, image_pixels=24000000, attempts=3
        ),
        waits=records.Waits(sync=30.0, queue=3600.0, results=86400.0, idle=30.0, start=60.0),
    )
    assert settings.tiers["premium"].model == records.ModelChoice(
        name="tf_efficientnet_lite2", variant="fp32", runtime="onnx"
    )


def test_a_quota_has_what_it_leaves_out_from_the_capacity(tmp_path: Path) -> None:
    capacity = {"cpu": 4, "memory": "8Gi", "pods": 20.0, "gpus": "2"}
    tiers = {"free": {"share": 3.0, "quota": {"cpu": 0, "memory": None}}, "premium": {"quota": {"cpu": None}}}
    (tmp_path / "my.yaml").write_text(json.dumps({"capacity": capacity, "tiers": tiers}))
    settings = load(tmp_path / "my.yaml")
    assert settings.capacity == {"cpu": "4", "memory": "8Gi", "pods": "20", "gpus": "2"}
    assert {name: tier.share for name, tier in settings.tiers.items()} == {"free": 3, "premium": 1}
    assert settings.tiers["free"].quota == {"cpu": "0", "memory": "8Gi", "pods": "10", "gpus": "2"}
    assert settings.tiers["premium"].quota == {"cpu": "4", "memory": "4Gi", "pods": "10", "gpus": "2"}


@pytest.mark.parametrize("values", ["{}", "capacity: {}", "capacity: null"])
def test_without_a_capacity_the_quotas_alone_decide(tmp_path: Path, values: str) -> None:
    (tmp_path / "my.yaml").write_text(values)
    settings = load(tmp_path / "my.yaml", overrides=["tiers.free.quota.memory=null"])
    assert (settings.capacity, settings.tiers["free"].quota) == ({}, {"cpu": "2", "pods": "10"})
    assert {tier.share for tier in settings.tiers.values()} == {1}


def test_values_that_know_nothing_of_a_capacity_are_complete() -> None:
    values: Any = complete(Files().read())[0]
    del values["capacity"], values["tiers"]["free"]["share"]
    assert as_settings(documents.filled(values, "values")) == load()


def test_common_labels_are_on_jobs_too_but_for_those_that_the_server_sets(tmp_path: Path) -> None:
    common = {"team": "vision", "stage": "trial", "tierserve.dev/tier": "x", "app.kubernetes.io/name": "y"}
    (tmp_path / "my.yaml").write_text(json.dumps({"commonLabels": common}))
    settings = load(tmp_path / "my.yaml", overrides=["tiers.free.job.labels.stage=live"])
    assert settings.tiers["free"].job.labels == {"team": "vision", "stage": "live"}
    assert settings.tiers["premium"].job.labels == {"team": "vision", "stage": "trial"}


def test_common_annotations_are_on_jobs_too(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(json.dumps({"commonAnnotations": {"team": "vision", "stage": "trial"}}))
    settings = load(tmp_path / "my.yaml", overrides=["tiers.free.job.annotations.stage=live"])
    assert settings.tiers["free"].job.annotations == {"team": "vision", "stage": "live"}
    assert settings.tiers["premium"].job.annotations == {"team": "vision", "stage": "trial"}


@pytest.mark.parametrize(
    ("own", "image"),
    [
        ({}, f"worker:1@sha256:{'0' * 64}"),
        ({"tag": "v2"}, "worker:v2"),
        ({"repository": "timm"}, "timm:1"),  # a digest is of one image
        ({"repository": "timm", "tag": "v2"}, "timm:v2"),
    ],
)
def test_a_tiers_image_is_its_own_or_that_of_all_workers(own: dict[str, str], image: str) -> None:
    common = ["worker.image.repository=worker", f"worker.image.tag=1@sha256:{'0' * 64}"]
    settings = load(overrides=[*common, *(f"tiers.free.job.image.{key}={value}" for key, value in own.items())])
    assert settings.tiers["free"].job.image == image
    assert settings.tiers["premium"].job.image == f"worker:1@sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "name", ["m", "flowers@3f9a2c81", "tf_efficientnet_lite0.in1k@best-of_3", 60 * "m" + "@" + 60 * "t"]
)
def test_a_model_is_named_alone_or_with_a_version_or_a_tag(name: str) -> None:
    assert load(overrides=(f"tiers.free.model.name={name}",)).tiers["free"].model.name == name


@pytest.mark.parametrize("name", ["", "@v", "m@", "m@v@w", "m@.v", "m/n@v", "m@v/w", "m v", 61 * "m" + "@" + 60 * "t"])
def test_what_names_no_model_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="/tiers/free/model/name"):
        load(overrides=(f"tiers.free.model.name={name}",))


BAD = documents.read(VALUES / "bad.yaml").value


@pytest.mark.parametrize("bad", BAD, ids=[bad["case"] for bad in BAD])
def test_bad_values_name_file_line_pointer_and_rule(
    bad: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(bad["values"])
    with pytest.raises(ConfigError) as caught:
        load(Path("my.yaml"))
    assert lines(caught.value) == [bad["finding"]]


@pytest.mark.parametrize("name", ["Free", "free_1", "1st", "-a", "a-", "a" * 21, "a.b", "a/b", "é", "a\n", ""])
def test_a_tiers_name_must_fit_into_urls_and_job_names(name: str, tmp_path: Path) -> None:
    tier = {"template": "free.yaml.j2", "namespace": {"name": "n"}, "model": {"name": "m"}, "quota": {}}
    (tmp_path / "my.yaml").write_text(json.dumps({"tiers": {name: tier}}))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "my.yaml")
    assert [finding.pointer for finding in caught.value.findings] == [documents.pointer("tiers", name)]
    assert {finding.rule for finding in caught.value.findings} <= {"tier", "minLength", "maxLength"}


def test_every_finding_is_listed_by_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load(VALUES / "typos.yaml")
    assert [(finding.line, finding.pointer) for finding in caught.value.findings] == [
        (2, "/server/prot"),
        (5, "/tiers/free/qouta"),
        (7, "/tiers/free/job/cpu"),
        (8, "/tiers/free/job/memory"),
        *[(10, "/tiers/Gold")] * 5,
    ]


def test_a_missing_template_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "free.yaml.j2").touch()
    with pytest.raises(ConfigError) as caught:
        load(templates=tmp_path)
    (line,) = lines(caught.value)
    assert line.endswith(
        ': /tiers/premium/template: tiers.premium.template is "premium.yaml.j2", which is no Job template; '
        "there are: free.yaml.j2. Add it under jobTemplates (template)"
    )


def test_a_file_is_laid_over_the_defaults() -> None:
    settings = load(VALUES / "without-premium.yaml")
    assert list(settings.tiers) == ["free"]
    assert settings.tiers["free"].quota == {"cpu": "3", "memory": "2Gi"}
    assert settings.tiers["free"].job == load().tiers["free"].job


def test_a_tier_needs_four_keys_and_has_defaults_for_the_rest() -> None:
    settings = load(VALUES / "gold.yaml")
    gold, free = settings.tiers["gold"], settings.tiers["free"]
    assert list(settings.tiers) == ["free", "premium", "gold"]
    assert gold.quota == {"cpu": "6", "memory": "8Gi"}
    assert (gold.job, gold.limits, gold.waits) == (free.job, free.limits, free.waits)


def test_what_helm_has_merged_stands_alone() -> None:
    settings = load(VALUES / "gold.yaml", base=None)
    assert list(settings.tiers) == ["gold"]
    assert (settings.port, settings.lease.seconds) == (8080, 30.0)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load(tmp_path / "empty.yaml") == load()


def get(settings: Settings, path: str) -> Any:
    found: Any = settings
    for key in path.split("."):
        found = found[key] if hasattr(found, "keys") else getattr(found, key)
    return found


@pytest.mark.parametrize(
    ("flag", "path", "value"),
    [
        ("server.port=0", "port", 0),
        ("server.tickSeconds=2", "tick", 2.0),
        ("server.lobbySeconds=0", "lobby_seconds", 0.0),
        ("tiers.free.quota.cpu=4", "tiers.free.quota.cpu", "4"),
        ("tiers.free.quota.cpu=1500m", "tiers.free.quota.cpu", "1500m"),
        ("tiers.free.quota.pods=3", "tiers.free.quota.pods", "3"),
        ("tiers.free.waits.idleSeconds=2", "tiers.free.waits.idle", 2.0),
        ("tiers.free.model.variant=fp32", "tiers.free.model.variant", "fp32"),
        ("server.cors.origins={https://app.example.org}", "cors_origins", ("https://app.example.org",)),
        ("server.cors.origins=*", "cors_origins", ("*",)),
        ("tiers.free.job=null", "tiers.free.job.cpu", "900m"),
        ("tiers.free.limits.queue=7,server.port=0", "tiers.free.limits.queue", 7),
        ("tiers.free.limits.queue=7,server.port=0", "port", 0),
        ("server.hosts[1]=b.example.org,server.hosts[0]=a.example.org", "hosts", ("a.example.org", "b.example.org")),
        ("tiers.free.job.annotations.example\\.org/a=b\\,c", "tiers.free.job.annotations", {"example.org/a": "b,c"}),
        ("worker.image.tag=1.10", "tiers.premium.job.image", "tierserve-worker:1.10"),
        (f"worker.image.tag=1@sha256:{'a' * 64}", "tiers.free.job.image", f"tierserve-worker:1@sha256:{'a' * 64}"),
    ],
)
def test_a_flag_sets_one_value(flag: str, path: str, value: object) -> None:
    assert get(load(overrides=[flag]), path) == value


@pytest.mark.parametrize("kind", ["cpu", "memory", "pods"])
def test_a_quota_of_0_pauses_a_tier(kind: str) -> None:
    assert load(overrides=[f"tiers.free.quota.{kind}=0"]).tiers["free"].quota[kind] == "0"


def test_a_flag_may_take_a_quota_away() -> None:
    assert load(overrides=["tiers.free.quota.cpu=null"]).tiers["free"].quota == {"memory": "2Gi", "pods": "10"}


def typed(*flags: tuple[str, str], attached: dict[str, str] | None = None) -> Settings:
    return as_settings(complete(replace(Files().read(), typed=flags, attached=attached or {}))[0])


def test_flags_whose_option_says_the_type() -> None:
    assert typed(("set-json", "server.tickSeconds=0.25")).tick == 0.25
    assert typed(("set-json", '{"server": {"tickSeconds": 0.25}}')).tick == 0.25
    assert typed(("set-string", "worker.image.tag=2")).tiers["free"].job.image == "tierserve-worker:2"
    assert typed(("set-literal", "worker.image.tag=a.b")).tiers["free"].job.image == "tierserve-worker:a.b"
    assert typed(("set-file", "worker.image.tag=f"), attached={"f": "3"}).tiers["free"].job.image.endswith(":3")


@pytest.mark.parametrize(
    ("option", "text", "says"),
    [
        ("set-json", "server.port=x", "is not JSON at character 13: Expecting value (override)"),
        ("set-json", "server.port=NaN", "NaN is not a value of JSON (override)"),
        ("set-json", '{"server": {"port": 1, "port": 2}}', 'has the key "port" twice (override)'),
        ("set-json", "{} x", "has something behind its JSON (override)"),
        ("set-json", "server.port=" + "9" * 5000, "is not JSON: Exceeds the limit"),
        ("set-string", "server.port=1", '/server/port: must be a whole number, not "1" (type)'),
        ("set-literal", "server.port", 'must look like server.port=8080: "port" has no value (override)'),
    ],
)
def test_a_bad_flag_whose_option_says_the_type_is_named(option: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        typed((option, text))
    (line,) = lines(caught.value)
    assert line.startswith(f"--{option} {text[:200]}")
    assert says in line


def test_files_are_merged_in_their_order_and_a_null_takes_a_default_away(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("tiers: {premium: null, free: {quota: {cpu: 3, memory: 3Gi}}}")
    (tmp_path / "two.yaml").write_text("tiers: {free: {quota: {cpu: 4, pods: null}, limits: {queue: 1}}}")
    files = Files((tmp_path / "one.yaml", tmp_path / "two.yaml"), ("tiers.free.limits.queue=2",))
    settings = as_settings(complete(files.read())[0])
    assert list(settings.tiers) == ["free"]
    assert settings.tiers["free"].quota == {"cpu": "4", "memory": "3Gi"}
    assert settings.tiers["free"].limits.queue == 2


def test_a_finding_names_the_file_that_spoke_last(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("server: {lease: {seconds: 8}}")
    (tmp_path / "two.yaml").write_text("\nserver: {lease: {heartbeatSeconds: 9}}")
    with pytest.raises(ConfigError) as caught:
        complete(Files((tmp_path / "one.yaml", tmp_path / "two.yaml")).read())
    assert lines(caught.value)[0].startswith(f"{tmp_path / 'two.yaml'}:2: /server/lease/heartbeatSeconds: ")


def test_a_template_of_the_values_is_one_of_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("tiers: {free: {template: mine.yaml.j2}}\njobTemplates: {mine.yaml.j2: text}\n")
    _, templates = complete(Files((tmp_path / "my.yaml",)).read())
    assert templates.texts["mine.yaml.j2"] == "text"
    assert templates.places["mine.yaml.j2"] == f"{tmp_path / 'my.yaml'} (/jobTemplates/mine.yaml.j2)"
    assert "base.yaml.j2" in templates.texts


def test_flags_go_over_the_file_and_over_earlier_flags() -> None:
    flags = ["tiers.free.quota.cpu=5", "tiers.free.quota.cpu=6"]
    assert load(VALUES / "without-premium.yaml", flags).tiers["free"].quota == {"cpu": "6", "memory": "2Gi"}


MAKES = ": --set makes whole numbers, true, false, null and text; --set-string and --set-json make others (type)"


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("server.port", '--set server.port: must look like server.port=8080: "port" has no value (override)'),
        ("=1", "--set =1: must look like server.port=8080: a name is empty (override)"),
        ("server..port=1", "--set server..port=1: must look like server.port=8080: a name is empty (override)"),
        ("server.hosts={a", "--set server.hosts={a: has a list that does not end: } is missing (override)"),
        ("server.hosts[x]=a", '--set server.hosts[x]=a: has the index "x"; there are [0] to [65536] (override)'),
        ("server.hosts[0]x=a", '--set server.hosts[0]x=a: has "x" behind an index (override)'),
        ("server=1,server.port=2", "--set server=1,server.port=2: needs a mapping at /server, where 1 is (override)"),
        (
            "server.tickSeconds=0.25",
            '--set server.tickSeconds=0.25: /server/tickSeconds: must be a number, not "0.25"' + MAKES,
        ),
        (
            "worker.image.tag=2",
            "--set worker.image.tag=2: /worker/image/tag: must be text, not 2" + MAKES,
        ),
        (
            "server.prot=1",
            '--set server.prot=1: /server/prot: unknown key "prot"; did you mean "port"? (additionalProperties)',
        ),
        ("server.port=", '--set server.port=: /server/port: must be a whole number, not ""' + MAKES),
        ("server.port=[", '--set server.port=[: /server/port: must be a whole number, not "["' + MAKES),
        ("server.port.x=1", '--set server.port.x=1: /server/port: must be a whole number, not {"x": 1}' + MAKES),
        ("tiers.free.model=null", '--set tiers.free.model=null: /tiers/free: "model" is missing (required)'),
        (
            "tiers.free.quota.cpu=0.5",
            "--set tiers.free.quota.cpu=0.5: /tiers/free/quota/cpu: "
            "tiers.free.job.cpu is 900m, more than tiers.free.quota.cpu, 0.5: no Job could ever start (quota)",
        ),
        (
            "server.lease.seconds=10",
            "--set server.lease.seconds=10: /server/lease/seconds: "
            "server.lease.heartbeatSeconds is 10: it must be less than server.lease.seconds, 10 (lease)",
        ),
    ],
)
def test_a_bad_flag_is_named(flag: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(overrides=[flag])
    assert lines(caught.value) == [line]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("2", "2"),
        ("0.9", "0.9"),
        ('"2"', "2"),
        ("900m", "900m"),
        ("2.0", "2"),
        ("1.0e+21", "1" + "0" * 21),
        ("1.0e-3", "0.001"),
    ],
)
def test_a_number_is_as_good_as_a_quoted_quantity(written: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(f"tiers: {{free: {{quota: {{cpu: {written}}}, job: {{cpu: 1m}}}}}}")
    assert load(tmp_path / "my.yaml").tiers["free"].quota["cpu"] == text


def test_numbers_as_helm_writes_them(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(
        "tiers: {free: {limits: {imageBytes: 1.048576e+07}, quota: {memory: 4.294967296e+09}}}"
    )
    free = load(tmp_path / "my.yaml").tiers["free"]
    assert (free.limits.image_bytes, free.quota["memory"]) == (10485760, "4294967296")
    assert isinstance(free.limits.image_bytes, int)


@effort(max_examples=50)
@given(st.text(max_size=30))
def test_any_flag_is_settings_or_findings(text: str) -> None:
    for flag in (text, f"server.port={text}", f"tiers.free.quota.cpu={text}", f"tiers.{text}.x=1"):
        try:
            settings = load(overrides=[flag])
        except ConfigError as error:
            assert error.findings
        else:
            assert isinstance(settings, Settings)


def test_settings_do_not_change() -> None:
    settings: Any = load()
    free = settings.tiers["free"]
    for record in (settings, settings.lease, free, free.model, free.job, free.limits, free.waits):
        name = dataclasses.fields(record)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, None)
        assert hash(record) is not None
    with pytest.raises(TypeError, match="does not support item assignment"):
        settings.tiers["more"] = free
    with pytest.raises(TypeError, match="does not support item assignment"):
        free.quota["cpu"] = "99"


def test_a_tier_that_is_not_enabled_is_not_there(tmp_path: Path) -> None:
    """Whatever it has does not count, not even that it shares its namespace; but one tier must be left."""
    off = {"enabled": False, "namespace": {"name": "tierserve-free"}}
    (tmp_path / "my.yaml").write_text(json.dumps({"tiers": {"premium": off}}))
    assert [*load(tmp_path / "my.yaml").tiers] == ["free"]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "my.yaml", overrides=["tiers.free.enabled=false"])
    (finding,) = caught.value.findings
    assert (finding.pointer, finding.rule) == ("/tiers", "enabled")
    assert finding.message == "every tier has enabled=false: leave at least one"
