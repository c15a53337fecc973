"""int8 files are small and alike, and are made with one picture at a time; what cannot be quantised says why."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from model.build.errors import BuildError, NotQuantizable
from model.build.export import export, simplified
from model.build.judge import onnx_logits
from model.build.pictures import Picture
from model.build.quantize import WEIGHT_BITS, quantize
from tests.model.build.test_export import SHAPE, network
from tests.model.build.told import Told

PICTURES = [
    Picture(str(number), np.random.default_rng(number).normal(size=SHAPE).astype(np.float32).tobytes(), None)
    for number in range(8)
]


def pixels(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.float32).reshape(SHAPE)


def recorded() -> Told:
    told = Told()
    told.step("quantise")
    return told


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("fp32") / "model.onnx"
    export(simplified(network("test_resnet"), SHAPE), SHAPE, file)
    return file


@pytest.mark.parametrize("bits", WEIGHT_BITS)
def test_int8_is_small_alike_and_the_same_every_time(bits: int, fp32: Path, tmp_path: Path) -> None:
    told = recorded()
    quantize(fp32, tmp_path / "int8.onnx", PICTURES, pixels, bits, told, tmp_path / "ranges.json")
    assert told.advanced == [len(PICTURES)]
    data = (tmp_path / "int8.onnx").read_bytes()
    assert len(data) < 0.5 * fp32.stat().st_size
    ours, theirs = (onnx_logits(file, PICTURES, pixels, recorded()) for file in (tmp_path / "int8.onnx", fp32))
    assert 0 < np.abs(ours - theirs).max() < 0.1 * np.abs(theirs).max()
    quantize(fp32, tmp_path / "again.onnx", PICTURES, pixels, bits, recorded(), tmp_path / "more.json")
    assert (tmp_path / "again.onnx").read_bytes() == data
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.onnx", "int8.onnx", "more.json", "ranges.json"]
    assert [file.name for file in fp32.parent.iterdir()] == ["model.onnx"]
    weights = [onnx.numpy_helper.to_array(one) for one in onnx.load_from_string(data).graph.initializer]
    largest = max(
        int(np.abs(weight.astype(int)).max()) for weight in weights if weight.dtype == np.int8 and weight.size
    )
    assert largest == (127 if bits == 8 else 64)


def test_pictures_are_read_one_at_a_time(fp32: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    told = recorded()

    def noted(data: bytes) -> np.ndarray:
        seen.append(told.advanced[0])
        return pixels(data)

    quantize(fp32, tmp_path / "int8.onnx", PICTURES, noted, 8, told, tmp_path / "ranges.json")
    assert seen == list(range(len(PICTURES)))


def test_ranges_that_were_measured_before_need_no_pictures_and_give_the_same_file(fp32: Path, tmp_path: Path) -> None:
    ranges, told = tmp_path / "ranges.json", recorded()
    quantize(fp32, tmp_path / "int8.onnx", PICTURES, pixels, 8, told, ranges)
    kept = ranges.read_bytes()
    quantize(fp32, tmp_path / "again.onnx", [], pixels, 8, told, ranges)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "int8.onnx").read_bytes()
    assert ranges.read_bytes() == kept
    assert told.advanced == [len(PICTURES)]


def test_ranges_of_another_network_are_refused(fp32: Path, tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.json"
    quantize(fp32, tmp_path / "int8.onnx", PICTURES, pixels, 8, recorded(), ranges)
    ranges.write_text(re.sub(r'"(?=[^"]+": {"lowest)', '"another_', ranges.read_text()))
    with pytest.raises(NotQuantizable, match="ONNX Runtime cannot quantise the network: ValueError"):
        quantize(fp32, tmp_path / "again.onnx", PICTURES, pixels, 8, recorded(), ranges)
    assert not (tmp_path / "again.onnx").exists()


def test_what_cannot_be_quantised_says_why(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *SHAPE])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Nonsense", ["image"], ["logits"])], "graph", [image], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "model.onnx")
    with pytest.raises(NotQuantizable, match=r"ONNX Runtime cannot quantise the network: .*Nonsense") as raised:
        quantize(
            tmp_path / "model.onnx", tmp_path / "int8.onnx", PICTURES, pixels, 8, recorded(), tmp_path / "ranges.json"
        )
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "int8.onnx").exists()
    assert logging.root.manager.disable == logging.NOTSET


def test_what_is_wrong_with_a_picture_is_not_the_graphs_fault(fp32: Path, tmp_path: Path) -> None:
    missing = Picture("missing.jpg", tmp_path / "missing.jpg", None)
    with pytest.raises(BuildError, match=r"missing\.jpg does not exist"):
        quantize(fp32, tmp_path / "int8.onnx", [missing], pixels, 8, recorded(), tmp_path / "ranges.json")


def test_a_folder_that_is_gone_is_the_systems_error(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        quantize(fp32, tmp_path / "nowhere" / "int8.onnx", PICTURES, pixels, 8, recorded(), tmp_path / "ranges.json")
