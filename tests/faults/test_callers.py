"""Rows 33, 36, 37, 39 and 40 of the list of faults: callers with bad intentions, and callers with bad code."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.channel import Channel, Closed, Refused
from tests.faults.conftest import Begin, work_in
from tests.faults.databases import Database
from tests.faults.history import History
from tests.faults.world import World
from tests.faults.zygote import Zygote
from tests.running import default_model
from tests.server.http.http_site import completion
from tests.service.pictures import CAT
from tests.waiting import eventually

pytestmark = pytest.mark.faults

ASYNC = {"Prefer": "respond-async"}
HEAD = b"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
PATIENCE = 1.5


def test_33_a_result_of_fifty_megabytes_is_refused_and_the_lease_stays(begin: Begin) -> None:
    world = begin()
    key = world.service.post("free", CAT, ASYNC).json["id"]
    with work_in(world) as channel:
        channel.grant(1)
        (lease,) = channel.lease()
        before = rss(world)
        with suppress(Closed, OSError):
            channel.complete([completion(lease, [{"error": {"code": "x", "detail": "x" * 50_000_000}}])])
        assert channel.ended().code in (4400, 1006)  # a reset may overtake the code
    assert rss(world) - before < 30 << 20  # so the server has never held the whole message
    assert world.get(f"/v1/predictions/{key}").json["status"] == "leased"
    with Channel(channel_url(world), channel.token) as again:
        assert again.hold([lease]) == []
        assert again.complete([completion(lease, model=default_model())]) == ["accepted"]


def channel_url(world: World) -> str:
    return f"http://127.0.0.1:{world.service.internal_port}"


def rss(world: World) -> int:
    assert world.life is not None
    return int(psutil.Process(world.life.pid).memory_info().rss)


@pytest.fixture
def impatient(models: Path, tmp_path: Path) -> Iterator[World]:
    """A server that hangs up on silent clients after ``PATIENCE`` seconds."""
    stack = ExitStack()
    history = History(tmp_path / "history.jsonl")
    zygote = stack.enter_context(Zygote(tmp_path, b"", patience=PATIENCE))
    world = stack.enter_context(
        World(tmp_path / "world", models, zygote, history, ["tiers.free.quota.pods=0"], Database())
    )
    world.start()
    assert world.wait_up()
    assert world.get("/healthz").status == 200
    yield world
    stack.close()
    history.close()


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"POST /img-cl",
        HEAD + b"Content-Length: 100000\r\n\r\n",
        HEAD + b"Content-Length: 100000\r\n\r\n" + CAT[:5000],
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["nothing", "half a line", "no body", "half a body", "no chunk"],
)
def test_36_slow_and_silent_clients_are_hung_up_on(impatient: World, words: bytes) -> None:
    before = descriptors(impatient)
    began = time.monotonic()
    with ExitStack() as stack:
        ends = [stack.enter_context(socket.create_connection(("127.0.0.1", impatient.service.port))) for _ in range(20)]
        for end in ends:
            end.settimeout(40 * PATIENCE)
            end.sendall(words)
        assert impatient.service.post("free", CAT, ASYNC).status == 202
        for end in ends:
            with suppress(ConnectionResetError):
                while end.recv(65536):
                    pass
    # The limits are wide: a header and a body may each take PATIENCE, and the machine may be busy.
    assert time.monotonic() - began < 20 * PATIENCE
    eventually(lambda: descriptors(impatient), 30, "all are closed", lambda found: found <= before + 2)


def descriptors(world: World) -> int:
    assert world.life is not None
    return psutil.Process(world.life.pid).num_fds()


def test_37_monstrous_requests_cost_little(begin: Begin) -> None:
    world = begin("tiers.free.quota.pods=0")
    part = b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    empty = b'--XX\r\nContent-Disposition: form-data; name="a"; filename=""\r\n\r\n\r\n'
    parts = (
        HEAD.replace(b"image/jpeg", b"multipart/form-data; boundary=XX")
        + b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
    )
    name = b'--XX\r\nContent-Disposition: form-data; name="\xff\xfe"; filename="\xff"\r\n\r\nb\r\n--XX--\r\n'
    for words, status in (
        (parts % (50_000 * len(part) + 6, 50_000 * part + b"--XX--"), b" 422 "),
        (parts % (50_000 * len(empty) + 6, 50_000 * empty + b"--XX--"), b" 400 "),
        (parts % (len(name), name), b" 415 "),
        (HEAD + b"X-Long: " + 1_000_000 * b"x" + b"\r\n\r\n", b" 431 "),
        (b"POST /img-classification/free?" + 1_000_000 * b"x" + b" HTTP/1.1\r\n\r\n", b" 431 "),
    ):
        seconds, answer = cost(world, lambda words=words: exchange(world, words))  # type: ignore[misc]
        assert status in answer.partition(b"\r\n")[0]
        assert seconds < 0.5
        assert world.service.post("free", CAT, ASYNC).status == 202


def cost(world: World, do: Callable[[], bytes]) -> tuple[float, bytes]:
    """How many processor seconds the server used while ``do`` ran, and what ``do`` returned."""
    assert world.life is not None
    process = psutil.Process(world.life.pid)
    before, answer = process.cpu_times(), do()
    after = process.cpu_times()
    return after.user + after.system - before.user - before.system, answer


def exchange(world: World, words: bytes) -> bytes:
    answer = b""
    with socket.create_connection(("127.0.0.1", world.service.port), timeout=20) as end, suppress(OSError):
        with suppress(OSError):
            end.sendall(words)
        while part := end.recv(65536):
            answer += part
    return answer


def test_39_guessed_keys_are_refused_and_the_right_one_opens_beside_them(begin: Begin) -> None:
    world = begin("tiers.free.quota.pods=0", "server.requireKeys=true")
    right = world.operator.create("amber")

    def enter(key: str) -> tuple[int, str]:
        answer = world.service.ask("GET", "/v1/predictions", None, {"Authorization": f"Bearer {key}"})
        return answer.status, "" if answer.status == 200 else answer.json["code"]

    secrets = [f"{number:032b}".replace("0", "a").replace("1", "b") for number in range(30)]
    guesses = [f"tsk_{right.id if number % 2 else 'a' * 12}_{secret}" for number, secret in enumerate(secrets)]
    found = [enter(guess) for guess in guesses]
    assert found[:10] == 10 * [(401, "key_unknown")]
    assert found[10:] == 20 * [(429, "too_many_wrong_keys")]
    assert enter(right.key) == (200, "")
    assert world.service.post("free", CAT, ASYNC).status == 202
    log = world.log.read_text()
    assert not [text for text in (right.key, *guesses) if text in log]


def test_40_ids_that_are_paths_lead_nowhere(begin: Begin) -> None:
    world = begin("tiers.free.quota.pods=0")
    for key in (
        "..%2F..%2Fqueue.db",
        "%2e%2e",
        "../../etc/passwd",
        5_000 * "x",
        "%00",
        "p%ff%fe",
        "p" + 34 * "0",
        "%c3%a9",
    ):
        for method in ("GET", "DELETE"):
            assert world.service.ask(method, f"/v1/predictions/{key}").status in (400, 404, 410), key
    for token in ("free.tierserve-free-x.0", "../../free.x.0"):
        with pytest.raises(Refused) as refused:
            Channel(channel_url(world), token)
        assert refused.value.answer.status == 401
