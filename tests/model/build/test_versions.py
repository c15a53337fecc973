"""Names, versions and tags of models are folders and links, and nothing half-made or of others is touched."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from model.build import versions
from model.build.errors import BuildError
from model.description import Measured, Model, ModelError, Variant, digest_of, file_digest, read_model, write_model
from model.images import Preprocessing

HOW = Preprocessing(32, 32, 3, 1.0, "center", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def make(folder: Path, name: str, labels: tuple[str, ...]) -> Model:
    """Write a model directory as a build does."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    variant = Variant(
        "onnx", "fp32", "model.onnx", 7, file_digest(folder / "model.onnx"), Measured(1, 1, 0, 1, 1, 1, 1, 1)
    )
    digest = digest_of("test_resnet", {"num_classes": len(labels)}, labels, HOW, [variant])
    arguments = {"num_classes": len(labels)}
    model = Model(folder, name, digest[:8], digest, "test_resnet", arguments, labels, HOW, (variant,), {}, (), {})
    write_model(model)
    return model


def publish(models: Path, name: str, labels: tuple[str, ...], tags: tuple[str, ...] = ()) -> Model:
    with versions.unfinished(models) as folder:
        made = Path(folder) / "model"
        return read_model(versions.publish(made, models, make(made, name, labels), tags))


def test_every_name_of_a_model_finds_it(tmp_path: Path) -> None:
    models = tmp_path / "models"
    old = publish(models, "flowers", ("rose", "tulip"), ("stable",))
    new = publish(models, "flowers", ("rose", "蓮"))
    assert old.version != new.version
    expected = {"flowers": new, "flowers@stable": old, old.reference: old, new.reference: new}
    for reference, model in expected.items():
        assert read_model(models / reference).labels == model.labels
        assert versions.find(models, reference).digest == model.digest
    assert sorted(path.name for path in models.iterdir()) == sorted(expected)
    versions.tag(models, "flowers", "stable")
    assert read_model(models / "flowers@stable").labels == new.labels


def test_all_models_are_listed_with_what_points_to_them(tmp_path: Path) -> None:
    old = publish(tmp_path, "flowers", ("rose", "tulip"), ("stable",))
    os.utime(old.path / "model.json", (1, 1))
    new = publish(tmp_path, "flowers", ("rose", "lotus"), ("beta", "next"))
    other = publish(tmp_path, "birds", ("owl", "crow"))
    (tmp_path / "notes").mkdir()
    assert [(model.reference, links) for model, links in versions.listed(tmp_path)] == [
        (other.reference, ("birds",)),
        (old.reference, ("flowers@stable",)),
        (new.reference, ("flowers", "flowers@beta", "flowers@next")),
    ]


def test_building_the_same_again_replaces_it(tmp_path: Path) -> None:
    first = publish(tmp_path, "flowers", ("rose", "tulip"))
    (first.path / "left-over").touch()
    again = publish(tmp_path, "flowers", ("rose", "tulip"))
    assert again.path == first.path
    assert not (again.path / "left-over").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flowers", again.reference]


def test_a_folder_of_an_older_builder_gives_way_and_one_of_somebody_else_does_not(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    (tmp_path / "flowers" / "model.json").write_text("{}")
    assert publish(tmp_path, "flowers", ("rose", "tulip")).path.is_dir()
    assert (tmp_path / "flowers").is_symlink()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").touch()
    with pytest.raises(BuildError, match="photos is in the way, and it is no model"):
        publish(tmp_path, "photos", ("rose", "tulip"))
    assert (tmp_path / "photos" / "mine.jpg").exists()
    assert list(tmp_path.glob("photos@*")) == []


@pytest.mark.parametrize("name", ["a/b", "../a", "", ".hidden", "a b", "a@b", "ä", "a\n", "x" * 61])
def test_a_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match="cannot be the name of a model: use letters"):
        versions.check_name(name)


def test_tags_cannot_be_taken_for_versions_and_need_a_model(tmp_path: Path) -> None:
    publish(tmp_path, "flowers", ("rose", "tulip"))
    with pytest.raises(BuildError, match="looks like a version"):
        versions.tag(tmp_path, "flowers", "0123abcd")
    with pytest.raises(BuildError, match="cannot be the tag"):
        versions.tag(tmp_path, "flowers", "a/b")
    with pytest.raises(BuildError, match="cannot be the name"):
        versions.tag(tmp_path, "../flowers", "stable")
    with pytest.raises(ModelError, match="There is no model in"):
        versions.tag(tmp_path, "flowers@nothing", "stable")


def test_the_version_is_of_what_is_served_and_of_nothing_else(tmp_path: Path) -> None:
    model = make(tmp_path / "one", "flowers", ("rose", "tulip"))
    served = (model.architecture, model.arguments, model.labels, model.preprocessing, model.variants)
    slower = replace(model.variants[0], measured=Measured(0, None, 9, None, None, 9, 9, 9))
    assert digest_of(*served[:4], [slower]) == model.digest
    other = replace(model.variants[0], sha256="0" * 64)
    changes = [
        ("resnet18", *served[1:]),
        (served[0], {"num_classes": 2, "in_chans": 1}, *served[2:]),
        (*served[:2], ("tulip", "rose"), *served[3:]),
        (*served[:3], replace(HOW, crop_pct=0.9), served[4]),
        (*served[:4], (other,)),
    ]
    assert len({digest_of(*change) for change in changes} | {model.digest}) == len(changes) + 1


def test_what_killed_builds_have_left_goes_after_a_day(tmp_path: Path) -> None:
    for name, age in ((".build-old", 2 * versions.UNFINISHED_SECONDS), (".build-young", 60)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with versions.unfinished(tmp_path) as folder:
        assert Path(folder).parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == [".build-young"]
