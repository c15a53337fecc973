"""What an owner reads about a model: the page ``MODEL.md``, and its table for the terminal."""

import html
import re
from collections.abc import Iterable, Sequence

from model.description import Model, Variant
from model.images import Preprocessing

HEADINGS = ("variant", "runtime", "top-1", "top-5", "agreement", "ms", "images/s", "memory MB", "file MB")

LABELS = 20
_UNKNOWN = "-"
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_SPECIAL = re.compile(r"[\\`*_{}\[\]|~$@#!]|:(?=\S)|(?<=www)\.")
"""What Markdown gives a meaning to inside a line, also without being asked: it makes links of addresses."""


def rows(model: Model) -> list[tuple[str, ...]]:
    """Return the table of the variants, under ``HEADINGS``, with timm itself as the first row."""
    timm = model.judged.get("timm", {})
    first = ("timm itself", _UNKNOWN, _share(timm.get("top1")), _share(timm.get("top5")), _share(1.0))
    return [first + (_UNKNOWN,) * (len(HEADINGS) - len(first)), *(_row(variant) for variant in model.variants)]


def serve_command(model: Model) -> str:
    """Return the command that serves the model in the tier ``free``, whose runtime is onnx and whose variant int8."""
    settings = [f"name={model.name}"]
    pairs = {(variant.runtime, variant.name) for variant in model.variants}
    if ("onnx", "int8") not in pairs:
        settings.append("variant=fp32")
        if ("onnx", "fp32") not in pairs:
            settings.append("runtime=timm")
    options = " ".join(f"--set tiers.free.model.{setting}" for setting in settings)
    return f"make run ARGS='{options}'"


def card(model: Model) -> str:
    """Return ``MODEL.md``: what the model is, how it was judged, and how to serve it."""
    parts = [
        f"# `{model.name}`",
        f"This model sorts pictures into {len(model.labels):,} classes. Its network is `{model.architecture}` of timm."
        f" It is served as `{model.name}` or, exactly this version, as `{model.reference}`.",
        *(["## Warnings", _list(model.warnings)] if model.warnings else []),
        "## How good it is, and how fast",
        _measured_on(model),
        _table(HEADINGS, rows(model)),
        "top-1 and top-5 are the shares of the pictures whose true class is the best, or among the best five. Agreement"
        " is the share of the pictures for which a variant's best class is that of timm itself. Time and memory are"
        " those of one worker process with one thread, on the machine that built the model: ms is the median from the"
        " bytes of a picture to its probabilities, and memory is the peak.",
        *_confused(model),
        "## How to serve it",
        f"On a laptop, from the folder of tierserve, in which the models are in `.tierserve/models`:\n\n"
        f"    {serve_command(model)}",
        "## Classes",
        _table(("class", "label"), _classes(model.labels)),
        "## Preprocessing",
        _preprocessing(model.preprocessing),
        "## Where it comes from",
        _origin(model),
    ]
    return "\n\n".join(parts) + "\n"


def _row(variant: Variant) -> tuple[str, ...]:
    measured = variant.measured
    ms, rate, memory = measured.ms, measured.images_per_second, measured.memory_mb
    return (
        variant.name,
        variant.runtime,
        _share(measured.top1),
        _share(measured.top5),
        _share(measured.agreement),
        _UNKNOWN if ms is None else f"{ms:.1f}",
        _UNKNOWN if rate is None else f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}",
        _UNKNOWN if memory is None else f"{memory:.0f}",
        f"{variant.bytes / 1e6:.1f}",
    )


def _measured_on(model: Model) -> str:
    judged = model.judged
    if "pictures" not in judged:
        return "It was not judged on pictures."
    where = f"pictures of the folder {_text(judged['data'])}"
    if judged["data"] == "own pictures":
        where = "crops of the pictures that come with tierserve"
    told = [f"Measured on {judged['pictures']:,} {where}."]
    if any(variant.name == "int8" for variant in model.variants):
        told.append(f"int8 was calibrated with {judged['calibrated_with']:,} others.")
    if judged["timm"]["top1"] is None:
        told.append("Their true classes are not known, so the table shows likeness to timm, and no accuracy.")
    sure = [variant for variant in model.variants if variant.measured.sure_agreement is not None]
    if sure:
        shares = ", ".join(f"{_share(each.measured.sure_agreement)} ({each.runtime} {each.name})" for each in sure)
        told.append(f"Of the {judged['sure']:,} that timm is sure of, the agreement is {shares}.")
    changed = judged["fast_path"]["changed"]
    told.append(
        f"The fast way to decode pictures, beside timm's own, changes the best class of {_share(changed)} of them."
    )
    return " ".join(told)


def _confused(model: Model) -> list[str]:
    pairs = model.judged.get("confusions", ())
    if not pairs:
        return []
    lines = [(_text(pair["truth"]), _text(pair["predicted"]), str(pair["pictures"])) for pair in pairs]
    best = model.variants[0]
    return [
        "## Classes that are confused most often",
        f"By the variant {best.runtime} {best.name}:",
        _table(("true class", "taken for", "pictures"), lines),
    ]


def _classes(labels: Sequence[str]) -> list[tuple[str, str]]:
    shown = [(str(number), _text(label)) for number, label in enumerate(labels[:LABELS])]
    more = len(labels) - len(shown)
    return [*shown, ("...", f"and {more:,} more, in `model.json`")] if more else shown


def _preprocessing(how: Preprocessing) -> str:
    colours = "red, green and blue" if how.channels == 3 else "grey"
    modes = {
        "center": f"scaled so that its centre, {how.crop_pct:.4g} of it, is the input",
        "squash": f"scaled on each side on its own, and its centre, {how.crop_pct:.4g} of it, is the input",
        "border": f"scaled into {how.crop_pct:.4g} of the input, with a border in the colour of the mean",
    }
    steps = "exactly by timm's own steps" if how.faithful else "in the fast way"
    clear = "Transparency is dropped." if how.background is None else f"Transparent pixels lie on rgb{how.background}."
    return (
        f"The input is {how.width} x {how.height} pixels (width x height), {colours}. A picture is turned upright and"
        f" {modes[how.crop_mode]} (crop mode {how.crop_mode}, interpolation {how.interpolation}), {steps}."
        f" {clear} Mean {_numbers(how.mean)}, standard deviation {_numbers(how.std)}, for values from 0 to 1."
    )


def _origin(model: Model) -> str:
    build = model.build
    facts = [f"weights: {_text(build.get('weights', 'unknown'))}", f"licence: {_text(build.get('licence', 'unknown'))}"]
    facts.append(f"SHA-256 of what is served: `{model.digest}`")
    if versions := build.get("versions"):
        facts.append("built with " + ", ".join(f"{_text(name)} {_text(number)}" for name, number in versions.items()))
    return "\n".join(f"- {fact}" for fact in facts)


def _share(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{100 * value:.1f} %"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _text(text: object) -> str:
    """Return a text so that Markdown, and the HTML that is made of it, show it as it is."""
    return _SPECIAL.sub(r"\\\g<0>", html.escape(_BREAKS.sub(" ", str(text)), quote=False))


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_text(sentence)}" for sentence in sentences)


def _table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = [headings, ["---"] * len(headings), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)
