"""``tierserve model``: ``build`` makes models, ``list`` shows those of a folder, ``tag`` names a version."""

import argparse
import logging
import os
import signal
import warnings
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from model.build import report, versions
from model.build.builder import DEFAULT_MODELS, build
from model.build.errors import BuildError
from model.build.request import PICTURES, REQUIRABLE, Request
from model.build.terminal import Terminal
from model.description import Model, ModelError

INTERRUPTED = 130
_HERE = Path(os.environ.get("TIERSERVE_MODELS", ".tierserve/models"))


class _Shown:
    """Shows what a build does: a line for each step, with a bar where its length is known, and warnings at once."""

    def __init__(self, shown: Progress, terminal: Terminal) -> None:
        self._shown, self._terminal = shown, terminal

    def step(self, sentence: str, total: int | None = None) -> None:
        self.finish()
        self._task = self._shown.add_task(self._terminal.cell(sentence).plain, total=total)

    def advance(self, count: int = 1) -> None:
        self._shown.advance(self._task, count)

    def warn(self, sentence: str) -> None:
        self._terminal.line(sentence, "warning: ", "yellow")

    def finish(self) -> None:
        """Mark all steps as done."""
        for task in self._shown.tasks:
            self._shown.update(task.id, total=task.total or 1, completed=task.total or 1)


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``build``, ``list`` and ``tag``; each sets ``run``, a function from the options to an exit status."""
    builder = commands.add_parser(
        "build",
        help="make a model from a checkpoint or from timm, compared with timm itself",
        description="Make a model: read its weights, export them to ONNX, quantise them, compare every variant with "
        "timm itself, and write a folder that workers can serve.",
    )
    builder.set_defaults(run=_build)
    builder.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="a file of weights (.pth, .pt, .pth.tar, .safetensors), a folder or a .zip as timm's hub has it, "
        "hf-hub:OWNER/NAME, or a timm name with packaged weights (default: the two models that values.yaml uses)",
    )
    builder.add_argument("--name", help="what the model is called (default: as its source)")
    builder.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the classes: a line each, a JSON list or map, or a class map",
    )
    builder.add_argument(
        "--data", type=Path, metavar="FOLDER", help="your pictures, in a folder for each class, or all in one"
    )
    builder.add_argument(
        "--pictures",
        type=int,
        default=PICTURES,
        metavar="N",
        help="use so many pictures of --data at most (default: %(default)s)",
    )
    _add_folder(builder, "--output")
    builder.add_argument("--architecture", metavar="NAME", help="timm's name of the network, if SOURCE does not tell")
    builder.add_argument("--use-ema", action="store_true", help="take the averaged weights (EMA) of a checkpoint")
    builder.add_argument("--mean", type=float, nargs="+", metavar="X", help="mean of each channel, 0 to 1")
    builder.add_argument("--std", type=float, nargs="+", metavar="X", help="standard deviation of each channel, 0 to 1")
    builder.add_argument("--input-size", type=int, nargs=3, metavar=("C", "H", "W"), help="channels, height and width")
    builder.add_argument("--crop-pct", type=float, metavar="X", help="the input's share of the scaled picture")
    builder.add_argument("--crop-mode", choices=("center", "squash", "border"))
    builder.add_argument("--interpolation", choices=("nearest", "bilinear", "bicubic", "lanczos"))
    builder.add_argument(
        "--background", metavar="COLOUR", help="lay transparent pixels on it (default: drop transparency, as timm does)"
    )
    builder.add_argument(
        "--require",
        choices=REQUIRABLE,
        action="append",
        default=[],
        help="fail if this cannot be made, instead of leaving it out; may be repeated",
    )
    builder.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="also call it NAME@TAG; may be repeated"
    )
    lister = commands.add_parser("list", help="show the models of a folder")
    lister.set_defaults(run=_list)
    _add_folder(lister, "--models")
    tagger = commands.add_parser("tag", help="call a model NAME@TAG")
    tagger.set_defaults(run=_tag)
    tagger.add_argument("reference", metavar="NAME@VERSION", help="the model, also as NAME or NAME@TAG")
    tagger.add_argument("tag", metavar="TAG")
    _add_folder(tagger, "--models")


def _add_folder(parser: argparse.ArgumentParser, option: str) -> None:
    parser.add_argument(
        option,
        dest="models",
        type=Path,
        default=_HERE,
        metavar="DIR",
        help="the folder of the models (default: %(default)s)",
    )


def _build(options: argparse.Namespace) -> int:
    terminal = Terminal(stderr=True)
    if len(options.sources) != 1 and (one := _only_for_one(options)):
        terminal.line(": name one SOURCE", f"{one} is for one model")
        return 2
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # remarks of torch and timm about their own deprecations
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for source in options.sources or DEFAULT_MODELS:
        try:
            model = _shown_build(_request(options, source), options.models, terminal)
        except BuildError as error:
            terminal.line(f"{source}: {error}", "cannot build ")
            return 1
        except KeyboardInterrupt:
            terminal.line(f"stopped: nothing of {source} was kept")
            return INTERRUPTED
        _print_model(model, options.models)
    return 0


def _shown_build(request: Request, output: Path, terminal: Terminal) -> Model:
    columns = (
        SpinnerColumn("line" if terminal.console.options.ascii_only else "dots", finished_text="[green]done[/]"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=terminal.console) as progress:
        shown = _Shown(progress, terminal)
        model = build(request, output, shown)
        shown.finish()
    return model


def _request(options: argparse.Namespace, source: str) -> Request:
    names = ("mean", "std", "input_size", "crop_pct", "crop_mode", "interpolation", "background")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return Request(
        source,
        name=options.name,
        labels=options.labels,
        data=options.data,
        architecture=options.architecture,
        use_ema=options.use_ema,
        preprocessing=given,
        pictures=options.pictures,
        require=tuple(options.require),
        tags=tuple(options.tag),
    )


def _only_for_one(options: argparse.Namespace) -> str | None:
    """Return the first option that was given and does not suit several models."""
    for name in ("name", "labels", "data", "architecture", "tag"):
        if getattr(options, name):
            return f"--{name}"
    return None


def _print_model(model: Model, models: Path) -> None:
    terminal = Terminal()
    # As narrow as a terminal of 80 columns.
    table = Table(*report.HEADINGS, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for row in report.rows(model):
        table.add_row(*map(terminal.cell, row))
    terminal.table(table)
    terminal.line(f"{model.reference} is ready: {model.path}")
    command = report.serve_command(model)
    if models != _HERE:
        command = command.replace("make run", f"make run MODELS={models}", 1)
    terminal.line(f"serve it: {command}")


def _list(options: argparse.Namespace) -> int:
    terminal = Terminal()
    table = Table("model", "also called", "architecture", "classes", "variants", "top-1", "built from", box=SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    if not options.models.is_dir():
        Terminal(stderr=True).line(str(options.models), "there is no folder ")
        return 1
    for model, links in versions.listed(options.models):
        top1 = model.variants[0].measured.top1
        table.add_row(
            terminal.cell(model.reference),
            terminal.cell(", ".join(links)),
            terminal.cell(model.architecture),
            str(len(model.labels)),
            terminal.cell(", ".join(f"{variant.runtime} {variant.name}" for variant in model.variants)),
            "" if top1 is None else f"{top1:.1%}",
            terminal.cell(str(model.build.get("weights", ""))),
        )
    terminal.table(table)
    return 0


def _tag(options: argparse.Namespace) -> int:
    try:
        model = versions.tag(options.models, options.reference, options.tag)
    except (BuildError, ModelError, OSError) as error:
        Terminal(stderr=True).line(str(error), "cannot tag: ")
        return 1
    Terminal().line(f"{model.name}@{options.tag} is {model.reference}")
    return 0
