"""What docs/access.md shows can be used as it stands."""

from __future__ import annotations

import re

import click

from server.access.keys import from_record
from server.key_commands import keys
from server.settings import documents
from tests.docs.sentences import ROOT

PAGE = (ROOT / "docs" / "access.md").read_text()


def test_the_file_of_hashed_keys_is_one() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    document = documents.parse(text, "keys.yaml")
    assert documents.validate(document, "keys") == []
    (key,) = map(from_record, document.value["keys"])
    assert (key.owner, key.limits, key.weight) == ("acme", {"per_day": 10_000}, 3.0)


def test_the_options_of_a_key_are_those_of_the_command() -> None:
    rows = re.findall(r"^\| (`--.*?) \|", PAGE, re.MULTILINE)
    named = {option for row in rows for option in re.findall("--[a-z-]+", row)}
    where = {"--pepper-file", "--state", "--url", "--admin-token-file"}  # which server is asked, if one is
    assert named == options("create") - where


def test_every_option_and_command_is_there() -> None:
    shown = re.findall(r"tierserve keys ([a-z]+)((?:[^`\n\\]|\\\n)*)", PAGE)
    assert len(shown) > 5
    for command, words in shown:
        assert set(re.findall(r"--[a-z-]+", words)) <= options(command), command


def options(command: str) -> set[str]:
    """The options of ``tierserve keys COMMAND``."""
    found = keys.commands[command]
    return {name for one in found.params if isinstance(one, click.Option) for name in one.opts}
