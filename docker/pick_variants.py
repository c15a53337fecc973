"""Copy models with the variants of one runtime only, and say so in their records: ``pick_variants.py RUNTIME FROM TO``.

An image carries the files that its runtime loads, and a record may name no file that is not there.
"""

import json
import shutil
import sys
from pathlib import Path


def pick(runtime: str, model: Path, output: Path) -> None:
    """Copy the directory ``model`` to ``output``, less the variants that are not for ``runtime``."""
    record = json.loads((model / "model.json").read_bytes())
    record["variants"] = [variant for variant in record["variants"] if variant["runtime"] == runtime]
    if not record["variants"]:
        sys.exit(
            f"{model.name} has no variant for runtime {runtime}; build it again: python -m model build {model.name}"
        )
    output.mkdir(parents=True)
    for variant in record["variants"]:
        shutil.copyfile(model / variant["file"], output / variant["file"])
    (output / "model.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    runtime, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    models = sorted(path.parent for path in source.glob("*/model.json"))
    if not models:
        sys.exit(f"there is no model in {source}; make the default ones with: make models")
    for model in models:
        pick(runtime, model, target / model.name)
