"""The examples of docs/worker-protocol.md are messages of the protocol."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import fastjsonschema
import pytest
from markdown_it import MarkdownIt

from server.shipped import SCHEMAS
from tests.docs.sentences import ROOT

SENT_BY_SERVERS = {"renew", "log", "outcomes", "lost", "stopping", "retire"}


def examples(heading: str) -> list[dict[str, Any]]:
    """The examples in JSON of the part of the page with this heading."""
    tokens = MarkdownIt("commonmark").parse((ROOT / "docs" / "worker-protocol.md").read_text())
    here, found = "", []
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            here = token.content
        elif token.type == "fence" and token.info == "json" and here == heading:
            found.append(json.loads(token.content))
    return found


SENT_BY_WORKERS = examples("What a worker sends")


@pytest.mark.parametrize("example", SENT_BY_WORKERS)
def test_what_a_worker_sends_matches_the_schema(example: dict[str, Any]) -> None:
    definitions = json.loads((SCHEMAS / "worker-protocol.schema.json").read_text())["definitions"]
    fastjsonschema.compile({"$ref": "#/definitions/message", "definitions": definitions})(example)


def test_each_member_of_a_message_of_a_worker_has_an_example() -> None:
    definitions = json.loads((SCHEMAS / "worker-protocol.schema.json").read_text())["definitions"]
    assert {member for example in SENT_BY_WORKERS for member in example} == definitions["message"]["properties"].keys()


def test_each_member_of_a_message_of_a_server_has_an_example() -> None:
    *texts, frame = examples("What a server sends")
    assert {member for example in texts for member in example} == SENT_BY_SERVERS
    assert frame.keys() == {"predictions", "outcomes"}
