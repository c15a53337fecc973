"""``python -m benchmarks.compare.locking``: write the newest versions of the other servers, and their hashes.

What decodes and classifies has the versions of ``requirements.lock`` everywhere, so that only the servers differ.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from benchmarks.compare.environments import INSTALL_SECONDS, UV
from benchmarks.compare.peers import REQUIREMENTS

ENGINE = ("numpy", "onnxruntime", "pillow")
LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
OPTIONS = ("--universal", "--python-version", "3.11", "--generate-hashes", "--upgrade", "--no-header", "--no-annotate")


def pins(text: str) -> list[str]:
    """The lines that give the engine's packages their versions, without hashes."""
    return re.findall(rf"^(?:{'|'.join(ENGINE)})==[^\\\n]*[^\\\s]", text, re.MULTILINE)


def main() -> None:
    """Write every text of requirements from its file of needs."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(pins(LOCK.read_text("utf-8"))))
        constraints.flush()
        for needs in sorted(REQUIREMENTS.glob("*.in")):
            command = [*UV, "pip", "compile", "--quiet", *OPTIONS, "--no-emit-index-url"]
            command += ["--constraint", constraints.name, str(needs), "--output-file", str(needs.with_suffix(".txt"))]
            subprocess.run(command, check=True, timeout=INSTALL_SECONDS)


if __name__ == "__main__":
    main()
