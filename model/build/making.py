"""Make the files of a model: weights, ONNX files and records; each variant is compared with timm itself."""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from model.build import export, judge, labels, pictures, quantize, report, samples, sources, transforms, trial, verdicts
from model.build.errors import BuildError, NotExportable, NotQuantizable
from model.build.judge import Logits, Pixels
from model.build.pictures import MOST_PIXELS, Picture
from model.build.progress import Progress
from model.build.request import BUILDER_VERSION, Request
from model.build.verdicts import Judges
from model.description import Measured, Model, Variant, digest_of, file_digest, write_model
from model.images import Preprocessing, load

COMPARED = 128
"""So many pictures are enough to find an export that is wrong."""
TRIAL_SECONDS = 300.0


_PACKAGES = ("timm", "torch", "onnx", "onnxruntime", "numpy", "pillow")
_NOT_MEASURED = Measured(0, None, 0, None, None, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that is good enough to be served, with its logits for the pictures that judge."""

    runtime: str
    name: str
    file: Path
    logits: Logits
    largest_difference: float


def make(request: Request, folder: Path, progress: Progress) -> Model:
    """Fill ``folder`` with the files of the model that is asked for, and return its description.

    Raises ``BuildError``, and ``OSError`` when the files cannot be written.
    """
    return _Making(request, folder, progress).run()


class _Making:
    def __init__(self, request: Request, folder: Path, progress: Progress) -> None:
        self._request, self._folder, self._progress = request, folder, progress
        self._warnings: list[str] = []
        self._int8_bits: int | None = None

    def run(self) -> Model:
        request, progress = self._request, self._progress
        progress.step(f"reading {request.source}")
        source = sources.load(
            request.source, architecture=request.architecture, use_ema=request.use_ema, progress=progress
        )
        how = transforms.preprocessing(source.network, source.data, request.preprocessing)
        named, calibration, judging = self._pictures(source, how)
        judges = self._ask_timm(source.network, how, calibration, judging)
        candidates, how, fast = self._served(source.network, how, judges)
        best = candidates[0]
        if best.runtime == "onnx" and (int8 := self._int8(best.file, how, judges)) is not None:
            candidates.insert(1, int8)
        self._complain_of_missing(candidates)
        variants = tuple(self._variant(candidate, judges) for candidate in candidates)
        described = (source.architecture, source.arguments, named.labels, how, variants)
        digest = digest_of(*described)
        model = Model(
            path=self._folder,
            name=request.name or source.name,
            version=digest[:8],
            digest=digest,
            architecture=source.architecture,
            arguments=source.arguments,
            labels=named.labels,
            preprocessing=how,
            variants=variants,
            judged=verdicts.told(request.data, judges, best.logits, named.labels, fast),
            warnings=tuple(self._warnings),
            build={**_record(request, source), "int8_weight_bits": self._int8_bits},
        )
        model = self._timed(model, judges)
        (self._folder / "MODEL.md").write_text(report.card(model), "utf-8")
        return model

    def _warn(self, *sentences: str) -> None:
        for sentence in sentences:
            self._warnings.append(sentence)
            self._progress.warn(sentence)

    def _pictures(
        self, source: sources.Source, how: Preprocessing
    ) -> tuple[labels.Labels, Sequence[Picture], Sequence[Picture]]:
        """Name the classes, and find the pictures that calibrate and those that judge."""
        found = pictures.find(self._request.data) if self._request.data is not None else None
        named = labels.choose(
            source.arguments["num_classes"],
            given=self._request.labels,
            names=source.label_names,
            descriptions=source.label_descriptions,
            folder=found,
        )
        self._warn(*named.warnings)
        if found is None:
            return named, samples.calibration(), samples.held_out()
        calibration, judging, remarks = pictures.split(found, named, self._request.pictures)
        self._warn(*remarks)
        self._progress.step("decoding your pictures", len(calibration) + len(judging))
        readable, remarks = pictures.readable([*calibration, *judging], how, self._progress)
        self._warn(*remarks)
        kept = set(map(id, readable))
        calibration, judging = ([one for one in part if id(one) in kept] for part in (calibration, judging))
        if not judging:
            raise BuildError(f"{self._request.data} has too few pictures: none is left to judge the model with.")
        return named, calibration, judging

    def _ask_timm(
        self, network: torch.nn.Module, how: Preprocessing, calibration: Sequence[Picture], judging: Sequence[Picture]
    ) -> Judges:
        self._progress.step("timm itself", len(judging))
        reference = judge.torch_logits(network, judging, lambda data: transforms.reference(data, how), self._progress)
        truths = [picture.truth for picture in judging]
        known = None if None in truths else np.array(truths, np.int64)
        return Judges(calibration, judging, known, self._request.data is not None, reference)

    def _served(
        self, network: torch.nn.Module, how: Preprocessing, judges: Judges
    ) -> tuple[list[Candidate], Preprocessing, float]:
        """Make the fp32 variants, the best one first, and choose the pixels.

        Returns the variants, the preprocessing, and the share of the pictures whose best class the fast pixels change.
        """
        tensors, onnx = self._folder / "model.safetensors", self._folder / "model.onnx"
        self._progress.step("exporting to ONNX")
        # Saved as timm has them, because the timm runtime loads the file into timm's own network.
        save_file({key: tensor.contiguous().clone() for key, tensor in network.state_dict().items()}, tensors)
        tensors.chmod(0o644)  # safetensors makes it 0600, and a container's user is not the builder
        served = export.simplified(network, how.shape)
        runs: dict[str, Callable[[Sequence[Picture], Pixels], Logits]] = {
            "timm": lambda some, pixels: judge.torch_logits(served, some, pixels, self._progress)
        }
        try:
            export.export(served, how.shape, onnx)
            runs = {"onnx": lambda some, pixels: judge.onnx_logits(onnx, some, pixels, self._progress), **runs}
        except NotExportable as error:
            self._warn(f"{error} So it has no ONNX file, and only the runtime timm serves it.")
        differences = self._compared(runs, how, judges)
        if "onnx" not in runs:
            onnx.unlink(missing_ok=True)
        run = next(iter(runs.values()))
        self._progress.step("fast pixels, compared with timm's own", len(judges.judging))
        logits, how, changed = self._fastest(run, how, judges)
        candidates = []
        for runtime, each in runs.items():
            if each is not run:
                self._progress.step(f"{runtime} fp32", len(judges.judging))
                logits = each(judges.judging, _pixels(how))
            file = onnx if runtime == "onnx" else tensors
            candidates.append(Candidate(runtime, "fp32", file, logits, differences[runtime]))
        return candidates, how, changed

    def _compared(
        self, runs: dict[str, Callable[[Sequence[Picture], Pixels], Logits]], how: Preprocessing, judges: Judges
    ) -> dict[str, float]:
        """Compare each runtime with timm on timm's own pixels, and drop an ONNX file that differs."""
        some = judges.judging[:COMPARED]
        differences = {}
        for runtime in list(runs):
            self._progress.step(f"{runtime} fp32, compared with timm", len(some))
            logits = runs[runtime](some, lambda data: transforms.reference(data, how))
            differences[runtime] = judge.judge(judges.reference[: len(some)], logits).largest_difference
            if judge.fp32_fits(judges.reference[: len(some)], logits):
                continue
            differs = f"differs from timm by {differences[runtime]:.2g} in a logit"
            if runtime == "timm":
                raise BuildError(f"The network, simplified for serving, {differs}; it cannot be served.")
            self._warn(
                f"The exported network {differs}, so the ONNX file was left out: only the runtime timm serves it."
            )
            del runs[runtime]
        return differences

    def _fastest(
        self, run: Callable[[Sequence[Picture], Pixels], Logits], how: Preprocessing, judges: Judges
    ) -> tuple[Logits, Preprocessing, float]:
        fast = replace(how, faithful=False)
        logits = run(judges.judging, _pixels(fast))
        changed = verdicts.changed(judges, logits)
        if changed <= 1 - verdicts.LEAST_FAST_AGREEMENT:
            return logits, fast, changed
        self._warn(
            f"The fast way to decode pictures changes the best class of {changed:.1%} of them, more than "
            f"{1 - verdicts.LEAST_FAST_AGREEMENT:.1%}; so pictures are prepared exactly as timm does it, which takes "
            "longer."
        )
        faithful = replace(how, faithful=True)
        self._progress.step("timm's own pixels", len(judges.judging))
        return run(judges.judging, _pixels(faithful)), faithful, changed

    def _int8(self, fp32: Path, how: Preprocessing, judges: Judges) -> Candidate | None:
        """Quantise with the most bits that are good enough; None, with a warning, when none are."""
        file = fp32.with_name("model-int8.onnx")
        why = ""
        for bits in quantize.WEIGHT_BITS:
            self._progress.step(f"int8 with {bits}-bit weights", len(judges.calibration) + len(judges.judging))
            try:
                quantize.quantize(fp32, file, judges.calibration, _pixels(how), bits, self._progress)
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
        return Variant(
            runtime=candidate.runtime,
            name=candidate.name,
            file=candidate.file.name,
            bytes=candidate.file.stat().st_size,
            sha256=file_digest(candidate.file),
            measured=replace(
                _NOT_MEASURED,
                agreement=like.agreement,
                sure_agreement=like.sure_agreement,
                largest_difference=candidate.largest_difference,
                top1=top1,
                top5=top5,
            ),
        )

    def _timed(self, model: Model, judges: Judges) -> Model:
        """Run each variant as a worker does, in a process of its own, and add what it took."""
        write_model(model)  # the worker's own code reads it
        timed = []
        for variant in model.variants:
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


def _record(request: Request, source: sources.Source) -> dict[str, Any]:
    return {
        "builder": BUILDER_VERSION,
        "source": Path(request.source).name if Path(request.source).exists() else request.source,
        "weights": source.weights,
        "licence": source.licence,
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
    }
