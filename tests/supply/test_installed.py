"""A wheel, built from the source distribution: alone it is the client, and with extras a server without a checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.running import ROOT, Service, lacking
from tests.waiting import eventually

SOURCES = (
    *("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"),
    *("chart", "jobtemplates", "model", "schemas", "server", "tierserve"),
)
EXTRAS = ("server", "cluster", "postgresql", "objects", "tracing", "worker", "build", "timm")
CAT = ROOT / "model" / "pictures" / "cat.jpg"
PACKAGES = """
import importlib.metadata as metadata, json
print(json.dumps([[found.name for found in metadata.distributions()], metadata.requires("tierserve")]))
"""
CLASSIFIES = """
import sys
from tierserve import Client

with Client(sys.argv[1]) as client:
    print(client.classify(sys.argv[2], tier="free", top_k=1).labels[0].label)
assert not {"PIL", "rich", "server", "model"} & set(sys.modules), sorted(sys.modules)
"""
TYPED = """
from tierserve import AsyncClient, Client

score: float = Client().classify("cat.jpg", tier="free", top_k=1).labels[0].score
place: int = Client().submit(b"").results[0].labels[0].label

async def wait() -> str:
    async with AsyncClient() as client:
        return await client.wait("an-id", timeout="soon")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, which is built from the files of the checkout."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    uv = [sys.executable, "-m", "uv", "build", "--offline", "--no-build-isolation", "--python", sys.executable]
    done = run(*uv, "--out-dir", built, source)
    assert done.returncode == 0, done.stderr
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel and what it needs, and nothing else."""
    return installed(tmp_path_factory.mktemp("alone"), str(wheel))


@pytest.fixture(scope="module")
def served(wheel: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server from the wheel, with what ``make run`` installs, and workers. Its folder is not the checkout.

    The tier premium wants torch and timm, which are not there.
    """
    programs = installed(tmp_path_factory.mktemp("serving"), f"{wheel}[server,worker,build]")
    settings = ("tiers.premium.model.runtime=timm", "tiers.premium.model.variant=fp32")
    found = Service(tmp_path_factory.mktemp("state"), models, settings, root=tmp_path_factory.mktemp("elsewhere"))
    found.command[:3] = [str(programs / "tierserve")]
    found.start()
    yield found
    found.stop()


def installed(folder: Path, wanted: str) -> Path:
    """Make an environment with the versions of the lock, from uv's cache if they are there; return its programs."""
    venv.create(folder, symlinks=True, with_pip=False)
    programs = folder / "bin"
    install: list[str | Path] = [
        "sh",
        ROOT / "docker" / "install.sh",
        Path(sys.executable).parent,
        programs / "python",
        wanted,
    ]
    for offline in ("1", "0"):
        done = run(*install, cwd=ROOT, env={"UV_OFFLINE": offline})
        if done.returncode == 0:
            break
    else:
        lacking(f"neither uv's cache nor an index has the packages: rm -r .venv; make .venv/.test ({done.stderr})")
    return programs


def run(
    *words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that sees nothing of the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIERSERVE_", "PYTHON"))}
    return subprocess.run(
        words, cwd=cwd, env=kept | (env or {}), capture_output=True, text=True, timeout=110, check=False
    )


def test_the_wheel_alone_brings_what_no_extra_is_for(alone: Path) -> None:
    names, needs = json.loads(run(alone / "python", "-c", PACKAGES).stdout)
    present = {str(canonicalize_name(name)) for name in names}
    base, more = needed(needs, [""]), needed(needs, EXTRAS)
    assert base <= present
    assert {"torch", "kubernetes", "tornado", "sqlalchemy", "pillow"} <= more
    assert not (more - base) & present
    assert len(present) < 20  # 13 at present


def needed(needs: list[str], extras: Sequence[str]) -> set[str]:
    """The names of the packages that are needed for one of these extras."""
    wanted = set()
    for need in map(Requirement, needs):
        marker = need.marker or Marker("extra == ''")
        if any(marker.evaluate({"extra": extra}) for extra in extras):
            wanted.add(str(canonicalize_name(need.name)))
    return wanted


@pytest.mark.parametrize("words", [(), ("serve",), ("keys", "create"), ("model",), ("model", "push"), ("render",)])
def test_the_command_alone_explains_itself(alone: Path, words: tuple[str, ...]) -> None:
    done = run(alone / "tierserve", *words, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(" ".join(("Usage: tierserve", *words)))


@pytest.mark.parametrize(
    ("words", "extras"),
    [
        (("serve",), "server"),
        (("check",), "server"),
        (("render", "free"), "server"),
        (("keys", "create", "--owner", "a", "--tier", "free", "--pepper-file", str(CAT)), "server"),
        (("model", "build", "--help"), "worker,build"),
        (("model", "work", "--help"), "worker"),
        (("model", "list", "--models", "."), "worker"),
        (("model", "push", "."), "worker"),
    ],
)
def test_a_command_that_needs_more_says_in_one_line_what_to_install(
    alone: Path, tmp_path: Path, words: tuple[str, ...], extras: str
) -> None:
    done = run(alone / "tierserve", *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"Error: .* pip install 'tierserve\[{extras}\]'.*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_the_client_alone_classifies_with_a_server_that_has_no_checkout(alone: Path, served: Service) -> None:
    done = run(alone / "python", "-c", CLASSIFIES, f"http://127.0.0.1:{served.port}", CAT)
    assert done.stderr == ""
    assert "cat" in done.stdout


def test_the_command_alone_classifies(alone: Path, served: Service) -> None:
    url = f"http://127.0.0.1:{served.port}"
    done = run(alone / "tierserve", "classify", CAT, "--json", "--url", url)
    assert done.stderr == ""
    assert "cat" in json.loads(done.stdout)["results"][0]["labels"][0]["label"]
    done = run(alone / "tierserve", "tiers", "--json", "--url", url)
    assert done.stderr == ""
    assert {tier["name"] for tier in json.loads(done.stdout)} == {"free", "premium"}


def test_what_serves_brings_no_torch_and_is_small(served: Service) -> None:
    programs = Path(served.command[0]).parent
    names, _ = json.loads(run(programs / "python", "-c", PACKAGES).stdout)
    assert {"onnx", "onnxruntime", "tornado"} <= set(names)
    assert not [name for name in names if re.match("torch|timm|triton|nvidia|cuda|onnxscript|huggingface", name)]
    files = [file.stat() for file in programs.parent.rglob("*") if file.is_file() and not file.is_symlink()]
    assert sum(file.st_size for file in files) < 350e6  # 290 MB at present; torch alone has 1,000


def test_a_tier_whose_workers_lack_timm_says_how_to_install_it(served: Service) -> None:
    sent = served.post("premium", CAT.read_bytes(), {"Prefer": "respond-async"})
    assert sent.status == 202
    path = sent.json["urls"]["get"]
    reason = eventually(
        lambda: str(served.get(path).json["queue"]["reason"]), 60, "the workers ended", lambda said: "exit code" in said
    )
    assert "exit code 4: cannot set up: torch and timm are not installed here (" in reason
    assert "install with: pip install 'tierserve[timm]'" in reason


def test_a_push_that_can_try_nothing_is_an_error(served: Service, models: Path) -> None:
    directory = models / "tf_efficientnet_lite0"
    done = run(served.command[0], "model", "push", directory, "--try", "timm/fp32", "--state", served.state)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: none of timm/fp32 can be tried here: torch and timm are .*", done.stderr.strip())


def test_a_default_model_is_built_without_torch_and_pushed(served: Service, tmp_path: Path) -> None:
    command = served.command[0]
    build = ("model", "build", "tf_efficientnet_lite0", "--name", "mine", "--require", "int8", "--output", "built")
    done = run(command, *build, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "built" / "mine" / "model.json").read_bytes())
    variants = {f"{one['runtime']}/{one['name']}": one["measured"] for one in record["variants"]}
    assert set(variants) == {"onnx/fp32", "onnx/int8", "timm/fp32"}
    assert variants["onnx/fp32"]["agreement"] == 1
    assert variants["onnx/int8"]["ms"] > 0
    assert variants["timm/fp32"]["ms"] is None
    listed = run(command, "model", "list", "--models", "built", cwd=tmp_path)
    assert "mine@" in listed.stdout
    done = run(command, "model", "push", "built/mine", "--json", "--state", served.state, cwd=tmp_path)
    pushed = json.loads(done.stdout)
    assert pushed["untried"] == ["timm/fp32"]
    done = run(command, "model", "rm", pushed["reference"], "--state", served.state)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [("resnet18",), ("best.pth",), ("tf_efficientnet_lite0", "--crop-pct", "0.9")])
def test_any_other_build_says_how_to_install_timm_and_keeps_nothing(
    served: Service, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "best.pth").write_bytes(b"weights")
    done = run(served.command[0], "model", "build", *words, "--output", "built", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith(f"cannot build {words[0]}: torch, timm, onnxscript and huggingface_hub are not installed")
    assert said.endswith("install with: pip install 'tierserve[timm]'")
    assert not list(tmp_path.glob("built/*"))


def test_an_operator_makes_a_key_with_the_command_alone(alone: Path, served: Service) -> None:
    state = ("--state", served.state)
    done = run(alone / "tierserve", "keys", "create", "--owner", "anna", "--tier", "free", "--json", *state)
    assert done.stderr == ""
    assert json.loads(done.stdout)["key"].startswith("tsk_")
    done = run(alone / "tierserve", "model", "list", "--json", *state)
    assert done.stderr == ""
    assert json.loads(done.stdout) == []


def test_a_server_without_a_checkout_has_its_pages_and_its_sample_picture(served: Service) -> None:
    for path in ("/", "/watch", "/page/cat.jpg", "/page/ask.js", "/docs", "/openapi.json"):
        assert served.get(path).status == 200, path
    sample = re.search(r"--data-binary @(\S+) ", served.log.read_text())
    assert sample
    assert Path(sample[1]).read_bytes() == CAT.read_bytes()


def test_a_server_without_a_checkout_checks_settings_and_renders_jobs(served: Service, tmp_path: Path) -> None:
    command = served.command[0]
    done = run(command, "check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(command, "render", "premium", "--validate", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(command, "serve", "--engine", "kubernetes", "--internal-url", "http://server:8081", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: --engine kubernetes needs kubernetes: pip install")


def test_what_the_client_returns_has_types_for_who_checks_them(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(TYPED)
    mypy = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable")
    said = run(*mypy, alone / "python", "sample.py", cwd=tmp_path).stdout
    assert [line.partition(" error: ")[0] for line in said.splitlines()[:-1]] == [
        *("sample.py:5:", "sample.py:9:", "sample.py:9:"),
    ], said
    assert 'expression has type "str", variable has type "int"' in said
    assert 'incompatible return value type (got "Prediction", expected "str")' in said.replace("Inc", "inc")
    assert 'incompatible type "str"; expected "float | None"' in said
