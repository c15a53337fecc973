"""Files that run code when they are unpickled: a file of the test's folder then appears."""

import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Code:
    """Makes the file ``trace`` when it is unpickled."""

    trace: Path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.trace}'",)


def bare_pickle(file: Path, code: Code, protocol: int = 2) -> None:
    file.write_bytes(pickle.dumps({"state_dict": code}, protocol))


def torch_zip(file: Path, code: Code) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(3)}, "args": code}, file)


def torch_legacy(file: Path, code: Code) -> None:
    torch.save({"weight": torch.zeros(3), "more": code}, file, _use_new_zipfile_serialization=False)


def newer_protocol(file: Path, code: Code) -> None:
    torch.save({"weight": torch.zeros(3), "more": code}, file, pickle_protocol=4)


def tail_of_a_zip(file: Path, code: Code) -> None:
    """A pickle that a reader of zip files takes for a zip file, because it ends like one."""
    bare_pickle(file, code)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("config.json", "{}")


WRITERS: tuple[Callable[[Path, Code], Any], ...] = (
    bare_pickle,
    torch_zip,
    torch_legacy,
    newer_protocol,
    tail_of_a_zip,
)
