"""The gate, on tiny suites of real tests in real processes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gate.gate import check
from tests.gate.suite import Suite, make
from tests.gate.summary import MOST_LINES, OWN_LINES
from tests.running import ROOT

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=."]
HEAD = "import logging, os, sys, time\nfrom pathlib import Path\nimport pytest\n"
ONCE = """
def test_{0}():
    ran = Path(__file__).with_name("{0}")
    if not ran.exists():
        ran.touch()
        pytest.fail("too early for {0}")
"""
COUNTED = """
def test_counted():
    with Path(__file__).with_name("runs").open("a") as file:
        file.write("x")
    assert 1 == 2
"""


class Gate:
    """Makes suites of given tests, runs the gate on them, and keeps what it says."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.logs = folder, folder / "logs"
        self.said: list[str] = []
        self.suites: list[Suite] = []
        self.logs.mkdir()

    def add(self, *tests: str, again: bool = True, name: str = "tiny") -> Suite:
        checkout = self._folder / name
        checkout.mkdir()
        (checkout / "test_it.py").write_text(HEAD + "".join(tests))
        self.suites.append(
            Suite(
                name=name,
                command=lambda options: [*PYTEST, *options],
                alone=(lambda test, options: [*PYTEST, test, *options]) if again else None,
                checkout=checkout,
            )
        )
        return self.suites[-1]

    def check(self, every: float = 60.0) -> bool:
        return check(self.suites, self.logs, self.said.append, every)

    @property
    def summary(self) -> list[str]:
        lines = (self.logs / "summary.txt").read_text().splitlines()
        assert self.said[-len(lines) :] == lines
        assert len(lines) <= MOST_LINES
        return lines


def by_make(suite: Suite) -> Suite:
    """The same suite, run by make, and without a second chance."""
    (suite.checkout / "Makefile").write_text(f"test:\n\t@{' '.join(PYTEST)} $(ARGS)\n")
    return replace(suite, command=make("test"), alone=None)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # loading the plugins takes longer than the tests
    return Gate(tmp_path)


def test_all_is_well(gate: Gate) -> None:
    gate.add("def test_a(): pass\n", "@pytest.mark.skip\ndef test_b(): pass\n")
    gate.add("class TestC:\n    def test_c(self): pass\n", name="second")
    assert gate.check()
    assert gate.said[0].startswith("tiny: begins")
    assert re.fullmatch(r"tiny: 1 passed, 0 failed, 1 skipped, in 0:\d\d", gate.said[1])
    assert gate.summary[-1] == "2 passed, 0 failed, 1 skipped"
    assert "passed" in (gate.logs / "tiny" / "output.txt").read_text()
    assert "test_it.py::TestC::test_c" in (gate.logs / "slowest.txt").read_text()


def test_what_passes_alone_is_flaky(gate: Gate) -> None:
    gate.add(ONCE.format("a"))
    assert gate.check()
    at = gate.summary.index("flaky: test_it.py::test_a")
    assert gate.summary[at + 1] == "  first: Failed: too early for a"
    assert re.fullmatch(r"  then: passed alone in \d+\.\d s", gate.summary[at + 2])
    assert gate.summary[0].endswith("0 passed, 0 failed, 0 skipped, 1 flaky")
    assert gate.summary[-1] == "1 passed, 0 failed, 0 skipped"


def test_what_fails_twice_has_failed(gate: Gate) -> None:
    suite = gate.add(COUNTED, ONCE.format("a"))
    assert not gate.check()
    assert (suite.checkout / "runs").read_text() == "xx"
    assert any(
        re.fullmatch(r"FAILED test_it.py::test_counted \(\d+\.\d s\), and alone: assert 1 == 2", line)
        for line in gate.summary
    )
    assert "flaky: test_it.py::test_a" in gate.summary
    assert gate.summary[-1] == "1 passed, 1 failed, 0 skipped"


def test_a_suite_without_a_second_chance(gate: Gate) -> None:
    suite = gate.add(COUNTED, again=False)
    assert not gate.check()
    assert (suite.checkout / "runs").read_text() == "x"
    assert "  E   assert 1 == 2" in gate.summary
    assert gate.summary[-1] == "0 passed, 1 failed, 0 skipped"


def test_four_flaky_tests_are_too_many(gate: Gate) -> None:
    suite = gate.add(*(ONCE.format(name) for name in "abcd"), COUNTED.replace("1 == 2", "True"))
    assert not gate.check()
    assert (suite.checkout / "runs").read_text() == "x"
    assert "tiny: more than 3 tests failed in this run, so these were not run again" in gate.summary
    assert gate.summary[-1] == "1 passed, 4 failed, 0 skipped"


def test_four_flaky_tests_of_two_suites_are_too_many(gate: Gate) -> None:
    gate.add(*(ONCE.format(letter) for letter in "abc"), name="one")
    gate.add(ONCE.format("d"), name="two")
    assert not gate.check()
    assert "two: more than 3 tests failed in this run, so these were not run again" in gate.summary
    assert gate.summary[0].endswith("0 passed, 0 failed, 0 skipped, 3 flaky")
    assert gate.summary[-1] == "3 passed, 1 failed, 0 skipped"


def test_a_crash_shows_the_end_of_the_output(gate: Gate) -> None:
    gate.add('def test_a():\n    os.write(1, b"last words")\n    os._exit(3)\n')
    gate.suites[0] = replace(gate.suites[0], command=lambda options: [*PYTEST, "--capture=no", *options])
    gate.add("def test_b(): pass\n", name="later")
    assert not gate.check()
    at = gate.summary.index("FAILED tiny: ended with 3 and left no report")
    assert any("last words" in line for line in gate.summary[at:])
    assert gate.summary[-1] == "1 passed, 1 failed, 0 skipped"


def test_a_run_that_was_interrupted_is_not_whole(gate: Gate) -> None:
    gate.add(ONCE.format("a"), "def test_b():\n    raise KeyboardInterrupt\n")
    assert not gate.check()
    assert any(line.startswith("FAILED tiny: ended with 2") for line in gate.summary)
    assert "tiny: not only tests failed, so none was run again" in gate.summary
    assert gate.summary[-1] == "0 passed, 1 failed, 0 skipped"


def test_a_module_that_cannot_be_read(gate: Gate) -> None:
    gate.add("import nothing_like_this\n")
    assert not gate.check()
    assert any("No module named 'nothing_like_this'" in line for line in gate.summary)
    assert gate.summary[-1] == "0 passed, 1 failed, 0 skipped"


def test_a_suite_that_hangs_is_ended_and_gives_signs_until_then(gate: Gate) -> None:
    gate.add("def test_a(): pass\n", "def test_b():\n    time.sleep(600)\n")
    gate.suites[0] = replace(by_make(gate.suites[0]), seconds=20.0)
    assert not gate.check(every=0.5)
    assert any(line.startswith("tiny: at work for 0:0") for line in gate.said)
    assert "FAILED tiny: not done within 20 s" in gate.summary
    assert gate.summary[-1] == "1 passed, 1 failed, 0 skipped"


def test_nothing_runs_after_a_vital_suite_that_fails(gate: Gate) -> None:
    gate.add(COUNTED)
    gate.suites.insert(0, Suite("first", lambda _: ["sh", "-c", "echo wrong; exit 1"], tests=False, vital=True))
    assert not gate.check()
    assert "FAILED first: ended with 1" in gate.summary and "  wrong" in gate.summary
    assert "first failed: nothing was run after it" in gate.summary
    assert gate.summary[-1] == "0 passed, 1 failed, 0 skipped"


def test_much_output_is_cut_to_its_end(gate: Gate) -> None:
    talk = "    for number in range(500):\n        print('said', number)\n"
    servers = "    logging.getLogger('werkzeug').error('a server said')\n    print('a server cried', file=sys.stderr)\n"
    gate.add(f"def test_a():\n{talk}{servers}    assert 'this' == 'that'\n", again=False)
    assert not gate.check()
    at = next(number for number, line in enumerate(gate.summary) if line.startswith("FAILED test_it.py::test_a"))
    own = gate.summary[at + 1 : at + 1 + OWN_LINES]
    assert "  said 499" in own and "  said 400" not in own
    assert any("AssertionError: assert 'this' == 'that'" in line for line in own)
    assert gate.summary[at + 1 + OWN_LINES] == f"logs: {gate.logs}"
    assert not any("a server" in line for line in gate.summary)
    assert "a server" not in (gate.logs / "failures.txt").read_text()
    assert "said 0\n" in (gate.logs / "failures.txt").read_text()


def test_many_failures_share_the_lines(gate: Gate) -> None:
    gate.add("@pytest.mark.parametrize('n', range(40))\ndef test_a(n):\n    print(n)\n    assert n < 0\n", again=False)
    assert not gate.check()
    shown = [line for line in gate.summary if line.startswith("FAILED")]
    assert len(shown) > 10
    assert f"... and {40 - len(shown)} more, see {gate.logs / 'failures.txt'}" in gate.summary
    assert (gate.logs / "failures.txt").read_text().count("FAILED") == 40
    assert gate.summary[-1] == "0 passed, 40 failed, 0 skipped"


def test_what_failed_tests_leave_is_kept(gate: Gate) -> None:
    wrote = "def test_{0}(tmp_path):\n    (tmp_path / 'server.log').touch()\n    assert {1}\n"
    gate.add(wrote.format("a", "False"), again=False)
    gate.add(wrote.format("b", "True"), name="fine")
    assert not gate.check()
    assert [str(path.relative_to(gate.logs)) for path in gate.logs.rglob("server.log")] == [
        "tiny/tmp/test_a0/server.log"
    ]


def test_cluster_logs_of_a_failed_run_are_kept(gate: Gate, tmp_path: Path) -> None:
    cluster = tmp_path / "e2e"
    gate.add(
        f"def test_a():\n    os.makedirs('{cluster}/logs')\n    Path('{cluster}/logs/kubelet.log').touch()\n    1 / 0\n"
    )
    gate.suites[0] = replace(gate.suites[0], clusters=[cluster])
    assert not gate.check()
    for folder in ("tiny", "tiny-alone-1"):
        assert (gate.logs / folder / "cluster-e2e" / "kubelet.log").exists()


@pytest.mark.parametrize(("test", "trouble"), [("assert False", "0 passed, 1 failed"), ("os._exit(3)", "ended with 3")])
def test_a_suite_that_make_runs(gate: Gate, test: str, trouble: str) -> None:
    gate.suites[0] = by_make(gate.add(f"def test_a():\n    {test}\n"))
    assert not gate.check()
    assert trouble in gate.summary[0]


@pytest.mark.parametrize(("status", "ends"), [(0, 0), (7, 1)])
def test_the_program_ends_as_the_suites_did(tmp_path: Path, status: int, ends: int) -> None:
    code = (
        "from tests.gate import __main__ as program; from tests.gate.suite import Suite;"
        f"program.SUITES[:] = [Suite('one', lambda _: ['sh', '-c', 'exit {status}'], tests=False)]; program.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--logs", str(tmp_path / "logs")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ends, done.stderr
    assert done.stdout.splitlines()[-1] == f"0 passed, {ends} failed, 0 skipped"


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.xml").touch()
    words = [sys.executable, "-m", "tests.gate", "--logs", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
