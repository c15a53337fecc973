"""Make the files of a model: weights, ONNX files and records; each variant is compared with timm itself."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from model import libraries
from model.build import judge, labels, pictures, quantize, report, samples, trial, verdicts
from model.build.errors import BuildError, NotExportable, NotQuantizable
from model.build.judge import Logits, Pixels
from model.build.origin import Origin, Run
from model.build.pictures import MOST_PIXELS, Picture
from model.build.progress import Progress
from model.build.request import BUILDER_VERSION, Request
from model.build.verdicts import Judges
from model.description import Measured, Model, Variant, digest_of, file_digest, write_model
from model.images import Preprocessing, load

COMPARED = 128
"""So many pictures are enough to find an export that is wrong."""
TRIAL_SECONDS = 300.0
TENSORS = "model.safetensors"

_PACKAGES = ("onnx", "onnxruntime", "numpy", "pillow")
_NOT_MEASURED = Measured(0, None, 0, None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that is good enough to be served, with its logits for the pictures that judge."""

    runtime: str
    name: str
    file: Path
    logits: Logits
    largest_difference: float


def make(request: Request, origin: Origin, folder: Path, progress: Progress) -> Model:
    """Fill ``folder`` with the files of the model that is asked for, made of ``origin``, and return its description.

    Raises ``BuildError``, and ``OSError`` when the files cannot be written.
    """
    return _Making(request, origin, folder, progress).run()


class _Making:
    def __init__(self, request: Request, origin: Origin, folder: Path, progress: Progress) -> None:
        self._request, self._origin, self._folder, self._progress = request, origin, folder, progress
        self._warnings: list[str] = []
        self._int8_bits: int | None = None

    def run(self) -> Model:
        request, facts, how = self._request, self._origin.facts, self._origin.preprocessing
        named, calibration, judging = self._pictures()
        judges = self._ask_timm(calibration, judging)
        candidates, how, fast = self._served(judges)
        best = candidates[0]
        if best.runtime == "onnx":
            with TemporaryDirectory(prefix="ranges-") as scratch:
                ranges = self._origin.ranges(how) or Path(scratch) / "ranges.json"
                int8 = self._int8(best.file, how, judges, ranges)
            candidates[1:1] = [int8] if int8 is not None else []
        self._complain_of_missing(candidates)
        variants = [self._variant(candidate, judges) for candidate in candidates]
        if isinstance(measured := self._origin.timm, Measured):
            variants.append(_described("timm", "fp32", self._folder / TENSORS, measured))
        described = (facts.architecture, facts.arguments, named.labels, how, variants)
        digest = digest_of(*described)
        model = Model(
            path=self._folder,
            name=request.name or facts.name,
            version=digest[:8],
            digest=digest,
            architecture=facts.architecture,
            arguments=facts.arguments,
            labels=named.labels,
            preprocessing=how,
            variants=tuple(variants),
            judged=verdicts.told(request.data, judges, best.logits, named.labels, fast),
            warnings=tuple(self._warnings),
            build={**_record(request, self._origin), "int8_weight_bits": self._int8_bits},
        )
        model = self._timed(model, judges)
        (self._folder / "MODEL.md").write_text(report.card(model), "utf-8")
        return model

    def _warn(self, *sentences: str) -> None:
        for sentence in sentences:
            self._warnings.append(sentence)
            self._progress.warn(sentence)

    def _pictures(self) -> tuple[labels.Labels, Sequence[Picture], Sequence[Picture]]:
        """Name the classes, and find the pictures that calibrate and those that judge."""
        found = pictures.find(self._request.data) if self._request.data is not None else None
        named = labels.choose(
            self._origin.facts.arguments["num_classes"],
            given=self._request.labels,
            names=self._origin.facts.label_names,
            descriptions=self._origin.facts.label_descriptions,
            folder=found,
        )
        self._warn(*named.warnings)
        if found is None:
            return named, samples.calibration(), samples.held_out()
        calibration, judging, remarks = pictures.split(found, named, self._request.pictures)
        self._warn(*remarks)
        self._progress.step("decoding your pictures", len(calibration) + len(judging))
        readable, remarks = pictures.readable([*calibration, *judging], self._origin.preprocessing, self._progress)
        self._warn(*remarks)
        kept = set(map(id, readable))
        calibration, judging = ([one for one in part if id(one) in kept] for part in (calibration, judging))
        if not judging:
            raise BuildError(f"{self._request.data} has too few pictures: none is left to judge the model with.")
        return named, calibration, judging

    def _ask_timm(self, calibration: Sequence[Picture], judging: Sequence[Picture]) -> Judges:
        self._progress.step("timm itself", len(judging))
        reference = self._origin.logits(judging)
        truths = [picture.truth for picture in judging]
        known = None if None in truths else np.array(truths, np.int64)
        return Judges(calibration, judging, known, self._request.data is not None, reference)

    def _served(self, judges: Judges) -> tuple[list[Candidate], Preprocessing, float]:
        """Make the fp32 variants that can be run here, the best one first, and choose the pixels.

        Returns the variants, the preprocessing, and the share of the pictures whose best class the fast pixels change.
        """
        tensors, onnx = self._folder / TENSORS, self._folder / "model.onnx"
        self._progress.step("writing the ONNX file")
        self._origin.save(tensors)
        tensors.chmod(0o644)  # safetensors makes it 0600, and a container's user is not the builder
        runs: dict[str, Run] = {}
        try:
            self._origin.export(onnx)
            runs["onnx"] = lambda some, pixels: judge.onnx_logits(onnx, some, pixels, self._progress)
        except NotExportable as error:
            self._warn(f"{error} So it has no ONNX file, and only the runtime timm serves it.")
        if not isinstance(run := self._origin.timm, Measured):
            runs["timm"] = run
        differences = self._compared(runs, judges)
        if "onnx" not in runs:
            onnx.unlink(missing_ok=True)
        run = next(iter(runs.values()))
        self._progress.step("fast pixels, compared with timm's own", len(judges.judging))
        logits, how, changed = self._fastest(run, judges)
        candidates = []
        for runtime, each in runs.items():
            if each is not run:
                self._progress.step(f"{runtime} fp32", len(judges.judging))
                logits = each(judges.judging, _pixels(how))
            file = onnx if runtime == "onnx" else tensors
            candidates.append(Candidate(runtime, "fp32", file, logits, differences[runtime]))
        return candidates, how, changed

    def _compared(self, runs: dict[str, Run], judges: Judges) -> dict[str, float]:
        """Compare each runtime with timm on timm's own pixels, and drop an ONNX file that differs."""
        some = judges.judging[:COMPARED]
        differences = {}
        for runtime in list(runs):
            self._progress.step(f"{runtime} fp32, compared with timm", len(some))
            logits = runs[runtime](some, self._origin.pixels)
            differences[runtime] = judge.judge(judges.reference[: len(some)], logits).largest_difference
            if judge.fp32_fits(judges.reference[: len(some)], logits):
                continue
            differs = f"differs from timm by {differences[runtime]:.2g} in a logit"
            if runtime == "timm" or len(runs) == 1:
                raise BuildError(f"The network, simplified for serving, {differs}; it cannot be served.")
            self._warn(
                f"The exported network {differs}, so the ONNX file was left out: only the runtime timm serves it."
            )
            del runs[runtime]
        return differences

    def _fastest(self, run: Run, judges: Judges) -> tuple[Logits, Preprocessing, float]:
        fast = replace(self._origin.preprocessing, faithful=False)
        logits = run(judges.judging, _pixels(fast))
        changed = verdicts.changed(judges, logits)
        if changed <= 1 - verdicts.LEAST_FAST_AGREEMENT:
            return logits, fast, changed
        self._warn(
            f"The fast way to decode pictures changes the best class of {changed:.1%} of them, more than "
            f"{1 - verdicts.LEAST_FAST_AGREEMENT:.1%}; so pictures are prepared exactly as timm does it, which takes "
            "longer."
        )
        faithful = replace(fast, faithful=True)
        self._progress.step("timm's own pixels", len(judges.judging))
        return run(judges.judging, _pixels(faithful)), faithful, changed

    def _int8(self, fp32: Path, how: Preprocessing, judges: Judges, ranges: Path) -> Candidate | None:
        """Quantise with the most bits that are good enough; None, with a warning, when none are."""
        file = fp32.with_name("model-int8.onnx")
        why = ""
        for bits in quantize.WEIGHT_BITS:
            measured = 0 if ranges.exists() else len(judges.calibration)
            self._progress.step(f"int8 with {bits}-bit weights", measured + len(judges.judging))
            try:
                quantize.quantize(fp32, file, judges.calibration, _pixels(how), bits, self._progress, ranges)
            except NotQuantizable as error:
                why = str(error)
                break
            logits = judge.onnx_logits(file, judges.judging, _pixels(how), self._progress)
            why = verdicts.int8_fault(judges, logits)
            if not why:
                self._int8_bits = bits
                difference = judge.judge(judges.reference, logits).largest_difference
                return Candidate("onnx", "int8", file, logits, difference)
        file.unlink(missing_ok=True)
        self._warn(f"int8 was left out: {why}")
        return None

    def _complain_of_missing(self, candidates: Sequence[Candidate]) -> None:
        for required in self._request.require:
            if not any(required in (candidate.runtime, candidate.name) for candidate in candidates):
                reasons = " ".join(self._warnings)
                raise BuildError(f"{required} was required, but cannot be made: {reasons}")

    def _variant(self, candidate: Candidate, judges: Judges) -> Variant:
        like = judge.judge(judges.reference, candidate.logits)
        top1, top5 = (None, None) if judges.truth is None else judge.accuracy(candidate.logits, judges.truth)
        measured = replace(
            _NOT_MEASURED,
            agreement=like.agreement,
            sure_agreement=like.sure_agreement,
            largest_difference=candidate.largest_difference,
            top1=top1,
            top5=top5,
        )
        return _described(candidate.runtime, candidate.name, candidate.file, measured)

    def _timed(self, model: Model, judges: Judges) -> Model:
        """Run each variant as a worker does, in a process of its own, and add what it took."""
        write_model(model)  # the worker's own code reads it
        timed = []
        for variant in model.variants:
            if variant.runtime == "timm" and libraries.missing():
                timed.append(variant)
                continue
            self._progress.step(f"{variant.runtime} {variant.name} as a worker runs it")
            speed = trial.measure(model.path, variant.runtime, variant.name, judges.judging, TRIAL_SECONDS)
            measured = replace(
                variant.measured,
                ms=speed.ms,
                images_per_second=speed.images_per_second,
                memory_mb=speed.memory_mb,
            )
            timed.append(replace(variant, measured=measured))
        return replace(model, variants=tuple(timed))


def _pixels(how: Preprocessing) -> Pixels:
    return lambda data: load(data, how, MOST_PIXELS)


def _described(runtime: str, name: str, file: Path, measured: Measured) -> Variant:
    return Variant(runtime, name, file.name, file.stat().st_size, file_digest(file), measured)


def _record(request: Request, origin: Origin) -> dict[str, Any]:
    return {
        "builder": BUILDER_VERSION,
        "source": Path(request.source).name if Path(request.source).exists() else request.source,
        "weights": origin.facts.weights,
        "licence": origin.facts.licence,
        **origin.digests,
        "versions": {**origin.versions, **{package: importlib.metadata.version(package) for package in _PACKAGES}},
    }
