"""An image gets the models that its runtime can load, with all their names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.running import ROOT


def pick(runtime: str, source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "docker" / "pick_variants.py"), runtime, str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def make(folder: Path, *variants: tuple[str, str]) -> None:
    folder.mkdir()
    fields = [{"runtime": runtime, "name": "fp32", "file": file} for runtime, file in variants]
    for _, file in variants:
        (folder / file).write_bytes(b"weights")
    (folder / "model.json").write_text(json.dumps({"name": "flowers", "variants": fields}))


def test_models_keep_their_names_and_lose_what_is_for_other_runtimes(tmp_path: Path) -> None:
    source, target = tmp_path / "models", tmp_path / "picked"
    source.mkdir()
    make(source / "flowers@3f9a2c81", ("onnx", "model.onnx"), ("timm", "model.safetensors"))
    make(source / "birds@00000001", ("timm", "model.safetensors"))
    for link, model in (
        ("flowers", "flowers@3f9a2c81"),
        ("flowers@best", "flowers@3f9a2c81"),
        ("birds", "birds@00000001"),
    ):
        (source / link).symlink_to(model)
    make(source / ".build-1", ("onnx", "model.onnx"))
    done = pick("onnx", source, target)
    assert done.returncode == 0
    assert "birds@00000001 has no variant for the runtime onnx" in done.stdout
    assert sorted(path.name for path in target.iterdir()) == ["flowers", "flowers@3f9a2c81", "flowers@best"]
    assert sorted(path.name for path in (target / "flowers@best").iterdir()) == ["model.json", "model.onnx"]
    assert (target / "flowers").readlink() == Path("flowers@3f9a2c81")
    pick("timm", source, tmp_path / "timm")
    assert (tmp_path / "timm" / "birds" / "model.safetensors").is_file()


def test_the_server_gets_the_whole_records_and_no_weights(tmp_path: Path) -> None:
    source, target = tmp_path / "models", tmp_path / "records"
    source.mkdir()
    make(source / "flowers@3f9a2c81", ("onnx", "model.onnx"), ("timm", "model.safetensors"))
    make(source / "birds@00000001", ("timm", "model.safetensors"))
    (source / "flowers").symlink_to("flowers@3f9a2c81")
    assert pick("records", source, target).returncode == 0
    assert sorted(path.name for path in target.iterdir()) == ["birds@00000001", "flowers", "flowers@3f9a2c81"]
    assert (target / "flowers").readlink() == Path("flowers@3f9a2c81")
    for model in ("flowers@3f9a2c81", "birds@00000001"):
        assert [path.name for path in (target / model).iterdir()] == ["model.json"]
        assert (target / model / "model.json").read_bytes() == (source / model / "model.json").read_bytes()


def test_a_folder_without_models_ends_the_build_of_the_image(tmp_path: Path) -> None:
    done = pick("onnx", tmp_path, tmp_path / "picked")
    assert done.returncode == 1
    assert "make models" in done.stderr
