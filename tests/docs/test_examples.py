"""The examples of the pages run as they stand, and print what the pages show."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.access import Operator
from tests.docs.examples import SUFFIXES, Example, examples, run, shows
from tests.docs.sentences import ROOT
from tests.running import Service, service

PAGE = (ROOT / "docs" / "api.md").read_text()
API = examples(PAGE)
CLIENTS = examples((ROOT / "docs" / "clients.md").read_text())
README = examples((ROOT / "README.md").read_text())
ORIGINS = ("http://localhost:8080", "http://127.0.0.1:8080")
KEY = "tsk_ID_SECRET"
KEYED = {"Show a key", "List"}
LIMITED = "Meet a limit"
"""The sections whose examples have a key, and the one whose key has a limit."""


@dataclass(frozen=True, slots=True)
class World:
    """A server as docs/api.md starts it, a key of somebody who has sent a picture, and one of somebody with a limit."""

    server: Service
    key: str
    limited: str


@pytest.fixture(scope="module")
def world(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with service(models, tmp_path_factory.mktemp("examples"), ["tiers.premium.quota.pods=0"]) as found:
        operator = Operator(found.internal_port, found.state / "admin-token")
        anna = operator.create("anna", "free", "premium")
        cat = (ROOT / "model" / "pictures" / "cat.jpg").read_bytes()
        assert found.post("free", cat, anna.headers).status == 200
        yield World(found, anna.key, operator.create("ben", limits={"perSecond": 1, "burst": 1}).key)


@pytest.mark.parametrize("example", API, ids=str)
def test_an_example_prints_what_the_page_shows(world: World, example: Example, tmp_path: Path) -> None:
    _prints_what_is_shown(world, example, _with_pictures(tmp_path))


@pytest.mark.parametrize("example", CLIENTS, ids=str)
def test_an_example_of_a_client_prints_what_the_page_shows(world: World, example: Example, tmp_path: Path) -> None:
    _prints_what_is_shown(world, example, _with_pictures(tmp_path))


@pytest.mark.parametrize("example", README, ids=str)
def test_an_example_of_the_readme_prints_what_it_shows(world: World, example: Example, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "model" / "pictures", tmp_path / "model" / "pictures")
    _prints_what_is_shown(world, example, tmp_path)


def _with_pictures(folder: Path) -> Path:
    return Path(shutil.copytree(ROOT / "model" / "pictures", folder, dirs_exist_ok=True))


def _prints_what_is_shown(world: World, example: Example, folder: Path) -> None:
    key = world.limited if example.section == LIMITED else world.key
    meant = dict.fromkeys(ORIGINS, f"http://127.0.0.1:{world.server.port}") | {KEY: key}
    meant["127.0.0.1:8080"] = f"127.0.0.1:{world.server.port}"  # as some clients take it
    has_key = example.section in KEYED or example.section == LIMITED
    output = run(example, folder, meant, {"TIERSERVE_KEY": key if has_key else ""})
    if example.printed:
        assert shows("".join(example.printed), output), output


def test_each_task_has_an_example_in_each_language_that_shows_what_it_prints() -> None:
    tasks = set(re.findall(r"^\| \[(.+?)\]\(#", PAGE, re.MULTILINE))
    assert len(tasks) > 10
    shown = {(example.section, example.language) for example in API if example.printed}
    assert shown == {(task, language) for task in tasks for language in SUFFIXES}
    assert {example.language for example in README} == set(SUFFIXES)


MADE_UP = """# One

```sh
first
```

```json
{"a": 1}
```

```python
second
```

```javascript
third
```

```text
2
```

```sh
fourth
```

```text
3
```

## Two

```python
fifth
```
"""


def test_what_a_page_shows_belongs_to_the_code_before_it() -> None:
    assert examples(MADE_UP) == [
        Example("One", "sh", "first\nfourth\n", ('{"a": 1}\n', "3\n")),
        Example("One", "python", "second\n", ("2\n",)),
        Example("One", "javascript", "third\n", ("2\n",)),
        Example("Two", "python", "fifth\n"),
    ]


@pytest.mark.parametrize(
    ("printed", "output", "same"),
    [
        ("200\n", "200\n", True),
        ("200\n", "404\n", False),
        ("200\n", "200\n200\n", False),
        ("p0... done\n", "p0abc done\n", True),
        ("p0... done\n", "p0abc\ndone\n", False),
        ("a\n...\nb\n", "a\nb\n", True),
        ("a\n...\nb\n", "a\n1\n2\nb\n", True),
        ("a\n...\nb\n", "a\n1\n2\n", False),
        ('{"a": 1,\n ...}\n', '{"a":1,"b":2}', True),
        ('{"a": 1}\n', '{"a":2}', False),
    ],
)
def test_three_dots_stand_for_anything_and_other_words_for_themselves(printed: str, output: str, same: bool) -> None:
    assert shows(printed, output) == same
