"""Decoding can be stopped, and whatever happens to the process that decodes, only one picture fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from model.decoder import Decoder, DecoderUnavailable, DecodingStopped
from model.images import ImageError, Preprocessing, load
from tests.model.pictures import LIMIT, LITE0, PICTURES, encoded, png, thousands_of_scans
from tests.waiting import eventually

SMALL = encoded(Image.linear_gradient("L").resize((60, 40)), "PNG")

LARGE = Image.new("L", (5000, 3000))


def children(process: int) -> list[int]:
    """Processes that the main thread of this process has started to decode in."""
    found = psutil.Process(process).children()
    return [child.pid for child in found if "model.decoder" in " ".join(child.cmdline())]


def is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with closing(Decoder(LITE0, LIMIT, 20)) as made:
        yield made


class Crashing(Decoder):
    """Its child does ``code`` instead of decoding a picture."""

    def __init__(self, code: str) -> None:
        super().__init__(LITE0, LIMIT, seconds=0.5)
        self.code = code

    def _command(self) -> Sequence[str]:
        instead = "import sys, os, signal, time, json, model.decoder as d\n"
        instead += f"def fitted(*args):\n    {self.code}\nd.fitted = fitted\n"
        instead += "d.main(int(sys.argv[1]), int(sys.argv[2]), d.Preprocessing(**json.loads(sys.argv[3])))"
        return [sys.executable, "-c", instead, *super()._command()[3:]]


class Narrow(Decoder):
    """A decoder with little memory."""

    room = 60 * 2**20

    def _memory(self, size: int) -> int:
        return self.room


def failure(decoder: Decoder, data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decoder.load(data)
    assert caught.value.detail.endswith(".")
    return caught.value


def forms() -> dict[str, bytes]:
    with Image.open(PICTURES / "cat.jpg") as opened:
        cat = opened.convert("RGB")
    return {
        "plain JPEG": encoded(cat, "JPEG"),
        "progressive JPEG": encoded(cat, "JPEG", progressive=True),
        "PNG": encoded(cat, "PNG"),
        "WEBP": encoded(cat, "WEBP"),
        "GIF": encoded(cat.quantize(64), "GIF"),
    }


def test_every_form_gives_the_same_array_as_in_the_process(decoder: Decoder) -> None:
    for name, data in forms().items():
        assert np.array_equal(decoder.load(data), load(data, LITE0, LIMIT)), name


OTHER = replace(LITE0, width=96, height=64, channels=1, crop_mode="border", mean=(0.3,), std=(0.2,))
FAITHFUL = replace(LITE0, faithful=True)


@pytest.mark.parametrize("how", [OTHER, FAITHFUL, replace(OTHER, faithful=True)], ids=["grey", "faithful", "both"])
def test_the_child_prepares_pictures_as_the_process_does(how: Preprocessing) -> None:
    with closing(Decoder(how, LIMIT, 20)) as decoder:
        for name, data in forms().items():
            picture = decoder.load(data)
            assert np.array_equal(picture, load(data, how, LIMIT)), name
            assert picture.shape == how.shape


def jpeg_of(width: int, height: int) -> bytes:
    return encoded(Image.linear_gradient("L").convert("RGB").resize((width, height)), "JPEG")


@pytest.mark.parametrize("how", [FAITHFUL, replace(LITE0, interpolation="nearest")], ids=["faithful", "nearest"])
def test_a_large_plain_jpeg_is_decoded_in_the_child_if_all_its_pixels_are(how: Preprocessing) -> None:
    with closing(Decoder(how, LIMIT, 20)) as decoder:
        decoder.load(jpeg_of(1600, 1200))
        assert children(os.getpid()) == []
        decoder.load(jpeg_of(1700, 1200))
        assert len(children(os.getpid())) == 1
    with closing(Decoder(LITE0, LIMIT, 20)) as decoder:
        decoder.load(jpeg_of(1700, 1200))
        assert children(os.getpid()) == []


def test_a_plain_jpeg_needs_no_other_process(decoder: Decoder) -> None:
    decoder.load(forms()["plain JPEG"])
    assert children(os.getpid()) == []


def test_every_error_is_the_same_as_in_the_process(decoder: Decoder) -> None:
    for data in (
        b"",
        b"no picture",
        SMALL[:-30],
        png(10, 10, rows=b"not zlib"),
        png(50_000, 50_000),
        forms()["GIF"][:99],
    ):
        with pytest.raises(ImageError) as caught:
            load(data, LITE0, LIMIT)
        other = failure(decoder, data)
        assert (other.code, other.detail) == (caught.value.code, caught.value.detail)
    decoder.load(SMALL)


def test_a_picture_that_takes_too_long_is_stopped_in_the_middle_of_a_call() -> None:
    with closing(Decoder(LITE0, LIMIT, seconds=0.1)) as decoder:
        decoder._ready()
        data = thousands_of_scans(scans=90)  # takes about two seconds
        began = time.monotonic()
        slow = failure(decoder, data)
        assert time.monotonic() - began < 10
        assert (slow.code, slow.detail) == ("image_too_slow", "Decoding took longer than 0.1 s, so it was stopped.")
        assert children(os.getpid()) == []


def test_after_a_picture_that_was_stopped_the_next_one_is_decoded() -> None:
    with closing(Crashing("time.sleep(60)")) as decoder:
        assert failure(decoder, SMALL).code == "image_too_slow"
        decoder.code = "from PIL import Image; return Image.new('RGB', (224, 224))"
        assert decoder.load(SMALL).shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("os.kill(os.getpid(), signal.SIGSEGV)", "image_broken", id="crash"),
        pytest.param("os.abort()", "image_broken", id="abort"),
        pytest.param("os._exit(0)", "image_broken", id="exit"),
        pytest.param("raise RuntimeError('a bug')", "image_broken", id="exception"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", "image_too_large", id="killed by the kernel"),
    ],
)
def test_a_picture_that_ends_its_process_fails_alone(code: str, expected: str) -> None:
    with closing(Crashing(code)) as decoder:
        for _ in range(2):
            assert failure(decoder, SMALL).code == expected
        assert children(os.getpid()) == []
        decoder.load(forms()["plain JPEG"])


def test_a_child_that_died_between_two_pictures_is_replaced(decoder: Decoder) -> None:
    decoder.load(SMALL)
    child = decoder._child
    assert child is not None
    child.kill()
    # Not ``is_alive``: the child's other threads may end a little later than its first one.
    eventually(lambda: child.poll() is not None, 10, "the child is dead")
    assert decoder.load(SMALL).shape == (3, 224, 224)


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_a_picture_that_needs_more_memory_than_there_is_fails_alone(form: str, faithful: bool) -> None:
    with closing(Narrow(replace(LITE0, faithful=faithful), LIMIT, 20)) as decoder:
        decoder.load(SMALL)
        before = children(os.getpid())
        large = encoded(LARGE.convert("RGB" if form == "JPEG" else "RGBA"), form, progressive=True)
        refused = failure(decoder, large)
        assert refused.code == "image_too_large"
        assert "memory" in refused.detail or "5000 x 3000 = 15000000 pixels; the limit is " in refused.detail
        decoder.load(SMALL)
        assert children(os.getpid()) == before


@pytest.mark.parametrize("how", [LITE0, FAITHFUL], ids=["fast", "faithful"])
@pytest.mark.parametrize("form", ["RGB", "CMYK"])
def test_no_lack_of_memory_is_taken_for_damage(how: Preprocessing, form: str) -> None:
    data = encoded(LARGE.convert(form), "JPEG", progressive=True, subsampling=0)
    decoded = []
    with closing(Narrow(how, LIMIT, 20)) as decoder:
        for bytes_per_pixel in range(2, 18, 2):
            decoder.room = bytes_per_pixel * LARGE.width * LARGE.height
            try:
                decoded.append(decoder.load(data).shape == how.shape)
            except ImageError as error:
                assert error.code == "image_too_large", bytes_per_pixel
                decoded.append(False)
    assert decoded == sorted(decoded)
    assert decoded[-1]


@pytest.mark.parametrize("how", [LITE0, FAITHFUL], ids=["fast", "faithful"])
@pytest.mark.parametrize("form", ["JPEG", "WEBP", "CMYK"])
def test_the_largest_picture_has_the_memory_that_it_needs(how: Preprocessing, form: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    picture = LARGE.convert({"JPEG": "RGB", "WEBP": "RGBA"}.get(form, form))
    options = {"method": 0} if form == "WEBP" else {"progressive": True, "subsampling": 0}
    data = encoded(picture, "WEBP" if form == "WEBP" else "JPEG", exif=exif, **options)
    with closing(Decoder(how, LARGE.width * LARGE.height, 20)) as decoder:
        assert decoder.load(data).shape == how.shape


def test_the_memory_of_the_container_is_the_limit(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlimited = decoder._memory(1000)
    assert unlimited > 16 * LIMIT
    limits = tmp_path / "memory.max"
    monkeypatch.setattr("model.decoder.CGROUP_LIMITS", (str(tmp_path / "none"), str(limits)))
    limits.write_text("max\n")
    assert decoder._memory(1000) == unlimited
    limits.write_text("1000\n")
    assert decoder._memory(1000) == 0
    limits.write_text(f"{2**40}\n")
    assert decoder._memory(1000) == unlimited


def test_an_interrupted_decoder_decodes_nothing_more() -> None:
    with closing(Crashing("time.sleep(60)")) as decoder:
        decoder._seconds = 60
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(decoder.load, SMALL)
            eventually(lambda: decoder._socket is not None, 20, "a child starts")
            decoder.interrupt()
            with pytest.raises(DecodingStopped):
                waiting.result(timeout=10)
            with pytest.raises(DecodingStopped):
                decoder.load(forms()["plain JPEG"])


def test_a_child_that_cannot_start_is_no_fault_of_the_picture() -> None:
    with closing(Crashing("pass")) as decoder:
        decoder._command = lambda: [sys.executable, "-c", "raise SystemExit(7)"]  # type: ignore[method-assign]
        with pytest.raises(DecoderUnavailable, match="status 7"):
            decoder.load(SMALL)


def test_the_child_ends_with_its_parent_and_is_not_given_the_token() -> None:
    code = "import sys, time, tests.model.test_decoder as t\n"
    code += "decoder = t.Crashing('time.sleep(100)')\ndecoder._seconds = 100\ndecoder.load(t.SMALL)"
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TIERSERVE_TOKEN": "secret"})
    try:
        (child,) = eventually(lambda: children(parent.pid), 30, "a child")
        eventually(lambda: b"d.main" in Path(f"/proc/{child}/cmdline").read_bytes(), 20, "it runs its own program")
        assert b"secret" not in Path(f"/proc/{child}/environ").read_bytes()
    finally:
        parent.kill()
        parent.wait()
    eventually(lambda: not is_alive(child), 10, "the child has ended too")


def test_a_signal_to_the_whole_group_leaves_it_to_the_worker_when_the_child_ends(decoder: Decoder) -> None:
    decoder.load(SMALL)
    (child,) = children(os.getpid())
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(child, number)
    decoder.load(SMALL)
    assert children(os.getpid()) == [child]
