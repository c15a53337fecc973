"""The images contain what they need and no more, and they run on a read-only filesystem."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.cluster import base
from tests.cluster.images import TARGETS, VERSION, image_name
from tests.cluster.shell import ROOT, ClusterError
from tests.images.containers import ID, Image, unpacked
from tests.running import lacking, models_directory

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

LARGEST_MB = {"server": 310, "worker": 350, "worker-timm": 6500}
CHOSEN = os.environ.get("TIERSERVE_TEST_IMAGES", "server worker").split()
"""worker-timm is not among them, because it downloads gigabytes. TIERSERVE_TEST_IMAGES=worker-timm tests it."""

servers = pytest.mark.parametrize("image", [name for name in CHOSEN if name == "server"], indirect=True)
workers = pytest.mark.parametrize("image", [name for name in CHOSEN if name != "server"], indirect=True)

BUILD_TOOLS = ["gcc*", "cc", "c++", "g++*", "make", "ld", "as", "pip*", "uv", "easy_install*"]
UNCHECKED_HASH = 1
NOT_COMPILED = re.compile(r"^usr/.*/(test|tests|idlelib|lib2to3|site-packages)/|/py312_\w+\.py$")
"""Parts of the standard library that nobody imports, and files in the syntax of another Python."""

CLASSIFY = """
import io, json, sys
from pathlib import Path
from PIL import Image
from model.decoder import Decoder
from model.runtimes.base import read_model, top
from {module} import {name} as Runtime
model = read_model(Path(sys.argv[1]))
runtime = Runtime()
runtime.setup(model, sys.argv[2])
png = io.BytesIO()  # which is decoded in a process of its own
Image.open("/tmp/picture.jpg").save(png, "PNG")
decoder = Decoder(model.preprocessing, 24_000_000, 20)
picture = decoder.load(png.getvalue())
decoder.close()
print(json.dumps(top(runtime.predict([picture])[0], model.labels, 3)))
"""

SERVE = """
import os, subprocess, sys, time, urllib.request
with open("/tmp/kubeconfig", "w") as file:
    file.write("{kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x, user: x}}],"
               "users: [{name: x, user: {token: x}}], clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]}")
serve = ["tierserve", "serve", "--engine", "kubernetes", "--internal-url", "http://x:8081", "--state", "/tmp/state"]
server = subprocess.Popen(serve, env={**os.environ, "KUBECONFIG": "/tmp/kubeconfig"})
def wait(path, part):
    seen = None
    for _ in range(600):
        try:
            seen = urllib.request.urlopen("http://127.0.0.1:8080" + path).read().decode()
            if part in seen:
                return
        except OSError as error:
            seen = error
        if server.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"{path} has no {part!r}, status {server.poll()}; last seen: {seen}")
wait("/healthz", "")
picture = open("/srv/tierserve/model/pictures/cat.jpg", "rb").read()
request = urllib.request.Request("http://127.0.0.1:8080/img-classification/free", picture, {"Prefer": "respond-async"})
request.add_header("Content-Type", "image/jpeg")
print(urllib.request.urlopen(request).status)
wait("/v1/tiers", "the API server does not answer")
print(subprocess.check_output(["tierserve", "tiers"], text=True))
server.terminate()
print(server.wait())
"""
SHARED = """
import psycopg, sqlalchemy, server.queue.store.postgresql, server.blobs.objects
assert psycopg.pq.__impl__ == "binary"
engine = sqlalchemy.create_engine("postgresql+psycopg://somebody@127.0.0.1:1/nothing")
try:
    engine.connect()
except sqlalchemy.exc.OperationalError as error:
    print(error.orig)
try:
    server.blobs.open_blobs("s3://pictures")
except server.blobs.BlobsUnusable as error:
    print(error)
"""


@pytest.fixture(scope="session", autouse=True)
def builder() -> None:
    """Skip these tests where images cannot be built. In CI they fail."""
    try:
        base.require_tools()
    except ClusterError as error:
        lacking(str(error))


@pytest.fixture(scope="session", params=CHOSEN)
def image(request: pytest.FixtureRequest, builder: None) -> Iterator[Image]:
    with unpacked(request.param) as found:
        yield found


def target(image: Image) -> str:
    return next(target for target in TARGETS if image_name(target) == image.name)


def distributions(image: Image) -> dict[str, str]:
    """Installed packages and their versions, as the image's own Python sees them."""
    program = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    listed = image.run("python", "-c", program)
    assert listed.returncode == 0, listed.stderr
    return dict(entry.lower().replace("_", "-").split("==") for entry in listed.stdout.split())


def wanted(extra: str | None) -> set[str]:
    """What setup.py requires always, or what it requires for an extra."""
    marks = [
        (re.split(r"[^\w.-]", name)[0].lower(), re.search(r"extra == ['\"](\w+)['\"]", name))
        for name in importlib.metadata.requires("tierserve") or []
    ]
    return {name for name, mark in marks if (mark.group(1) if mark else None) == extra}


def test_it_is_small(image: Image) -> None:
    assert image.bytes <= LARGEST_MB[target(image)] * 1e6, f"{image.name}: {image.bytes / 1e6:.0f} MB"


def test_its_configuration_is_that_of_a_restricted_pod(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in image.config["Labels"].items()}
    assert image.config["User"] == f"{ID}:{ID}" and ID > 10000
    assert image.config["WorkingDir"] == "/srv/tierserve"
    assert image.config.get("Entrypoint") == (["python", "-m", "server"] if target(image) == "server" else None)
    assert labels["title"] == f"tierserve-{target(image)}"
    assert labels["description"]
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == VERSION == importlib.metadata.version("tierserve")


def test_it_keeps_no_tool_and_nothing_of_the_build(image: Image) -> None:
    places = ["usr/bin", "usr/local/bin", "bin", "sbin", "usr/sbin", "opt/tierserve/bin"]
    assert image.files(*(f"{place}/{tool}" for place in places for tool in BUILD_TOOLS)) == []
    asked_for = {"setuptools"} if target(image) == "worker-timm" else set()  # torch requires it
    packagers = {"pip", "setuptools", "uv", "wheel"} - asked_for
    assert image.files(*(f"**/*-packages/{name}{end}" for name in packagers for end in ("", "-*", "*.whl"))) == []
    assert image.files("**/ensurepip", "usr/share/python-wheels", "**/.cache", "tmp/*", "src", "pip") == []
    assert image.files("etc/pip.conf", "var/lib/apt/lists/*_*", "var/cache/apt/*.bin", "**/*.pyi") == []
    assert not re.search("PIP_|index-url|trusted-host", image.record)
    own = re.compile(
        r"(opt|srv)/tierserve/|etc/(passwd|group)$|usr/(local/)?lib/python3[^/]*/(.*/)?(__pycache__/|\.wh\.)"
    )
    assert [path for path in image.added if not own.match(path) and path != "usr/share/.wh.python-wheels"] == []


def test_it_has_the_locked_packages_of_its_extra(image: Image) -> None:
    locked = {line.partition(" ")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    there = distributions(image)
    assert {f"{name}=={version}" for name, version in there.items()} - {f"tierserve=={VERSION}"} <= locked
    expected = {
        "server": set().union(*map(wanted, (None, "server", "cluster", "postgresql", "objects", "tracing"))),
        "worker": wanted("worker"),
        "worker-timm": {"numpy", "pillow", "safetensors", "timm", "torch"},
    }
    assert expected[target(image)] <= there.keys()
    strangers = {
        "server": wanted("worker"),
        "worker": wanted(None) | wanted("server") | {"torch"},
        "worker-timm": {"tornado", "sqlalchemy"},
    }
    assert strangers[target(image)] & there.keys() == set()


def test_it_has_the_code_and_the_data_of_its_part_only(image: Image) -> None:
    if target(image) == "server":
        files = image.files("srv/tierserve/model/**/*.*", "srv/tierserve/tests")
        assert sorted(files) == ["srv/tierserve/model/formats.json", "srv/tierserve/model/pictures/cat.jpg"]
        assert {path.rpartition("/")[2] for path in image.files("srv/tierserve/models/*/*")} == {"model.json"}
        assert (image.root / "srv/tierserve/models/tf_efficientnet_lite0").is_symlink()
    else:
        ending = "onnx" if target(image) == "worker" else "safetensors"
        records = image.files("srv/tierserve/models/*/model.json")
        weights = image.files("srv/tierserve/models/*/model*")
        assert records
        assert {path.rpartition(".")[2] for path in weights} == {"json", ending}
        assert (image.root / "srv/tierserve/models/tf_efficientnet_lite0").is_symlink()
        assert image.files("srv/tierserve/server", "srv/tierserve/model/pictures", "srv/tierserve/model/build/*") == []


def test_every_module_is_compiled(image: Image) -> None:
    sources = image.files(
        "opt/tierserve/lib/**/*.py", "srv/**/*.py", "usr/lib/python3.*/**/*.py", "usr/local/lib/**/*.py"
    )
    sources = [path for path in sources if not NOT_COMPILED.search(path)]
    assert len(sources) > 900
    bare = [path for path in sources if not compiled(image, path)]
    assert bare == []


def compiled(image: Image, source: str) -> bool:
    """Whether Python has a .pyc to use. Ours must not depend on the source's time, because copying changes that."""
    path = image.root / source
    return any(
        source.startswith("usr/") or int.from_bytes(found.read_bytes()[4:8], "little") == UNCHECKED_HASH
        for found in path.parent.glob(f"__pycache__/{path.stem}.cpython-*.pyc")
    )


def test_nothing_is_compiled_at_its_start(image: Image) -> None:
    module = "server" if target(image) == "server" else "model"
    started = image.run("python", "-v", "-m", module, "--help")
    assert started.returncode == 0, started.stderr
    assert "__pycache__" in started.stderr
    assert re.findall(r"# code object from '?(\S+\.py)\b'?$", started.stderr, re.MULTILINE) == []


@servers
def test_the_server_runs_with_nothing_to_write_on(image: Image) -> None:
    checked = image.run(*image.config["Entrypoint"], "check")
    assert checked.returncode == 0, checked.stderr
    assert "are right" in checked.stdout
    shown = image.run("sh", "-c", "id -u; tierserve render free | head -1; python -c 'import kubernetes.client'")
    assert shown.stdout.splitlines() == [str(ID), "apiVersion: batch/v1"], shown.stderr


@servers
def test_the_server_takes_pictures_and_its_client_shows_tiers(image: Image) -> None:
    served = image.run("python", "-c", SERVE)
    assert served.returncode == 0, served.stderr
    status, *table, ended = served.stdout.splitlines()
    assert (status, ended) == ("202", "0"), served.stderr
    assert "free" in "".join(table) and "premium" in "".join(table)
    assert "the API server does not answer" in served.stderr


@servers
def test_the_server_knows_postgresql_and_buckets(image: Image) -> None:
    store = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    tried = image.run("env", *(f"{name}={value}" for name, value in store.items()), "python", "-c", SHARED)
    assert tried.returncode == 0, tried.stderr
    assert "Connection refused" in tried.stdout
    assert "cannot use s3://pictures: cannot write" in tried.stdout


@servers
def test_the_server_can_wait_before_it_stops(image: Image) -> None:
    assert image.run("sleep", "0").returncode == 0, "the chart's preStop hook runs it"


@workers
@pytest.mark.parametrize(("model", "variant"), [("tf_efficientnet_lite0", "int8"), ("tf_efficientnet_lite2", "fp32")])
def test_the_worker_classifies(image: Image, model: str, variant: str) -> None:
    names = {"worker": ("onnx", "OnnxRuntime"), "worker-timm": ("timm", "TimmRuntime")}
    module, name = names[target(image)]
    classify = CLASSIFY.format(module=f"model.runtimes.{module}", name=name)
    variant = variant if module == "onnx" else "fp32"
    mounts = {"/tmp/picture.jpg": ROOT / "model" / "pictures" / "cat.jpg"}
    answered = image.run("python", "-c", classify, f"/srv/tierserve/models/{model}", variant, mounts=mounts)
    assert answered.returncode == 0, answered.stderr
    labels = dict(json.loads(answered.stdout))
    assert "tiger cat" in labels and "Egyptian cat" in labels


@workers
def test_a_worker_without_a_server_says_so(image: Image) -> None:
    runtime = "onnx" if target(image) == "worker" else "timm"
    ended = image.run("python", "-m", "model", "work", "--model", "tf_efficientnet_lite0", "--runtime", runtime)
    assert ended.returncode == 1
    assert "workers are started by the server" in ended.stderr


def test_the_bill_of_materials_names_every_package_with_its_version(image: Image) -> None:
    text = (image.root / "opt/tierserve/sbom.cdx.json").read_text()
    bill = json.loads(text)
    assert bill["bomFormat"] == "CycloneDX"
    assert JsonStrictValidator(SchemaVersion.from_version(bill["specVersion"])).validate_str(text) is None
    records = image.files("opt/tierserve/lib/**/*.dist-info")
    found = [importlib.metadata.Distribution.at(image.root / path) for path in records]
    assert len(found) > 3
    assert sorted((one["name"], one["version"]) for one in bill["components"]) == sorted(
        (one.metadata["Name"], one.version) for one in found
    )


def test_the_base_image_is_recorded(image: Image) -> None:
    assert image.config["Labels"]["org.opencontainers.image.base.name"] == base.NAME


@pytest.fixture(scope="module")
def model_builder(builder: None) -> Iterator[Image]:
    with unpacked("model-builder", build_models=True) as found:
        yield found


def test_a_build_that_gets_no_models_makes_the_default_ones_without_torch(model_builder: Image) -> None:
    packages = {path.rpartition("/")[2].partition("-")[0].lower() for path in model_builder.files("**/*.dist-info")}
    assert {"onnx", "onnxruntime", "safetensors", "numpy"} <= packages
    assert {name for name in packages if re.match("torch|timm|triton|nvidia", name)} == set()
    records = {path.name: json.loads((path / "model.json").read_bytes()) for path in default_models(model_builder)}
    assert records.keys() == {"tf_efficientnet_lite0", "tf_efficientnet_lite2"}
    for name, record in records.items():
        made = json.loads((models_directory() / name / "model.json").read_bytes())
        variants = {(variant["runtime"], variant["name"]) for variant in record["variants"]}
        assert variants == {("onnx", "fp32"), ("onnx", "int8"), ("timm", "fp32")}
        digests = ("graph_sha256", "weights_sha256")
        assert [record["build"][name] for name in digests] == [made["build"][name] for name in digests]


def default_models(image: Image) -> list[Path]:
    """The folders of the models in the image, by their names without a version."""
    return [path for path in (image.root / "models").iterdir() if path.is_symlink()]
