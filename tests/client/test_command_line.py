"""The command takes whatever pictures it is given, and one that is bad never ends the rest.

It could break where names have markup, escape sequences or bytes that are no UTF-8, where a terminal's encoding lacks a
character or a pipe its reader, and where a file is no file.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from model import formats
from server.__main__ import main
from tests.answers import Step, answer, succeeded
from tests.waiting import eventually
from tierserve import AsyncClient, Prediction, Unreachable, classifying, keys, models, pictures
from tierserve.files import ENDINGS, Found
from tierserve.shown import visible
from tierserve.target import Target

ROOT = Path(__file__).resolve().parents[2]
BROKEN = {"code": "image_broken", "detail": "it is cut off"}


class Server:
    """Answers a picture by its bytes: ``bad`` with a refusal, ``slow`` never, and others with ``label``."""

    def __init__(self) -> None:
        self.label, self.asked = "tabby", list[bytes]()
        self.refusal: Step = answer(422, BROKEN)
        self.ended = threading.Event()
        parent = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                parent.asked.append(body)
                if body == b"slow":
                    parent.ended.wait(60)
                elif body == b"bad":
                    parent.refusal(self)
                else:
                    answer(200, succeeded(label=parent.label))(self)

            def do_GET(self) -> None:
                answer(200, {"tiers": []})(self)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@contextmanager
def running() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        made.ended.set()
        made.http.shutdown()
        thread.join(10)
        made.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("TIERSERVE_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    with running() as made:
        monkeypatch.setenv("TIERSERVE_URL", made.url)
        yield made


def files(*names: str, content: bytes = b"x") -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


def run(*words: str, status: int = 0, stdin: bytes | None = None, charset: str = "utf-8") -> Result:
    done = CliRunner(charset=charset).invoke(main, words, input=stdin)
    assert done.exit_code == status, (done.output, done.exception)
    return done


def rows(shown: str) -> list[list[str]]:
    """The cells of the lines of a table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]


NAMES = {
    "[bold].jpg": "[bold].jpg",
    "[/].jpg": "[/].jpg",
    "[red]x[/red].jpg": "[red]x[/red].jpg",
    "back\\[b].jpg": "back\\[b].jpg",
    "end\\": "end\\",
    ":rose:.jpg": ":rose:.jpg",
    "-dash.jpg": "-dash.jpg",
    "蒲.jpg": "蒲.jpg",
    "a\nb\x1b[2J.jpg": r"a\nb\x1b[2J.jpg",
    "gpj.\u202e.jpg": r"gpj.\u202e.jpg",
    os.fsdecode(b"n\xff\xe9.jpg"): r"n\xff\xe9.jpg",
}


def test_names_are_shown_as_they_are_in_tables_json_and_files(server: Server) -> None:
    files(*NAMES)
    given = ("--at-once", "1", "--", *NAMES)
    assert [cells[0] for cells in rows(run("classify", *given).stdout)] == list(NAMES.values())
    in_json = [name if name.isprintable() or name[0] == "a" or name[0] == "g" else r"n\xff\xe9.jpg" for name in NAMES]
    said = [json.loads(line)["file"] for line in run("classify", "--json", *given).stdout.splitlines()]
    assert said == in_json
    assert run("classify", "--output", "o.jsonl", *given).stdout == ""
    assert [json.loads(line)["file"] for line in Path("o.jsonl").read_text().splitlines()] == in_json
    run("classify", "--output", "o.csv", *given)
    lines = Path("o.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(NAMES)
    assert [row["file"].removeprefix("./") for row in csv.DictReader(lines)] == list(NAMES.values())


def test_one_bad_file_never_ends_the_rest(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PIPE_SECONDS", 0.1)
    files("cat.jpg", "dog.jpg")
    files("empty.jpg", content=b"")
    files("bad.jpg", content=b"bad")
    os.mkfifo("pipe.jpg")
    Path("loop.jpg").symlink_to("loop.jpg")
    with Path("large.jpg").open("wb") as large:
        large.truncate(pictures.MOST_BYTES + 1)
    bad = {
        "missing.jpg": "No such file or directory",
        "empty.jpg": "is empty",
        "pipe.jpg": "is a pipe into which nothing was written for 0.1 s",
        "loop.jpg": "Too many levels of symbolic links",
        "/dev/zero": "is a device, and no picture",
        "large.jpg": f"has more than {pictures.MOST_BYTES} bytes",
        "bad.jpg": "image_broken: it is cut off",
        "x" * 300: "File name too long",
    }
    done = run("classify", "cat.jpg", *bad, "dog.jpg", status=1)
    shown = {cells[0]: cells[1] for cells in rows(done.stdout)}
    assert list(shown) == ["cat.jpg", *bad, "dog.jpg"]
    assert (shown["cat.jpg"], shown["dog.jpg"]) == ("tabby", "tabby")
    for name, words in bad.items():
        assert words in shown[name]
    assert "10 pictures: 2 classified, 8 failed" in done.stderr


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="only root can become nobody and return")
def test_what_may_not_be_read_is_told_and_the_rest_goes_on(server: Server, tmp_path: Path) -> None:
    files("d/cat.jpg", "d/closed/dog.jpg", "d/secret.jpg")
    Path("d/closed").chmod(0)
    Path("d/secret.jpg").chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        shown = rows(run("classify", "d", status=1).stdout)
    finally:
        os.seteuid(0)
        Path("d/closed").chmod(0o755)
    assert [cells[0] for cells in shown] == ["d/cat.jpg", "d/secret.jpg", "d/closed"]
    assert [cells[1].endswith("Permission denied") for cells in shown] == [False, True, True]


def test_a_folder_stands_for_the_pictures_below_it(server: Server) -> None:
    files(
        "d/b.JPG", "d/a.png", "d/sub/c.webp", "d/sub/deep/e.gif", "d/.hidden.jpg", "d/.git/f.jpg", "d/notes.txt", "d/g"
    )
    Path("d/sub/loop").symlink_to("..")
    Path("d/gone.jpg").symlink_to("nowhere")
    os.mkfifo("d/pipe.jpg")
    done = run("classify", "d", "d/notes.txt", status=1)
    expected = ["d/a.png", "d/b.JPG", "d/gone.jpg", "d/sub/c.webp", "d/sub/deep/e.gif", "d/notes.txt"]
    assert [cells[0] for cells in rows(done.stdout)] == expected
    assert "6 pictures: 5 classified, 1 failed" in done.stderr
    skipped = "5 files of folders were skipped: .txt 1, hidden 1, links to folders 1, others 1, pipes and devices 1"
    assert skipped in done.stderr
    Path("none").mkdir()
    assert "there are no pictures" in run("classify", "none", status=1).output


def test_the_endings_of_pictures_are_those_of_the_formats_that_workers_take() -> None:
    assert set(formats.ENDINGS) == ENDINGS
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    assert [ending for ending in sorted(ENDINGS) if f"`{ending}`" not in page] == []


def test_standard_input_is_a_picture_or_a_list_of_files(server: Server) -> None:
    files("cat.jpg", "a b.jpg", "c\nd.jpg", "-")
    assert rows(run("classify", "-", "cat.jpg", stdin=b"sent").stdout) == [
        [name, "tabby", "0.500", "2"] for name in ("-", "cat.jpg")
    ]
    assert sorted(server.asked) == [b"sent", b"x"]
    for given in (b"cat.jpg\r\n\na b.jpg\n./-", b"cat.jpg\0a b.jpg\0./-\0"):
        shown = rows(run("classify", "--files-from", "-", stdin=given).stdout)
        assert [cells[0] for cells in shown] == ["cat.jpg", "a b.jpg", "./-"]
    Path("list").write_bytes(b"c\nd.jpg\0")
    assert [cells[0] for cells in rows(run("classify", "--files-from", "list", "cat.jpg").stdout)] == [
        "cat.jpg",
        r"c\nd.jpg",
    ]
    for words, status, said in (
        (("-", "-"), 1, "can be named once"),
        (("-",), 1, "standard input is empty"),
        (("--files-from", "missing"), 1, "No such file"),
        (("--files-from", "-", "-"), 2, "and not both"),
        ((), 2, "Missing argument 'FILES...'"),
        (("cat.jpg", "--top-k", "1_0"), 2, "'1_0' is no number"),
        (("cat.jpg", "--at-once", "\uff15"), 2, "is no number"),
        (("cat.jpg", "--output", "o.txt"), 1, "o.txt must end with .csv or .jsonl"),
        (("cat.jpg", "--output", "no/o.csv"), 1, "no/o.csv cannot be written: No such file or directory"),
        (("cat.jpg", "--output", "o.csv", "--json"), 2, "leave out --json"),
    ):
        server.asked.clear()
        stdin = b"" if "empty" in said else b"x"
        assert said in run("classify", *words, status=status, stdin=stdin).output
        assert not server.asked


@pytest.mark.parametrize(("charset", "label"), [("ascii", r"\xe9\u84b2"), ("cp1252", r"é\u84b2"), ("utf-8", "é蒲")])
def test_what_the_encoding_lacks_is_escaped_and_the_table_stays_straight(
    server: Server, charset: str, label: str
) -> None:
    files("é.jpg", "b.jpg")
    server.label = "é蒲"
    shown = run("classify", "é.jpg", "b.jpg", "missing\x1b蒲.jpg", status=1, charset=charset).stdout_bytes
    lines = shown.decode(charset).splitlines()
    assert sum(label in line for line in lines) == 2
    if charset != "utf-8":  # there a character may be two columns wide
        assert len({len(line) for line in lines[:-1]}) == 1
    for words in (("tiers",), ("classify", "é.jpg", "--json")):
        run(*words, charset=charset)


def test_a_table_is_as_wide_as_it_needs_to_be_or_as_it_may_be(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    name, server.label = "n" * 150 + ".jpg", "a label of many words " * 5
    files(name)
    assert rows(run("classify", name).stdout)[0][:2] == [name, server.label.strip()]
    monkeypatch.setenv("COLUMNS", "60")
    folded = run("classify", name).stdout
    assert max(map(len, folded.splitlines())) <= 60
    assert "".join(cells[0] for cells in rows(folded)) == name


def test_what_concerns_all_pictures_is_said_once(server: Server) -> None:
    files(*(f"{number}.jpg" for number in range(30)), content=b"bad")
    files("cat.jpg")
    for status, code in ((401, "key_unknown"), (403, "tier_not_allowed"), (404, "no_such_tier")):
        server.refusal = answer(status, {"code": code, "detail": "\x1b[2Jno"})
        done = run("classify", "cat.jpg", ".", "--at-once", "1", status=1)
        assert len(rows(done.stdout)) == 1
        assert f"Error: {code}: \\x1b[2Jno" in done.stderr
        assert "stopped before the other 31" in done.stderr.replace("32 ", "")


class Hasty(Target):
    """Its client gives up soon."""

    def client(self) -> AsyncClient:
        return AsyncClient(self.url, self.key, patience=0.2)


def test_a_picture_on_which_a_proxy_hangs_up_does_not_end_the_rest(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    server.refusal = hang_up
    files("cat.jpg", "dog.jpg")
    files("bad.jpg", content=b"bad")
    found = Found(["cat.jpg", "bad.jpg", "dog.jpg"], {})
    assert classifying.classify(Hasty(server.url), found, "free", 1, 1, as_json=False) == 1
    shown = rows(capsys.readouterr().out)
    assert [cells[1] for cells in shown if cells[0].endswith(".jpg")][::2] == ["tabby", "tabby"]
    server.http.server_close()
    with pytest.raises(Unreachable, match="no server answers"):
        classifying.classify(Hasty(server.url), found, "free", 1, 1, as_json=False)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "answered 200, and not as a server of tierserve does. Another service may have this port"),
        (200, [], "did not answer as"),
        (200, {"tiers": [{"name": "x"}]}, "did not answer as"),
        (200, {"tiers": "x"}, "did not answer as"),
        (302, b"", "it points to https://elsewhere"),
        (404, {"code": "no_such_route", "detail": "there is nothing at /v1/v1/tiers"}, "The URL of a server ends with"),
    ],
)
def test_another_service_is_told_in_one_line(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int, body: object, said: str
) -> None:
    step = answer(status, body, {"Location": "https://elsewhere/"} if status == 302 else {})
    server.refusal = step
    files("a.jpg", "b.jpg", content=b"bad")
    monkeypatch.setattr(server.http.RequestHandlerClass, "do_GET", lambda handler: step(handler))
    for words in (("tiers",), ("classify", "a.jpg", "b.jpg")):
        if words == ("tiers",) or status != 404:
            done = run(*words, status=1)
            assert said in done.stderr
            assert sum(line.startswith("Error: ") for line in done.stderr.splitlines()) == 1


@contextmanager
def process(*words: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen([sys.executable, "-m", "server", *words], env=environment, **given)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def test_what_was_done_before_ctrl_c_or_sigterm_is_printed(server: Server) -> None:
    files("a.jpg", "b.jpg")
    files("c.jpg", content=b"slow")
    for more, number in (("--json", signal.SIGINT), ("--top-k=1", signal.SIGINT), ("--top-k=1", signal.SIGTERM)):
        server.asked.clear()
        with process("classify", "a.jpg", "b.jpg", "c.jpg", "d.jpg", "--at-once", "1", more) as command:
            eventually(lambda: b"slow" in server.asked, 30, "the last picture is sent")
            command.send_signal(number)
            printed, said = command.communicate(timeout=30)
        assert command.returncode == 130
        assert [name for name in ("a.jpg", "b.jpg", "c.jpg") if name in printed] == ["a.jpg", "b.jpg"]
        assert "stopped before the other" in said
        assert "Traceback" not in said


def test_a_command_that_is_killed_leaves_whole_lines(server: Server) -> None:
    files("a.jpg", "b.jpg")
    files("c.jpg", content=b"slow")
    with process("classify", "a.jpg", "b.jpg", "c.jpg", "--output", "o.jsonl", "--at-once", "1") as command:
        eventually(lambda: b"slow" in server.asked, 30, "the last picture is sent")
        eventually(lambda: Path("o.jsonl").read_bytes().count(b"\n") == 2, 30, "two pictures are written")
        command.kill()
        command.communicate(timeout=30)
    assert [json.loads(line)["file"] for line in Path("o.jsonl").read_text().splitlines()] == ["a.jpg", "b.jpg"]


def test_a_full_disk_leaves_whole_lines_and_says_so(server: Server) -> None:
    files(*(f"{number}.jpg" for number in range(100)))

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    # No other thread of the child can hold a lock: it becomes the command at once.
    with process("classify", ".", "--output", "o.csv", preexec_fn=bounded) as command:
        printed, said = command.communicate(timeout=60)
    assert (command.returncode, printed) == (1, "")
    assert "Error: o.csv cannot be written: File too large" in said
    assert "Traceback" not in said
    text = Path("o.csv").read_text()
    assert 500 < len(text) <= 1000
    assert text.endswith("\n")
    assert all(row["label"] == "tabby" for row in csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("words", [("classify", "a.jpg", "--json"), ("classify", "a.jpg"), ("tiers",), ("--help",)])
def test_a_pipe_that_nobody_reads_ends_the_command_quietly(server: Server, words: tuple[str, ...]) -> None:
    files("a.jpg")
    reader, writer = os.pipe()
    os.close(reader)
    with process(*words, stdout=writer) as command:
        os.close(writer)
        _, said = command.communicate(timeout=60)
    assert (command.returncode, said) == (1, "")


def test_a_full_standard_output_is_an_error_in_words(server: Server) -> None:
    files("a.jpg")
    with Path("/dev/full").open("w") as full, process("classify", "a.jpg", "--json", stdout=full) as command:
        _, said = command.communicate(timeout=60)
    assert (command.returncode, said) == (1, "Error: standard output cannot be written: No space left on device\n")


def test_the_version_is_told(server: Server) -> None:
    assert run("--version").output == f"tierserve {version('tierserve')}\n"


KEY = {"id": "k\u84b2", "owner": "an\xef[b]", "tiers": ["free"], "status": "live", "expires_at": None, "weight": 1}
MODEL = {"reference": "m\u84b2@1", "name": "m", "latest": True, "tags": ["[/]"], "pushed_at": "2030-01-31T12:00:00Z"}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_operators_are_shown_is_whole_in_a_pipe_and_in_any_encoding(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    err = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    owner = "x" * 200
    keys.show_keys([{**KEY, "limits": {"perDay": 7}}, {**KEY, "owner": owner, "limits": {}}], as_json=False)
    keys.show_new({**KEY, "key": "tsk_\u84b2"}, as_json=False)
    keys.show_revoked(KEY, as_json=False)
    more = {"bytes": 5, "classes": 3, "variants": [], "used_by": ["\u84b2" * 100]}
    models.show_models([{**MODEL, **more}], as_json=False)
    models.show_tagged({"reference": "m\u84b2@1"}, "\xe9", as_json=False)
    models.show_pulled(Path("\u84b2"), new=True, as_json=False)
    models.show_rolled_back("fr\u84b2", {"main": "m\u84b2", "instead_of": "\u84b2"}, as_json=False)
    shown = []
    for stream in (out, err):
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        shown.append(stream.buffer.getvalue().decode(encoding))
    letter = "\u84b2" if encoding == "utf-8" else r"\u84b2"
    assert owner in shown[0]
    assert letter * 100 in shown[0]
    assert f"tsk_{letter}\n" in shown[0]
    assert f"The key k{letter} of an{visible(chr(0xEF), err)}[b] is revoked" in shown[1]


@pytest.mark.parametrize("colours", [True, False])
def test_colours_go_with_no_color(server: Server, colours: bool) -> None:
    files("bad.jpg", content=b"bad")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT), **({} if colours else {"NO_COLOR": "1"})}
    words = [sys.executable, "-m", "server", "classify", "bad.jpg"]
    subprocess.run(words, stdout=slave, stderr=subprocess.DEVNULL, env=environment, timeout=60, check=False)
    os.close(slave)
    shown = os.read(master, 65536)
    os.close(master)
    assert b"image_broken" in shown
    assert (b"\x1b[31m" in shown) == colours


def test_results_have_the_names_that_the_form_gave() -> None:
    document = succeeded()
    (result,) = Prediction.of(document).results
    assert (result.field, result.file) == (None, None)
    document["results"][0] |= {"field": "image", "file": "cat.jpg"}
    (result,) = Prediction.of(document).results
    assert (result.field, result.file) == ("image", "cat.jpg")


@pytest.mark.parametrize("given", ["1_0", "nan", "inf", " 5", "+5", "1e1", "\uff15", "0x10", ""])
@pytest.mark.parametrize("option", ["--per-second", "--burst", "--per-day", "--queued", "--bytes-queued", "--weight"])
def test_numbers_are_plain_digits(option: str, given: str) -> None:
    said = run("keys", "create", "--owner", "a", "--tier", "free", option, given, status=2).output
    assert "is no number, such as 10" in said
