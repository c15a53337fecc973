"""The owner's pictures are found as timm finds them, and divided fairly and the same every time."""

import io
import os
import random
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.readers.reader_image_folder import find_images_and_targets
from timm.utils.misc import natural_key as timms_key

from model.build import folders, pictures
from model.build.errors import BuildError
from model.build.files import natural_key
from model.build.labels import Labels
from model.build.pictures import Found, Picture, find, readable, split
from tests.model.pictures import LITE0


def jpeg(colour: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (colour % 256, colour // 256, 0)).save(out, "JPEG")
    return out.getvalue()


def tree(root: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            file.write_bytes(content)
    return root


def named(*labels: str, folders: tuple[str, ...] | None = None) -> Labels:
    return Labels(labels, folders, ())


class Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.advanced = 0
        self.warnings: list[str] = []

    def step(self, sentence: str, total: int | None = None) -> None:
        """Not called here."""

    def advance(self, count: int = 1) -> None:
        self.advanced += count

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


@given(st.text())
def test_names_are_sorted_by_timms_key(name: str) -> None:
    try:
        expected = timms_key(name)
    except ValueError:  # timm takes "²" for a number, and fails
        return
    assert natural_key(name) == expected


NAME = st.text(st.characters(categories=("L", "Nd"), max_codepoint=0x2FF), min_size=1, max_size=6)
SURE_NAME = NAME.filter(lambda name: name == unicodedata.normalize("NFC", name))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.tuples(st.lists(SURE_NAME, max_size=2), SURE_NAME, SURE_NAME), min_size=1, max_size=8))
def test_class_folders_are_timms_and_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], str, str]]
) -> None:
    root = tmp_path_factory.mktemp("data")
    for above, leaf, name in files:
        tree(root, "/".join([*(f"in {part}" for part in above), leaf, f"{name}.jpg"]))
    paths, numbers = find_images_and_targets(str(root))
    found = find(root)
    assert found.folders is not None
    ours = {str(file): number for number, name in enumerate(found.folders) for file in found.files[name]}
    if len({tuple(timms_key(name)) for name in numbers}) == len(numbers):
        assert ours == dict(paths)
    else:  # timm orders equal keys by chance
        assert ours.keys() == dict(paths).keys()


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    found = find(tree(tmp_path, "10.jpg", "9.PNG", "b.webp", "a.gif", "c.jpeg"))
    assert found.folders is None
    assert [file.name for file in found.files[""]] == ["9.PNG", "10.jpg", "a.gif", "b.webp", "c.jpeg"]


def test_what_is_no_picture_is_ignored(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.jpg", "a/notes.txt", "a/.DS_Store", "a/._1.jpg", ".cache/2.jpg", "readme.md", "b/1.jpg")
    found = find(tmp_path)
    assert (found.folders, found.warnings) == (("a", "b"), ())
    assert [len(files) for files in found.files.values()] == [1, 1]


def test_pictures_of_other_kinds_are_counted_in_a_warning(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.jpg", "a/2.ppm", "a/3.PPM", "b/1.jpg", "b/2.heic")
    (warning,) = find(tmp_path).warnings
    assert warning.startswith("Pictures of these kinds are not read and were left out: 1 .heic, 2 .ppm.")


@pytest.mark.parametrize("name", ["b/", "b/notes.txt", "b/1.ppm", "sub/b/"])
def test_an_empty_class_folder_is_named(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "a/1.jpg")
    (tmp_path / name).mkdir(parents=True) if name.endswith("/") else tree(tmp_path, name)
    with pytest.raises(
        BuildError, match=rf"1 class folders in .* are empty .*: {Path(name).parent if '.' in name else name[:-1]}\."
    ):
        find(tmp_path)


@pytest.mark.parametrize("names", [(), ("notes.txt",), ("a/1.ppm",)])
def test_a_folder_without_pictures_is_an_error_that_names_the_endings(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(BuildError, match=r"There are no pictures in .*: no name ends in \.jpg, .*\.dib\."):
        find(tree(tmp_path, *names))


def test_no_such_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tree(tmp_path, "file") / "file"):
        with pytest.raises(BuildError, match="There is no folder"):
            find(path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    at = os.open(tree(tmp_path, "a/1.jpg"), os.O_RDONLY)
    for _ in range(20):  # deeper than a path may be long
        os.mkdir("b" * 250, dir_fd=at)
        below = os.open("b" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    with pytest.raises(BuildError, match=r"b cannot be read: File name too long"):
        find(tmp_path)


def test_pictures_beside_class_folders_are_left_out_with_a_warning(tmp_path: Path) -> None:
    found = find(tree(tmp_path, "a/1.jpg", "loose.jpg"))
    assert found.folders == ("a",)
    assert found.warnings == ("1 pictures lie beside the class folders and were left out, first loose.jpg.",)


def test_links_to_files_and_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    tree(tmp_path / "store", "1.jpg", "far/2.jpg")
    data = tree(tmp_path / "data", "a/3.jpg")
    (data / "a" / "linked.jpg").symlink_to(tmp_path / "store" / "1.jpg")
    (data / "b").symlink_to(tmp_path / "store" / "far")
    (data / "a" / "up").symlink_to(data)
    (data / "0").symlink_to(data / "a")
    (data / "self").symlink_to("self")
    (data / "a" / "self.jpg").symlink_to("self.jpg")
    (data / "a" / "broken.jpg").symlink_to("nowhere")
    found = find(data)
    assert {name: [file.name for file in files] for name, files in found.files.items()} == {
        "a": ["3.jpg", "linked.jpg"],
        "b": ["2.jpg"],
    }
    assert any("links lead to folders that are read already" in warning for warning in found.warnings)
    assert any(warning.startswith("2 names of pictures are no regular files") for warning in found.warnings)


def test_pipes_are_neither_found_nor_opened(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.jpg")
    os.mkfifo(tmp_path / "a" / "2.jpg")
    found = find(tmp_path)
    assert [file.name for file in found.files["a"]] == ["1.jpg"]
    assert found.warnings == ("1 names of pictures are no regular files: a/2.jpg.",)
    with pytest.raises(BuildError, match="is no regular file"):  # it has become one since
        Picture("2.jpg", tmp_path / "a" / "2.jpg", None).read()


def test_too_many_files_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, *(f"{name}/{number}.txt" for name in "abc" for number in range(3)), "a/1.jpg", "b/1.jpg", "c/1.jpg")
    monkeypatch.setattr(folders, "MOST_ENTRIES", 15)  # twelve files in three folders
    find(tmp_path)
    monkeypatch.setattr(folders, "MOST_ENTRIES", 14)
    with pytest.raises(BuildError, match="has more than 14 files and folders"):
        find(tmp_path)


def test_names_that_are_no_text_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\n")).mkdir()
    with pytest.raises(BuildError) as raised:
        find(tree(tmp_path, "a/1.jpg"))
    assert r"\udcff\n" in str(raised.value)
    str(raised.value).encode()


def in_memory(*sizes: int) -> tuple[Found, Labels]:
    names = tuple(f"c{number}" for number in range(len(sizes)))
    files = {name: [Path(f"data/{name}/{n}.jpg") for n in range(size)] for name, size in zip(names, sizes, strict=True)}
    return Found(Path("data"), names, files, ()), named(*names)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(2, 400))
def test_the_division_is_fair(sizes: list[int], most: int) -> None:
    found, labels = in_memory(*sizes)
    if sum(sizes) < 2:
        return
    calibration, measured, _ = split(found, labels, most)
    assert (calibration, measured) == split(found, labels, most)[:2]
    total = min(most, sum(sizes))
    assert len(calibration) + len(measured) <= total
    names = [picture.name for picture in [*calibration, *measured]]
    assert len(set(names)) == len(names)
    assert 1 <= len(calibration) <= max(1, total // 2)
    paired = {number for number, size in enumerate(sizes) if size > 1}
    if paired and len(sizes) <= total - len(calibration):
        assert {picture.truth for picture in measured} == set(range(len(sizes)))
    if 2 * len(sizes) <= total:
        assert paired <= {picture.truth for picture in calibration}
        assert len(calibration) + len(measured) == total
    assert all(picture.truth is not None and picture.name.startswith(f"c{picture.truth}/") for picture in measured)


def test_a_fifth_calibrates_and_classes_keep_their_proportions() -> None:
    calibration, measured, _ = split(*in_memory(400, 100, 2), 251)
    assert (len(calibration), len(measured)) == (50, 201)
    shares = Counter(picture.truth for picture in measured)
    assert shares[2] == 1
    assert 3.5 < shares[0] / shares[1] < 4.5


def test_at_most_200_calibrate() -> None:
    calibration, measured, _ = split(*in_memory(5000), 3000)
    assert (len(calibration), len(measured)) == (200, 2800)


def test_classes_that_are_not_measured_are_said() -> None:
    calibration, measured, warnings = split(*in_memory(*[3] * 50), 50)
    assert len(calibration) == 25
    assert len({picture.truth for picture in measured}) == 25
    assert warnings[0].startswith("25 classes have no picture among the 25 that are measured: c")


def test_the_order_in_which_a_disk_lists_its_files_does_not_matter(tmp_path: Path) -> None:
    names = [f"{name}/{number}.jpg" for name in "ab" for number in range(20)]
    parts = []
    for seed in range(2):
        random.Random(seed).shuffle(names)
        calibration, measured, _ = split(find(tree(tmp_path / str(seed), *names)), named("a", "b"), 20)
        parts.append([picture.name for picture in [*calibration, *measured]])
    assert parts[0] == parts[1]


def test_one_picture_a_class_is_divided_too() -> None:
    calibration, measured, warnings = split(*in_memory(*[1] * 10), 1000)
    assert (len(calibration), len(measured)) == (2, 8)
    assert warnings[0].startswith("2 classes have no picture among the 8 that are measured: ")


def test_flat_pictures_have_no_truth(tmp_path: Path) -> None:
    found = find(tree(tmp_path, *(f"{number}.jpg" for number in range(10))))
    calibration, measured, warnings = split(found, named("a", "b"), 1000)
    assert (len(calibration), len(measured), warnings) == (2, 8, ())
    assert {picture.truth for picture in [*calibration, *measured]} == {None}


def test_one_picture_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="gives 1 picture; 2 are needed"):
        split(find(tree(tmp_path, "1.jpg")), named("a", "b"), 1000)


@pytest.mark.parametrize(
    "labels",
    [
        named("tulip", "daisy"),
        named("Tulipa, a bulb", "Bellis, a weed", folders=("tulip", "daisy")),
        named("tulip", "Bellis, a weed", folders=("n1", "daisy")),
        named("daisy", "tulip", folders=("tulip", "daisy")),
    ],
)
def test_a_folder_s_class_is_found_by_its_label_or_its_name(tmp_path: Path, labels: Labels) -> None:
    found = find(tree(tmp_path, "daisy/1.jpg", "daisy/2.jpg", "tulip/1.jpg", "tulip/2.jpg"))
    calibration, measured, _ = split(found, labels, 1000)
    truths = {(picture.name.split("/")[0], picture.truth) for picture in [*calibration, *measured]}
    assert truths == {("tulip", 0), ("daisy", 1)}


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_folder_whose_accents_are_stored_otherwise_is_the_label_that_looks_the_same(
    tmp_path: Path, forms: tuple[Literal["NFC", "NFD"], Literal["NFC", "NFD"]]
) -> None:
    folder, label = (unicodedata.normalize(form, "Löwenzahn") for form in forms)
    _, measured, _ = split(find(tree(tmp_path, f"{folder}/1.jpg", f"{folder}/2.jpg")), named("a", label), 9)
    assert measured[0].truth == 1


def test_class_folders_that_are_no_label_are_named_with_the_nearest_label(tmp_path: Path) -> None:
    found = find(tree(tmp_path, "DAISY/1.jpg", "tulips/1.jpg", "rose/1.jpg", "xyz/1.jpg"))
    with pytest.raises(BuildError) as raised:
        split(found, named("daisy", "tulip", "rose"), 1000)
    assert str(raised.value).startswith(f"3 of 4 class folders in {tmp_path} are no labels of the model: ")
    assert '"DAISY" (the nearest label is "daisy"), "tulips" (the nearest label is "tulip"), "xyz".' in str(
        raised.value
    )


def test_labels_without_a_folder_are_a_warning(tmp_path: Path) -> None:
    found = find(tree(tmp_path, "a/1.jpg", "a/2.jpg"))
    _, _, warnings = split(found, named("a", "b", "c"), 1000)
    assert warnings == (f"2 of 3 classes have no folder in {tmp_path} and are not measured: b, c.",)


def some(good: int, **broken: bytes) -> list[Picture]:
    whole = [Picture(f"good{number}.jpg", jpeg(number), 0) for number in range(good)]
    return [*whole, *(Picture(f"{name}.jpg", data, 0) for name, data in broken.items())]


def test_a_picture_that_cannot_be_decoded_is_named_and_left_out() -> None:
    told = Told()
    kept, (warning,) = readable(some(3, cut=jpeg()[:300]), LITE0, told)
    assert [picture.name for picture in kept] == ["good0.jpg", "good1.jpg", "good2.jpg"]
    assert warning.startswith("1 of 4 pictures cannot be decoded and were left out: cut.jpg (The picture ")
    assert told.advanced == 4


def test_five_percent_may_be_left_out_and_not_more() -> None:
    whole = jpeg()
    broken = {f"b{number}": b"no picture" for number in range(7)}
    kept, (warning,) = readable([Picture("good", whole, None)] * 133 + some(0, **broken), LITE0, Told())
    assert len(kept) == 133
    assert "7 of 140 pictures" in warning
    assert "b4.jpg (" in warning
    assert "b5.jpg" not in warning
    assert warning.endswith(" and 2 more.")
    with pytest.raises(BuildError, match=r"7 of 139 pictures cannot be decoded, more than 5%: b0.jpg \("):
        readable([Picture("good", whole, None)] * 132 + some(0, **broken), LITE0, Told())


def test_a_file_of_more_than_100_mb_is_left_out_by_name(tmp_path: Path) -> None:
    for name, size in (("large.jpg", pictures.MOST_BYTES + 1), ("fits.jpg", 400)):
        (tmp_path / name).write_bytes(jpeg())
        os.truncate(tmp_path / name, size)
    large = Picture("large.jpg", tmp_path / "large.jpg", None)
    kept, (warning,) = readable([*some(3), large], LITE0, Told())
    assert len(kept) == 3
    assert "large.jpg is larger than 100 MB" in warning


def test_a_file_that_has_gone_is_left_out(tmp_path: Path) -> None:
    kept, (warning,) = readable([*some(1), Picture("gone.jpg", tmp_path / "gone.jpg", None)], LITE0, Told())
    assert len(kept) == 1
    assert "gone.jpg does not exist" in warning
