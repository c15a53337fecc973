"""The hub, as a server on this machine that answers as the real one does: its models are built like a folder."""

import hashlib
import json
import threading
import types
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import close_session, constants
from huggingface_hub.utils import _http
from timm.models import save_for_hf

from model.build.errors import BuildError
from model.build.sources import Source, load
from tests.model.build.pickled_code import WRITERS, Code
from tests.model.build.told import Told

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Answers ``/OWNER/NAME/resolve/REVISION/FILE`` from the folder ``OWNER/NAME`` of ``root``, as the hub does."""

    protocol_version = "HTTP/1.1"

    def __init__(self, root: Path, *arguments: object) -> None:
        self._root = root
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Be silent."""

    def _answer(self, with_body: bool) -> None:
        owner, name, _, revision, file = self.path[1:].split("/")
        repository = self._root / owner / name
        if owner == "gated":
            return self._refuse(403, "GatedRepo")
        if owner == "broken":
            return self._refuse(500, "Broken")
        if not repository.is_dir():
            return self._refuse(401, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        changed = owner == "changing" and revision == "main" and file != "config.json"
        if changed or not (repository / file).is_file():
            return self._refuse(404, "EntryNotFound")
        body = (repository / file).read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)
        return None

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


def point_to(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder whose ``OWNER/NAME`` the server shows."""
    root = tmp_path / "hub"
    root.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, root)) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        point_to(f"http://127.0.0.1:{server.server_port}", tmp_path / "cache", monkeypatch)
        # The library waits longer and longer before it tries again, half a minute in all.
        impatient = types.SimpleNamespace(sleep=lambda seconds: None)
        monkeypatch.setattr(_http, "time", impatient)
        yield root
        close_session()
        server.shutdown()
        serving.join(10)


def push(hub: Path, repository: str, classes: int = 3, safe: bool = True) -> torch.nn.Module:
    network: torch.nn.Module = timm.create_model("test_resnet", num_classes=classes).eval()
    labels = {"label_names": ["daisy", "rose", "tulip"]} if classes == 3 else {}
    save_for_hf(network, str(hub / repository), model_config=labels, safe_serialization=safe)
    return network


def loaded(source: str) -> Source:
    return load(source, progress=Told())


def refusal(source: str) -> str:
    with pytest.raises(BuildError) as raised:
        loaded(source)
    return str(raised.value)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("source", ["hf-hub:me/flowers", "hf_hub:me/flowers", f"hf-hub:me/flowers@{COMMIT}"])
def test_a_model_of_the_hub_is_loaded_and_its_commit_kept(hub: Path, safe: bool, source: str) -> None:
    network = push(hub, "me/flowers", safe=safe)
    model = loaded(source)
    picture = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(model.network(picture), network(picture))
    assert (model.name, model.architecture, model.arguments["num_classes"]) == ("flowers", "test_resnet", 3)
    assert model.label_names == ("daisy", "rose", "tulip")
    assert model.weights == f"hf-hub:me/flowers@{COMMIT}"
    assert model.licence == "apache-2.0"


def test_timm_s_own_models_have_imagenet_s_labels_and_nobody_else_s_have(hub: Path) -> None:
    for owner in ("timm", "me"):
        push(hub, f"{owner}/test_resnet.r160_in1k", classes=1000)
    model = loaded("hf-hub:timm/test_resnet.r160_in1k")
    assert model.label_descriptions is not None
    assert model.label_descriptions[281] == "tabby, tabby cat"
    assert model.name == "test_resnet.r160_in1k"
    assert loaded("hf-hub:me/test_resnet.r160_in1k").label_names is None


def test_config_and_weights_are_of_one_commit_while_the_main_branch_changes(hub: Path) -> None:
    push(hub, "changing/flowers")
    assert loaded("hf-hub:changing/flowers").weights == f"hf-hub:changing/flowers@{COMMIT}"


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_code_on_the_hub_never_runs(hub: Path, write: object, name: str) -> None:
    push(hub, "me/flowers")
    (hub / "me/flowers/model.safetensors").unlink()
    trace = hub / "ran"
    assert callable(write)
    write(hub / "me/flowers" / name, Code(trace))
    assert f"hf-hub:me/flowers: {name} carries code (posix.system)" in refusal("hf-hub:me/flowers")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("hf-hub:me/nothing", "The hub has no hf-hub:me/nothing"),
        ("hf-hub:me/flowers@v9", "no revision v9"),
        ("hf-hub:gated/flowers", "accept its terms and set HF_TOKEN"),
        ("hf-hub:broken/flowers", "hf-hub:broken/flowers cannot be downloaded"),
        ("hf-hub:a/b/c", "write hf-hub:OWNER/NAME"),
        ("hf-hub:", "write hf-hub:OWNER/NAME"),
        ("hf-hub:../../etc", "write hf-hub:OWNER/NAME"),
    ],
)
def test_a_repository_that_cannot_be_had(hub: Path, source: str, words: str) -> None:
    push(hub, "me/flowers")
    assert words in refusal(source)


def test_a_repository_of_something_else(hub: Path) -> None:
    for name in ("bare", "words", "empty"):
        push(hub, f"me/{name}")
    (hub / "me/bare/model.safetensors").unlink()
    (hub / "me/words/config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    (hub / "me/empty/config.json").unlink()
    assert "has neither model.safetensors nor pytorch_model.bin" in refusal("hf-hub:me/bare")
    assert "does not tell the architecture" in refusal("hf-hub:me/words")
    assert "has no config.json" in refusal("hf-hub:me/empty")


def test_a_hub_that_does_not_answer_is_named_and_its_cache_is_enough(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(hub, "me/flowers")
    loaded("hf-hub:me/flowers")
    point_to("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)
    assert loaded("hf-hub:me/flowers").weights == f"hf-hub:me/flowers@{COMMIT}"
    point_to("http://127.0.0.1:9", tmp_path / "empty", monkeypatch)
    assert "the hub does not answer" in refusal("hf-hub:me/flowers")
