"""Copy models with the variants of one runtime only, and say so in their records: ``pick_variants.py RUNTIME FROM TO``.

An image of workers carries the files that its runtime loads, and a record may name no file that is not there. A model
that has no variant for the runtime is left out. Links, which are the names and tags of models, are copied as links.
``pick_variants.py records FROM TO`` copies the records alone, as they are: the server reads no more of a model.
"""

import json
import shutil
import sys
from pathlib import Path

RECORDS = "records"


def pick(runtime: str, model: Path, output: Path) -> bool:
    """Copy the directory ``model`` to ``output``, less the variants that are not for ``runtime``; False if none is."""
    record = json.loads((model / "model.json").read_bytes())
    if runtime == RECORDS:
        output.mkdir(parents=True)
        shutil.copyfile(model / "model.json", output / "model.json")
        return True
    record["variants"] = [variant for variant in record["variants"] if variant["runtime"] == runtime]
    if not record["variants"]:
        print(f"{model.name} has no variant for the runtime {runtime}, so it was left out")
        return False
    output.mkdir(parents=True)
    for variant in record["variants"]:
        shutil.copyfile(model / variant["file"], output / variant["file"])
    (output / "model.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return True


def pick_all(runtime: str, source: Path, target: Path) -> int:
    """Copy all models of the folder ``source`` into ``target``, with their names; return how many were copied."""
    target.mkdir(parents=True, exist_ok=True)
    found = sorted(path.parent for path in source.glob("[!.]*/model.json"))
    picked = sum(pick(runtime, model, target / model.name) for model in found if not model.is_symlink())
    for link in found:
        if link.is_symlink() and (target / link.readlink()).is_dir():
            (target / link.name).symlink_to(link.readlink())
    return picked


if __name__ == "__main__":
    runtime, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if not list(source.glob("[!.]*/model.json")):
        sys.exit(f"there is no model in {source}; make the default ones with: make models")
    if not pick_all(runtime, source, target):
        print(f"no model of {source} has a variant for the runtime {runtime}; the image has no model")
