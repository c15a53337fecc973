"""The command line, as a person uses it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from tests.access import Operator
from tests.running import ROOT, Service, service
from tests.service.conftest import PAUSED
from tests.waiting import eventually

LINES, COLUMNS = 10, 120
CAT, ESPRESSO = "model/pictures/cat.jpg", "model/pictures/espresso.jpg"


def run(*words: str, status: int = 0, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"COLUMNS": "160", **(env or {})},
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stdout + done.stderr


def test_classify_shows_labels(running: Service) -> None:
    shown = run("server", "classify", CAT, ESPRESSO, "--tier", "premium", "--url", f"http://127.0.0.1:{running.port}")
    assert "Egyptian cat" in shown
    assert "espresso" in shown


def test_classify_in_json_and_with_a_bad_picture(running: Service) -> None:
    url = f"http://127.0.0.1:{running.port}"
    said = run("server", "classify", CAT, "README.md", "--json", "--url", url, status=1)
    cat, readme = (json.loads(line) for line in said.splitlines() if line.startswith("{"))
    assert (cat["file"], cat["status"]) == (CAT, "succeeded")
    assert (readme["file"], readme["code"]) == ("README.md", "unsupported_media_type")


def test_a_picture_that_is_too_large_is_refused_in_words_and_the_others_are_classified(
    running: Service, tmp_path: Path
) -> None:
    sizes = {"little.jpg": 11, "much.jpg": 60}
    for name, megabytes in sizes.items():
        (tmp_path / name).write_bytes((ROOT / CAT).read_bytes() + bytes(megabytes * 1_000_000))
    url = f"http://127.0.0.1:{running.port}"
    said = run("server", "classify", *(str(tmp_path / name) for name in sizes), CAT, "--json", "--url", url, status=1)
    little, much, cat = (json.loads(line) for line in said.splitlines() if line.startswith("{"))
    assert (little["code"], much["code"], cat["status"]) == ("too_many_bytes", "too_many_bytes", "succeeded")


class Terminal:
    """A command whose standard error is a terminal. ``seen`` is what came there."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process, self.seen = process, b""
        self._master = master
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def shows(self, words: str, times: int = 1) -> None:
        """Wait until the terminal shows these words so many times."""
        what = f"the terminal shows {words!r} {times} times"
        eventually(
            lambda: self.seen.split(b"\r\x1b[2K")[-1], 30, what, lambda seen: seen.count(words.encode()) == times
        )

    def ended(self) -> tuple[int, str]:
        """The status of the command, and what it printed elsewhere."""
        printed, _ = self.process.communicate(timeout=60)
        self.thread.join(10)
        return self.process.returncode, printed.decode()

    def _read(self) -> None:
        with suppress(OSError):  # the last one who could write has gone
            while part := os.read(self._master, 65536):
                self.seen += part


@contextmanager
def on_terminal(*words: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    # Each would be believed rather than the terminal; readline, where something imports it, sets both.
    environment = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=ROOT,
        env=environment | {"TERM": "xterm"},
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        process.kill()
        process.communicate()
        terminal.thread.join(10)
        os.close(master)


def cancel_one(paused: Service, client: str) -> None:
    """Cancel the first prediction that waits."""
    key = paused.ask("GET", "/v1/predictions?status=queued&limit=1", headers={"X-API-Key": client}).json
    paused.ask("DELETE", f"/v1/predictions/{key['predictions'][0]['id']}", headers={"X-API-Key": client})


def test_classify_shows_where_each_picture_stands(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path / "state", PAUSED) as paused:
        key = Operator(paused.internal_port, paused.state / "admin-token").create("anna").key
        (tmp_path / "key").write_text(key)
        given = ("--url", f"http://127.0.0.1:{paused.port}", "--key-file", str(tmp_path / "key"))
        pictures = [tmp_path / f"{number}.jpg" for number in range(20)]
        for picture in pictures:
            picture.write_bytes((ROOT / CAT).read_bytes())
        with on_terminal("server", "classify", *map(str, pictures[:3]), *given) as terminal:
            terminal.shows("waiting at 3 of free: ")
            terminal.shows("0 of 3 done")
            terminal.shows("3 under way, 0 not sent yet")
            cancel_one(paused, key)
            terminal.shows("1 of 3 done, 1 of them failed")
            # It follows what is left through a server that stops and comes back.
            paused.stop()
            paused.start()
            for _ in range(2):
                cancel_one(paused, key)
            status, printed = terminal.ended()
            assert (status, printed.count("canceled: ")) == (1, 3)
        with on_terminal("server", "classify", *map(str, pictures), "--at-once", "20", *given) as terminal:
            terminal.shows("20 under way, 0 not sent yet")
            terminal.shows("waiting at ", LINES - 2)
            terminal.process.send_signal(signal.SIGINT)
            status, printed = terminal.ended()
            assert (status, printed) == (130, "")
            assert b"Traceback" not in terminal.seen
            assert terminal.seen.rstrip().endswith(b"20 pictures: 0 classified, 0 failed, stopped before the other 20")


def test_without_a_terminal_nothing_is_shown_meanwhile(running: Service) -> None:
    words = ("classify", CAT, "--json", "--url", f"http://127.0.0.1:{running.port}")
    done = subprocess.run([sys.executable, "-m", "server", *words], cwd=ROOT, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["status"] == "succeeded"


def test_classify_without_a_server_names_the_next_command() -> None:
    said = run("server", "classify", CAT, "--url", "http://127.0.0.1:1", status=1)
    assert "make run" in said
    assert "kubectl get pods --all-namespaces" in said


def test_no_command_prints_a_password_that_was_typed() -> None:
    for words in (
        ("classify", CAT, "--url", "http://somebody:hunter2@127.0.0.1:1"),
        ("tiers", "--url", "http://somebody:hunter2@127.0.0.1:1"),
        ("serve", "postgresql://somebody:hunter2@127.0.0.1/name"),
        ("serve", "--database", "postgresql://127.0.0.1:1/name?pass=hunter2", "--engine", "local", "extra"),
        ("postgresql://127.0.0.1/name?password=hunter2",),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "server", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode in (1, 2)
        assert "Error: " in done.stderr
        assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("words", [("classify", CAT), ("tiers",), ("predictions",)])
def test_what_is_no_key_is_refused_and_never_printed(tmp_path: Path, words: tuple[str, ...]) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"tsk_hunter2 tsk_hunter2\n")
    said = run("server", *words, "--key-file", str(file), status=1)
    assert f"{file} is not a key" in said
    file.write_bytes(b"\xffhunter2")
    said += run("server", *words, "--key-file", str(file), status=1)
    said += run("server", *words, status=1, env={"TIERSERVE_KEY": "hunter2"})
    assert "TIERSERVE_KEY in the environment is not a key" in said
    assert said.count("tierserve keys create") == 2
    assert "hunter2" not in said


def test_predictions_without_a_key_name_the_next_step(running: Service) -> None:
    said = run("server", "predictions", "--url", f"http://127.0.0.1:{running.port}", status=1)
    assert "key_missing" in said
    assert "TIERSERVE_KEY" in said
    assert "--key-file" in said


def test_an_owner_lists_what_it_has_sent(running: Service, tmp_path: Path) -> None:
    url, made = f"http://127.0.0.1:{running.port}", []
    for owner in ("anna", "bert"):
        words = ("create", "--json", "--owner", owner, "--tier", "free", "--state", str(running.state))
        made.append(json.loads(run("server", "keys", *words))["key"])
    anna, bert = made
    (tmp_path / "key").write_text(f"{anna}\n")
    given = ("--url", url, "--key-file", str(tmp_path / "key"))
    (answer,) = run("server", "classify", CAT, "--json", *given).splitlines()
    sent = json.loads(answer)
    assert sent["status"] == "succeeded"
    assert "tier_not_allowed" in run("server", "classify", CAT, "--tier", "premium", *given, status=1)
    assert [tier["name"] for tier in json.loads(run("server", "tiers", "--json", *given))] == ["free", "premium"]
    shown = run("server", "predictions", *given)
    assert sent["id"] in shown
    assert "succeeded" in shown
    listed = json.loads(run("server", "predictions", "--json", "--status", "succeeded", "--limit", "5", *given))
    assert [one["id"] for one in listed] == [sent["id"]]
    assert json.loads(run("server", "predictions", "--json", "--since", "2100-01-01T00:00:00Z", *given)) == []
    assert json.loads(run("server", "predictions", "--json", "--url", url, env={"TIERSERVE_KEY": bert})) == []


def test_tiers(running: Service) -> None:
    url = f"http://127.0.0.1:{running.port}"
    model = running.get("/v1/tiers/free").json["model"]
    shown = run("server", "tiers", "--url", url)
    assert f"tf_efficientnet_lite0@{model['version']}" in shown
    assert str(len(model["labels"])) in shown
    assert [tier["name"] for tier in json.loads(run("server", "tiers", "--json", "--url", url))] == ["free", "premium"]


def test_check_and_its_findings(tmp_path: Path) -> None:
    assert "2 tiers are right" in run("server", "check")
    assert "/tiers/free/quota/cpu" in run("server", "check", "--set", "tiers.free.quota.cpu=two", status=1)


def test_commands_refuse_values_without_end(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("server: {tickSeconds: 0x" + "f" * 4000 + "}\n")
    for command in (("check",), ("render", "free"), ("render", "free", "--validate")):
        assert "values.yaml:1: is too long for a number" in run("server", *command, "--values", str(values), status=1)


def test_render_prints_what_the_engine_is_given() -> None:
    job = yaml.safe_load(run("server", "render", "free"))
    assert (job["kind"], job["metadata"]["namespace"]) == ("Job", "tierserve-free")


def test_render_shows_what_changes(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("tiers: {free: {job: {cpu: 500m}}}\n")
    shown = run("server", "render", "free", "--diff", str(other), status=1)
    changes = [line.split() for line in shown.splitlines() if line[:1] in "+-"][2:]
    assert changes == 3 * [["-", "cpu:", "'500m'"], ["+", "cpu:", "'900m'"]]  # in the values and twice in the Job
    assert run("server", "render", "premium", "--diff", str(other)) == ""


def test_render_validates_step_by_step() -> None:
    verdicts = run("server", "render", "free", "--validate").splitlines()
    assert verdicts == ["ok   parameters", "ok   template", "ok   yaml", "ok   schema", "ok   invariants"]


@pytest.mark.parametrize(
    "words", [("server",), ("server", "serve"), ("server", "classify"), ("server", "predictions"), ("model", "build")]
)
def test_help_is_there(words: tuple[str, ...]) -> None:
    assert "--help" in run(*words, "--help")


def test_unknown_tier_names_those_there_are() -> None:
    assert "free, premium" in run("server", "render", "gold", status=1)


def test_a_worker_started_by_hand_says_who_starts_workers() -> None:
    assert "started by the server" in run("model", "work", "--model", "tf_efficientnet_lite0", status=1)
