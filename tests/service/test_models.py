"""The folder of models on a laptop: which model a tier takes, what is told of it, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

from tests.running import Service, service
from tests.service.pictures import CAT
from tests.service.test_commands import CAT as CAT_FILE
from tests.service.test_commands import run
from tests.service.test_lifecycle import failure
from tests.waiting import eventually

LITE0 = "tf_efficientnet_lite0"


def version(models: Path, name: str) -> str:
    return str(json.loads((models / name / "model.json").read_text())["version"])


def build_like(models: Path, folder: Path, name: str = "flowers", label: str = "Gänseblümchen 雛菊 🌼") -> str:
    """A model with labels of its own, in a folder as a build leaves it; returns its reference NAME@VERSION.

    Its files are those of lite0, and each of its labels begins with ``label``.
    """
    source = models / LITE0
    record = json.loads((source / "model.json").read_text())
    record |= {"name": name, "version": f"{len(label):08x}"}
    record["labels"] = [f"{label} {number}" for number in range(len(record["labels"]))]
    reference = f"{name}@{record['version']}"
    made = folder / reference
    made.mkdir(parents=True)
    for file in source.iterdir():
        if file.name != "model.json":
            (made / file.name).symlink_to(file)
    (made / "model.json").write_text(json.dumps(record, ensure_ascii=False), "utf-8")
    link = folder / f".{name}.new"
    link.symlink_to(reference)
    link.replace(folder / name)
    return reference


def test_a_tier_takes_a_model_by_its_name_and_predictions_say_its_version(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    reference = build_like(models, folder)
    settings = ["tiers.free.model.name=flowers", f"tiers.premium.model.name={reference}"]
    settings += ["tiers.premium.model.variant=int8"]
    with service(folder, tmp_path / "state", settings) as found:
        for tier in ("free", "premium"):
            answer = found.post(tier, CAT)
            assert answer.status == 200, answer.body
            assert answer.json["model"] == reference
            assert answer.json["results"][0]["labels"][0]["label"].startswith("Gänseblümchen 雛菊 🌼")


def test_the_folder_of_models_is_shown_and_followed(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    build_like(models, folder)
    with service(folder, tmp_path / "state", ["tiers.free.model.name=flowers"]) as found:
        assert "has no tf_efficientnet_lite2" in found.log.read_text()
        url = f"http://127.0.0.1:{found.port}"
        tier = "/v1/tiers/free"
        old = eventually(lambda: found.get(tier).json["model"], 20, "it is decided", lambda now: now["classes"])
        assert (old["name"], old["classes"], old["labels"][1]) == ("flowers", 1000, "Gänseblümchen 雛菊 🌼 1")
        reference = build_like(models, folder, label="[/] Löwenzahn [red]\u202e")
        model = eventually(lambda: found.get(tier).json["model"], 20, "it is seen", lambda now: now != old)
        assert f"flowers@{model['version']}" == reference
        # Its worker is new too, so it has loaded what is told.
        shown = run("server", "classify", CAT_FILE, "--url", url)
        assert "[/] Löwenzahn [red]" in shown
        assert f"by {reference}" in shown
        assert reference in run("server", "tiers", "--url", url)
        plain = run("server", "classify", CAT_FILE, "--url", url, env={"PYTHONIOENCODING": "ascii"})
        assert "[/] L\\xf6wenzahn [red]\\u202e" in plain


def test_a_model_that_is_built_anew_is_served_without_a_restart(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    first = build_like(models, folder)
    settings = ["tiers.free.model.name=flowers", "tiers.free.quota.pods=1"]
    with service(folder, tmp_path / "state", settings) as found:
        assert found.post("free", CAT).json["model"] == first
        (worker,) = found.workers()
        second = build_like(models, folder, label="Löwenzahn")
        answers = []

        def answered_by() -> str:
            answers.append(found.post("free", CAT))
            return str(answers[-1].json["model"])

        eventually(answered_by, 30, "the new model answers", lambda model: model == second)
        assert [answer.status for answer in answers] == [200] * len(answers)
        labels = {"Gänse": first, "Löwen": second}
        for answer in answers:
            assert labels[answer.json["results"][0]["labels"][0]["label"][:5]] == answer.json["model"]
        worker.wait(30)  # it ends by itself
        assert "exit code" not in found.log.read_text()


def test_a_canary_answers_its_part_and_no_prediction_is_lost(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    main, beside = build_like(models, folder), build_like(models, folder, "weeds", "Löwenzahn")
    settings = [f"tiers.free.model.{key}" for key in ("name=flowers", "canary.name=weeds", "canary.percent=50")]
    with service(folder, tmp_path / "state", settings) as found:
        told = eventually(
            lambda: found.get("/v1/tiers/free").json["model"]["canary"], 60, "it is live", lambda canary: canary["live"]
        )
        assert (told["reference"], told["percent"]) == (beside, 50)
        answers = [found.post("free", CAT) for _ in range(24)]
        assert [answer.status for answer in answers] == [200] * 24
        # Of 24 ids none or all are the canary's once in 8,000,000 runs.
        assert {answer.json["model"] for answer in answers} == {main, beside}
        lanes = [(of["reference"], of["tiers"][0]["lane"]) for of in found.get("/v1/models").json["models"]]
        assert lanes == [(main, "main"), (beside, "canary")]


def test_a_variant_that_a_build_has_left_out_is_told_with_what_to_set(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    reference = build_like(models, folder)
    (folder / "tf_efficientnet_lite2").symlink_to(models / "tf_efficientnet_lite2")
    record = folder / reference / "model.json"
    fields = json.loads(record.read_text())
    fields["variants"] = [variant for variant in fields["variants"] if variant["name"] != "int8"]
    record.write_text(json.dumps(fields))
    said = f"{reference} has no int8 for the runtime onnx, only fp32: --set tiers.free.model.variant=fp32"
    with service(folder, tmp_path / "state", ["tiers.free.model.name=flowers"]) as found:
        assert f"{said}. Until then no worker can start for the tier free" in found.log.read_text()
    settings = ["tiers.free.model.name=flowers", "tiers.free.model.variant=fp32"]
    with service(folder, tmp_path / "fp32", settings) as found:
        assert found.post("free", CAT).json["model"] == reference


def test_a_server_none_of_whose_tiers_has_a_model_does_not_start(models: Path, tmp_path: Path) -> None:
    names = ["tiers.free.model.name=flowers", "tiers.premium.model.name=flowers@best"]
    said = failure(Service(tmp_path / "state", tmp_path / "models", names).command)
    command = f"tierserve model build SOURCE --name flowers --output {tmp_path}/models"
    assert f"{tmp_path}/models has no flowers. Build it: {command}" in said
    assert f"{tmp_path}/models has no flowers@best" in said
