"""The parts of the test cluster's code that need no cluster."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import binaries, claims, packages
from tests.cluster.base import contents
from tests.cluster.busybox import BUSYBOX, PAUSE, write_archive
from tests.cluster.cluster import NODES, up
from tests.cluster.network import Network, free_network
from tests.cluster.shell import ROOT, ClusterError, run
from tests.cluster.testing import obstacle

needs_busybox = pytest.mark.skipif(packages.static_busybox() is None, reason="apt-get install busybox-static")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to become somebody else")


@needs_busybox
def test_the_archive_names_both_images_and_every_blob_by_its_digest(tmp_path: Path) -> None:
    busybox = packages.static_busybox()
    assert busybox is not None
    write_archive(busybox, tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as archive:
        content = {name: file.read() for name in archive.getnames() if (file := archive.extractfile(name))}
    index = json.loads(content.pop("index.json"))
    assert json.loads(content.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    names = [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]]
    assert names == [PAUSE, BUSYBOX]
    assert list(contents(tmp_path / "images.tar").items()) == [
        (name, entry["digest"]) for name, entry in zip(names, index["manifests"], strict=True)
    ]
    for name, blob in content.items():
        assert name == f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"
    for entry in index["manifests"]:
        manifest = json.loads(content[f"blobs/{entry['digest'].replace(':', '/')}"])
        for part in (manifest["config"], *manifest["layers"]):
            assert len(content[f"blobs/{part['digest'].replace(':', '/')}"]) == part["size"]


def test_a_program_with_a_loader_is_no_image_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "busybox").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.static_busybox() is None
    assert "busybox-static" in packages.missing()


def test_networks_do_not_overlap() -> None:
    first, second = Network(0, NODES), Network(1, NODES)
    for read in ("link", "host", "control", "pods", "services", "api_service"):
        assert getattr(first, read) != getattr(second, read)
    addresses = {network.address(node) for network in (first, second) for node in NODES}
    ranges = {network.node_pods(node) for network in (first, second) for node in NODES}
    assert len(addresses) == len(ranges) == 4


@pytest.mark.skipif(packages.missing() != [], reason="python -m tests.cluster packages --install")
def test_a_network_in_use_is_left_alone() -> None:
    taken = set(range(9))
    assert free_network(NODES, taken).number == 9 or Network(9, NODES).conflict()
    with pytest.raises(ClusterError, match="no room for another cluster"):
        free_network(NODES, taken | {9})


def test_a_number_is_claimed_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "CLAIMS", tmp_path / "claims")
    assert claims.claim(3, Path("/one"))
    assert not claims.claim(3, Path("/two"))
    assert claims.claims() == {3: Path("/one")}
    assert (claims.number_of(Path("/one")), claims.number_of(Path("/two"))) == (3, None)
    claims.release(3)
    assert not (tmp_path / "claims").exists()


def test_without_go_it_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="install Go"):
        binaries.ensure(["kubectl"])
    with pytest.raises(ClusterError, match="no such binary: kubctl"):
        binaries.ensure(["kubctl"])
    assert obstacle() is not None


def test_a_binary_is_built_again_only_for_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {program.name: program for program in binaries.PROGRAMS}
    before = {name: binaries.key(program) for name, program in programs.items()}
    assert len(set(before.values())) == len(before)
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_bytes((binaries.MODULE / name).read_bytes() + b"\n")
    monkeypatch.setattr(binaries, "MODULE", tmp_path)
    changed = {name for name, program in programs.items() if binaries.key(program) != before[name]}
    assert changed == {*binaries.KUBERNETES, "etcd"}
    assert binaries.key(replace(programs["helm"], flags="")) != before["helm"]


def test_what_other_versions_have_built_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # so that go is not found
    helm = next(program for program in binaries.PROGRAMS if program.name == "helm")
    built = tmp_path / "tierserve" / "bin" / "built" / f"helm-{binaries.key(helm)}"
    built.parent.mkdir(parents=True)
    built.write_text("built")
    first = binaries.ensure(["helm"])
    monkeypatch.setattr(binaries, "PROGRAMS", [helm, replace(helm, name="other")])
    second = binaries.ensure(["helm"])
    assert first != second
    assert [(folder / "helm").read_text() for folder in (first, second)] == ["built", "built"]


@pytest.mark.skipif(obstacle() is not None, reason="what a cluster needs is missing")
def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ClusterError, match=r"holds other things \(thesis.txt\)"):
        up(tmp_path)
    with pytest.raises(ClusterError, match="cannot be in /var/lib/cluster"):
        up(Path("/var/lib/cluster"))


@needs_root
def test_without_root_it_says_so() -> None:
    code = (
        "import os; from pathlib import Path; from tests.cluster.cluster import up; os.setuid(65534); up(Path('there'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert "root is needed" in done.stderr


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(ClusterError, match="ended with 3: because"):
        run("sh", "-c", "echo because >&2; exit 3")
    with pytest.raises(ClusterError, match=r"not within 0.1 s: sleep 5"):
        run("sleep", "5", timeout=0.1)
    with pytest.raises(ClusterError, match="is not installed"):
        run("no-such-command")
