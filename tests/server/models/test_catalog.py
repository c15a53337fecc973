"""All models that tiers can serve, found by their names: those that were pushed go first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.models import Catalog, Models, NoModel
from server.queue import Queue, SQLite, StoredFile, StoredModel
from server.settings.records import ModelChoice, Tier
from server.settings.values import load
from tests.server.given import HandClock
from tests.server.models.model_folder import record, variant, write

INT8, FP32 = "onnx/int8", "onnx/fp32"


def tier(variant: str = "fp32", runtime: str = "onnx", storage: str = "512Mi") -> Tier:
    free = load().tiers["free"]
    job = replace(free.job, model_storage=storage)
    return replace(free, job=job, model=ModelChoice("flowers", variant, runtime))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    database = SQLite.open(tmp_path / "data", HandClock())
    yield Queue(database)
    database.close()


def push(queue: Queue, reference: str, tags: Sequence[str] = (), **changes: Any) -> None:
    fields = record(reference, **changes)
    files = tuple(StoredFile(one["sha256"], one["bytes"]) for one in fields["variants"])
    name, _, version = reference.partition("@")
    model = StoredModel(name, version, fields["digest"], json.dumps(fields), files, 0.0)
    queue.add_model(model, tags).result(10)


def seen(queue: Queue, folder: Models | None = None) -> Catalog:
    catalog = Catalog(queue, folder)
    catalog.refresh()
    return catalog


def test_a_pushed_model_is_found_by_its_version_its_tags_and_the_latest_by_its_name(queue: Queue) -> None:
    push(queue, "flowers@00000001", ["best"])
    push(queue, "flowers@00000002")
    catalog = seen(queue)
    found = [catalog.find(f"flowers{word}").version for word in ("", "@best", "@00000001", "@00000002")]
    assert found == ["00000002", "00000001", "00000001", "00000002"]
    queue.tag_model("flowers", "best", "00000002").result(10)
    queue.remove_model("flowers", "00000001").result(10)
    assert catalog.find("flowers@best").version == "00000001", "as of the last look"
    catalog.refresh()
    assert catalog.find("flowers@best").version == "00000002"
    with pytest.raises(
        NoModel, match="no model flowers@00000001 was pushed, where there are flowers@00000002, flowers@best"
    ):
        catalog.find("flowers@00000001")


def test_a_pushed_model_goes_before_one_of_the_folder(queue: Queue, tmp_path: Path) -> None:
    write(tmp_path / "models", "flowers@0000000f", link="flowers")
    catalog = seen(queue, Models(tmp_path / "models"))
    assert catalog.find("flowers").version == "0000000f"
    push(queue, "flowers@00000001")
    catalog.refresh()
    assert catalog.find("flowers").version == "00000001"
    assert catalog.find("flowers@0000000f").version == "0000000f"


def test_what_is_nowhere_is_told_with_both_ways_to_make_it(queue: Queue, tmp_path: Path) -> None:
    push(queue, "flowers@00000001")
    with pytest.raises(NoModel) as caught:
        seen(queue, Models(tmp_path)).find("flowers@best")
    told = str(caught.value)
    assert "Build it: tierserve model build SOURCE --name flowers --tag best" in told
    assert told.endswith("Or push it, where there are flowers@00000001: tierserve model push DIR")
    with pytest.raises(NoModel, match=r"no model weeds was pushed\. Push it: tierserve model push DIR"):
        seen(queue).find("weeds")
    with pytest.raises(NoModel, match=r"the workers' image has no weeds\. Or push it: tierserve model push DIR"):
        seen(queue, Models(tmp_path, image=True)).find("weeds")


def test_a_record_is_read_once_while_it_is_used(queue: Queue) -> None:
    push(queue, "flowers@00000001")
    catalog = seen(queue)
    first = catalog.find("flowers")
    catalog.refresh()
    assert catalog.find("flowers@00000001") is first
    catalog.refresh()
    catalog.refresh()
    assert catalog.find("flowers") is not first, "what nobody used meanwhile is forgotten"


def test_a_stored_record_that_cannot_be_read_is_no_model(queue: Queue) -> None:
    model = StoredModel("flowers", "00000001", "0" * 64, "[]", (), 0.0)
    queue.add_model(model).result(10)
    with pytest.raises(NoModel, match="the record of flowers@00000001 cannot be read"):
        seen(queue).find("flowers")
    assert seen(queue).records(["flowers", "weeds"]) == {}


def test_a_model_that_is_too_large_for_the_workers_is_not_usable(queue: Queue, tmp_path: Path) -> None:
    large = [variant("onnx", "fp32", size=3 * 1024 * 1024 + 1), variant("onnx", "int8", size=1024)]
    push(queue, "flowers@00000001", variants=large)
    catalog = seen(queue)
    with pytest.raises(NoModel) as caught:
        catalog.usable(tier(storage="3Mi"), "flowers")
    assert str(caught.value) == (
        "flowers@00000001 has 3145729 bytes as fp32, more than the 3Mi of tiers.free.job.modelStorage: "
        "--set tiers.free.job.modelStorage=4Mi"
    )
    assert catalog.usable(tier(storage="4Mi"), "flowers").version == "00000001"
    assert catalog.usable(tier("int8", storage="3Mi"), "flowers").version == "00000001"
    write(tmp_path, "weeds@00000001", link="weeds", variants=large)
    assert seen(queue, Models(tmp_path)).usable(tier(storage="3Mi"), "weeds"), "it needs no room, as nobody gets it"


@pytest.mark.parametrize(
    ("variants", "wanted", "said"),
    [
        (["onnx/fp32", "timm/fp32"], "onnx/int8", "has no int8 for the runtime onnx, only fp32: {}.variant=fp32"),
        (
            ["timm/fp32"],
            "onnx/int8",
            "has no int8 for the runtime onnx, only fp32 (timm): {0}.runtime=timm {0}.variant=fp32",
        ),
        (
            ["onnx/int8"],
            "timm/fp32",
            "has no fp32 for the runtime timm, only int8 (onnx): {0}.runtime=onnx {0}.variant=int8",
        ),
        ([], "onnx/fp32", "has no fp32 for the runtime onnx, and nothing else"),
    ],
)
def test_a_variant_that_is_missing_is_told_with_what_to_set(
    queue: Queue, variants: list[str], wanted: str, said: str
) -> None:
    push(queue, "flowers@3f9a2c81", variants=variants)
    runtime, name = wanted.split("/")
    with pytest.raises(NoModel) as caught:
        seen(queue).usable(tier(name, runtime), "flowers")
    assert str(caught.value) == f"flowers@3f9a2c81 {said.format('--set tiers.free.model')}"
