"""What a pushed record says, checked as far as a server can that has none of the libraries that run models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from server.problems import Problem
from server.queue import StoredFile, StoredModel

VERSION_DIGITS = 8


def digest_of(record: Mapping[str, Any]) -> str:
    """The SHA-256 of what a model serves, hexadecimal, by the rule of ``model.description.digest_of``."""
    files = [(variant["runtime"], variant["name"], variant["sha256"]) for variant in record["variants"]]
    served = [*(record[name] for name in ("architecture", "arguments", "labels", "preprocessing")), files]
    return hashlib.sha256(json.dumps(served, sort_keys=True).encode()).hexdigest()


def checked(record: Mapping[str, Any]) -> StoredModel:
    """The model of a record that its schema accepts. Raises ``Problem`` with 422, ``bad_model`` or ``wrong_digest``."""
    try:
        text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise bad_model("/record", "a number of the record is too large") from error
    _check_variants(record["variants"])
    channels = record["preprocessing"]["channels"]
    if any(len(record["preprocessing"][name]) != channels for name in ("mean", "std")):
        raise bad_model("/record/preprocessing", f"mean and std need {channels} numbers, one for each channel")
    digest = digest_of(record)
    if digest != record["digest"]:
        detail = f"the digest of the record is {digest}, and it says {record['digest']}: it was changed after its build"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "wrong_digest", detail, digest=digest)
    if record["version"] != digest[:VERSION_DIGITS]:
        raise bad_model("/record/version", f"the version is {record['version']}, and its digest begins otherwise")
    files = {variant["sha256"]: variant["bytes"] for variant in record["variants"]}
    return StoredModel(
        name=record["name"],
        version=record["version"],
        digest=digest,
        record=text,
        files=tuple(StoredFile(sha256, size) for sha256, size in files.items()),
        pushed_at=0.0,
    )


def _check_variants(variants: Sequence[Mapping[str, Any]]) -> None:
    """No two may be taken for each other, nor one file for another one. Raises ``Problem``."""
    pairs: set[tuple[str, str]] = set()
    files: dict[str, tuple[str, int]] = {}
    sizes: dict[str, int] = {}
    for number, variant in enumerate(variants):
        where, pair = f"/record/variants/{number}", (variant["runtime"], variant["name"])
        content = variant["sha256"], variant["bytes"]
        if pair in pairs:
            raise bad_model(where, f"there are two variants {variant['runtime']}/{variant['name']}")
        if files.setdefault(variant["file"], content) != content:
            raise bad_model(f"{where}/file", f"two files have the name {variant['file']}")
        if sizes.setdefault(*content) != variant["bytes"]:
            raise bad_model(f"{where}/bytes", f"the file {variant['file']} has two sizes")
        pairs.add(pair)


def bad_model(pointer: str, detail: str) -> Problem:
    """The problem of a record that breaks a rule; ``pointer`` says where in the body (RFC 6901)."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_model", detail, pointer=pointer)
