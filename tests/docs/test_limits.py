"""The limits that the pages about the interface name are those of the code."""

from __future__ import annotations

import re

import pytest

from model import structure, worker
from server.http import bodies, descriptors, lingering, listener, services, slow_bodies
from server.http.internal import messages
from server.http.public import listing, preference
from server.intake import forms, gathering, texts, wishes
from server.queue.facts import results
from server.queue.operations import moves
from tests.docs.sentences import ROOT

KIB, MIB = 1024, 1024 * 1024
OF_ASKING = [
    (rf"`\?top_k=` \(1 to {gathering.TOP_K_MOST}, default {gathering.TOP_K_DEFAULT}\)", []),
    (r"The request waits up to 10 s for the result \((\S+) s at most\)", [preference.LONGEST_WAIT]),
    (r"after 20 s at the latest \((\S+) s at most\)", [preference.LONGEST_WAIT]),
    (r"has sent (\S+) wrong keys within a minute", [services.WRONG_KEYS]),
    (r"how many at most: 1 to (\S+), (\S+) by default", [listing.MOST, listing.USUAL]),
    (r"Idempotency-Key: <1\.\.(\S+) printable", [wishes.KEY_LONGEST]),
]
OF_ERRORS = [
    (r"takes longer than (\S+) s\. It is refused", [worker.PICTURE_SECONDS]),
    (r"more than (\S+) segments, chunks or blocks", [structure.MOST_PARTS]),
    (r"more than (\S+) billion pixels times scans", [structure.MOST_PASSES / 1e9]),
]
OF_LIMITS = [
    (r"around the pictures may have (\S+) KiB", [texts.REST_BYTES / KIB]),
    (r"a depth of (\S+), and (\S+) brackets", [texts.DEEPEST, texts.MARKS_MOST]),
    (r"have (\S+) parts besides its pictures, with (\S+) KiB", [forms.FIELDS_MOST, forms.FIELD_BYTES / KIB]),
    (r"A body has (\S+) s\. .* be (\S+) KiB/s", [slow_bodies.GRACE_SECONDS, slow_bodies.SLOWEST_BYTES / KIB]),
    (r"come in (\S+) pieces .* must have (\S+) bytes", [bodies.PIECES_FREE, bodies.PIECE_BYTES]),
    (r"all uploads may take (\S+) MiB", [services.UPLOAD_BYTES / MIB]),
    (r"ignores one of up to (\S+) KiB", [bodies.SMALL_BYTES / KIB]),
    (r"body is announced as (\S+) MiB or less", [bodies.SOON_BYTES / MIB]),
    (
        r"drops up to (\S+) MiB of what still comes, for (\S+) s at most and until nothing has come for (\S+) s",
        [lingering.LINGER_BYTES / MIB, lingering.LINGER_SECONDS, lingering.SILENT_SECONDS],
    ),
    (r"up to (\S+) connections of each port", [descriptors.LINGERING]),
    (r"within the last (\S+) s is not closed", [listener.FRESH_SECONDS]),
]
OF_WORKERS = [
    (r"A message may have (\S+) KiB for each picture", [messages.PICTURE_BYTES / KIB]),
    (
        r"less than (\S+) MiB or more than (\S+) MiB\. A worker",
        [messages.MESSAGE_LEAST / MIB, messages.MESSAGE_MOST / MIB],
    ),
    (r"at most (\S+) bytes of JSON for each picture plus (\S+)", [results.RESULT_BYTES, results.LABEL_BYTES]),
    (r"holds at most (\S+) predictions, and at most (\S+) MiB", [moves.HELD_MOST, moves.HELD_BYTES / MIB]),
]


@pytest.mark.parametrize(
    ("page", "words", "limits"),
    [
        (page, *limit)
        for page, stated in (
            ("api", OF_ASKING),
            ("errors", OF_ERRORS),
            ("limits", OF_LIMITS),
            ("worker-protocol", OF_WORKERS),
        )
        for limit in stated
    ],
)
def test_the_limits_of_the_interface_are_those_of_the_code(page: str, words: str, limits: list[float]) -> None:
    text = " ".join((ROOT / "docs" / f"{page}.md").read_text().split())
    found = re.search(words, text)
    assert found is not None
    assert [float(number.replace(",", "")) for number in found.groups()] == limits


def test_the_limits_that_are_told_in_words_are_those_of_the_code() -> None:
    assert (listener.GREEDY_SHARE, listener.CROWDED_SHARE) == (0.1, 0.75)  # "a tenth", "three quarters"
    assert services.SHOWN_SECONDS == 1.0  # "within the last second"


def test_the_codes_of_the_errors_are_those_of_the_code() -> None:
    source = "\n".join(path.read_text() for part in ("server", "model") for path in (ROOT / part).rglob("*.py"))
    page = "\n".join((ROOT / "docs" / name).read_text() for name in ("errors.md", "clients.md", "worker-protocol.md"))
    rows = "\n".join(row for row in page.splitlines() if re.match(r"\| [45]\d\d\b", row))
    made = set(re.findall(r'(?:Problem|ImageError)\(\s*(?:\w+\.)?\w+,\s*"(\w+)"', source))
    made |= set(re.findall(r'ImageError\("(\w+)"', source))
    assert len(made) > 30
    assert {code for code in made if f"`{code}`" not in page} == set()
    named = {word for word in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", rows) if not re.match("(limit|kept)_", word)}
    fields = {"queue_bytes", "free_bytes", "reserve_bytes", "received_bytes", "open_streams"}
    assert {code for code in named - fields - {"method_not_allowed"} if f'"{code}"' not in source} == set()
