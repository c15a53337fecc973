"""Labels are the owner's, whatever their writing and the form of their file; a wrong number of them is an error."""

import json
import pickle
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.build.errors import BuildError
from model.build.folders import Found
from model.build.labels import MOST_BYTES, Labels, choose

NO_CONTROLS = st.characters(exclude_categories=("Cc", "Cs"))
LABEL = (
    st.text(NO_CONTROLS, min_size=1, max_size=200).map(str.strip).filter(lambda text: text[:1] not in ("", "\ufeff"))
)
UNIQUE = st.lists(LABEL, min_size=2, max_size=8, unique_by=lambda text: unicodedata.normalize("NFC", text))
FLOWERS = ("daisy", "rose", "tulip")


def chosen(
    classes: int,
    file: Path | None = None,
    *,
    names: Sequence[str] | None = None,
    descriptions: Sequence[str] | None = None,
    folders: Sequence[str] | None = None,
) -> Labels:
    found = None if folders is None else Found(Path("data"), tuple(folders), {name: [] for name in folders}, ())
    return choose(classes, given=file, names=names, descriptions=descriptions, folder=found)


def written(folder: Path, name: str, content: str | object) -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8", newline="")
    return file


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=UNIQUE, escaped=st.booleans(), mark=st.sampled_from(["utf-8", "utf-8-sig"]), end=st.sampled_from("\n\r"))
def test_labels_of_any_unicode_survive_every_form_of_file(
    tmp_path: Path, labels: list[str], escaped: bool, mark: str, end: str
) -> None:
    forms = {
        "labels.txt": ("\n" if end == "\n" else "\r\n").join(labels) + "\n",
        "list.json": json.dumps(labels, ensure_ascii=escaped),
        "list": json.dumps(labels, ensure_ascii=escaped),
        "by_index.json": json.dumps({str(number): label for number, label in enumerate(labels)}, ensure_ascii=escaped),
        "to_index.json": json.dumps({label: number for number, label in enumerate(labels)}, ensure_ascii=escaped),
        "by_folder.json": json.dumps(
            {f"folder {2 * i}": label for i, label in enumerate(labels)}, ensure_ascii=escaped
        ),
    }
    for name, text in forms.items():
        (tmp_path / name).write_bytes(text.encode(mark))
        assert chosen(len(labels), tmp_path / name).labels == tuple(labels), name


def test_a_line_of_text_may_begin_with_a_bracket(tmp_path: Path) -> None:
    assert chosen(2, written(tmp_path, "labels.txt", "[red]x[/]\n{y}\n")).labels == ("[red]x[/]", "{y}")


def test_only_the_end_of_a_line_ends_a_label(tmp_path: Path) -> None:
    assert chosen(2, written(tmp_path, "labels.txt", "a\u2028b\nc\u2029d\n")).labels == ("a\u2028b", "c\u2029d")


@pytest.mark.parametrize("name", ["labels.txt", "labels.json"])
def test_one_label_too_few_is_an_error_with_both_numbers(tmp_path: Path, name: str) -> None:
    content: object = ["daisy", "rose"] if name.endswith("json") else "daisy\nrose\n\n\n"
    with pytest.raises(BuildError, match=rf"There are 2 labels in .*{name}, but the network has 3 classes"):
        chosen(3, written(tmp_path, name, content))


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": FLOWERS},
        {"names": ("a", "b", "c"), "descriptions": FLOWERS},
        {"folders": FLOWERS},
    ],
)
def test_the_numbers_of_the_source_and_of_the_folders_are_checked_too(wrong: dict[str, Any]) -> None:
    with pytest.raises(BuildError, match=r"There are 3 labels in .*, but the network has 4 classes.*--labels FILE"):
        chosen(4, **wrong)


def test_the_file_comes_first_then_the_source_then_the_folders(tmp_path: Path) -> None:
    file = written(tmp_path, "labels.txt", "one\ntwo\n")
    names, descriptions, folders = ("n1", "n2"), ("first", "second"), ("a", "b")
    everything: dict[str, Any] = {"names": names, "descriptions": descriptions, "folders": folders}
    assert chosen(2, file, **everything) == Labels(("one", "two"), names, ())
    assert chosen(2, **everything) == Labels(descriptions, names, ())
    assert chosen(2, names=names, folders=folders) == Labels(names, names, ())
    assert chosen(2, folders=folders) == Labels(folders, folders, ())


def test_classes_that_nobody_names_get_numbers_and_a_warning() -> None:
    found = chosen(3)
    assert found.labels == ("class 0", "class 1", "class 2")
    assert "--labels" in found.warnings[0]


@pytest.mark.parametrize(
    "content", ["daisy\n\ntulip\n", ["daisy", None, "tulip"], {"0": "daisy", "1": " ", "2": "tulip"}]
)
def test_a_class_without_a_name_gets_a_number_and_a_warning(tmp_path: Path, content: object) -> None:
    file = written(tmp_path, "labels", content)
    found = chosen(3, file)
    assert found.labels == ("daisy", "class 1", "tulip")
    assert found.warnings == ("1 of 3 classes have no name: class 1.",)


def test_a_map_from_folder_to_label_takes_the_source_s_order_or_timm_s(tmp_path: Path) -> None:
    labels = {"1": "one", "10": "ten", "2": "two"}
    file = written(tmp_path, "labels.json", labels)
    assert chosen(3, file) == Labels(("one", "two", "ten"), ("1", "2", "10"), ())
    assert chosen(3, file, names=("10", "1", "2")) == Labels(("ten", "one", "two"), ("10", "1", "2"), ())


def test_folders_whose_names_are_numbers_with_gaps_are_told_from_indices(tmp_path: Path) -> None:
    file = written(tmp_path, "labels.json", {"0": "zero", "1": "one", "3": "three"})
    with pytest.raises(BuildError, match=r"their indices must be 0 to 2, but these are missing: 2\."):
        chosen(3, file)
    assert chosen(3, file, folders=("0", "1", "3")).labels == ("zero", "one", "three")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"daisy": 1, "rose": 2, "tulip": 3}, r"indices must be 0 to 2, but these are missing: 0\."),
        ({"daisy": 0, "rose": 0, "tulip": 1}, r"indices must be 0 to 2, but these are missing: 2\."),
        ({"daisy": True, "rose": 1, "tulip": 2}, "no list of labels"),
        ({"daisy": 0, "rose": "1", "tulip": 2}, "no list of labels"),
        (["daisy", 7, "tulip"], "no list of labels"),
        ([["daisy"], ["rose"], ["tulip"]], "no list of labels"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"daisy": 0, "daisy": 1, "tulip": 2}', "repeated keys: daisy"),
        ('["daisy", "rose"', "cannot be read as JSON"),
        ({"daisy": 10**4000, "rose": 1, "tulip": 2}, "these are missing: 0"),
        ({"1" * 5000: "daisy", "2": "rose", "3": "tulip"}, "more than 200 characters"),
        (["daisy", "a" * 201, "tulip"], r"class 1 in .*has 201 characters; the limit is 200"),
        (["daisy", "ro\x07se", "tulip"], r'"ro\\x07se", contains a control character'),
        ('["daisy", "\\ud800", "tulip"]', r'"\\ud800", is no valid Unicode'),
    ],
)
def test_unfit_json_is_refused_with_a_sentence(tmp_path: Path, content: object, complaint: str) -> None:
    with pytest.raises(BuildError, match=complaint):
        chosen(3, written(tmp_path, "labels.json", content))


@pytest.mark.parametrize("name", ["classes.pkl", "classes.PICKLE", "classes.txt"])
def test_a_pickle_is_refused_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({"daisy": 0, "rose": 1}))
    with pytest.raises(BuildError, match="can carry code, so it is not read"):
        chosen(2, tmp_path / name)


def test_a_file_that_is_no_text_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Löwenzahn\n".encode("latin-1"))
    with pytest.raises(BuildError, match=r"latin.txt is no UTF-8 text \(byte 1\)"):
        chosen(1, tmp_path / "latin.txt")
    (tmp_path / "large.txt").write_bytes(b"x" * (MOST_BYTES + 1))
    with pytest.raises(BuildError, match=r"large.txt is larger than 10 MB"):
        chosen(1, tmp_path / "large.txt")
    with pytest.raises(BuildError, match=r"missing.txt does not exist"):
        chosen(1, tmp_path / "missing.txt")
    with pytest.raises(BuildError, match="is no regular file"):
        chosen(1, tmp_path)


def test_the_same_label_twice_is_told_apart_and_said(tmp_path: Path) -> None:
    found = chosen(4, written(tmp_path, "labels.txt", "crane\nrose\ncrane\ncrane (class 0)\n"))
    assert found.labels == ("crane (class 0, 1)", "rose", "crane (class 2)", "crane (class 0)")
    assert found.warnings == ('Several classes have the same label, so their number was added: "crane".',)
    found = chosen(2, names=("n02012849", "n03126707"), descriptions=("crane", "crane"))
    assert found == Labels(("crane (n02012849)", "crane (n03126707)"), ("n02012849", "n03126707"), ())


@given(
    labels=st.lists(st.one_of(st.sampled_from(["a", "a (class 0)", "é", "e\u0301", "", "x" * 200]), LABEL), min_size=2)
)
def test_all_labels_are_unique_and_short_enough_for_the_server(labels: list[str]) -> None:
    found = chosen(len(labels), names=labels).labels
    assert len({unicodedata.normalize("NFC", label) for label in found}) == len(labels)
    assert all(0 < len(label) <= 200 for label in found)


def test_an_empty_description_leaves_the_name() -> None:
    assert chosen(2, names=("n1", "n2"), descriptions=("", "rose")).labels == ("n1", "rose")


def test_folders_that_timm_sorts_by_chance_are_said() -> None:
    assert 'timm sorts the folders "A" and "a" by chance' in chosen(3, folders=("A", "a", "b")).warnings[0]
