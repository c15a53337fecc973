"""``python -m benchmarks.training FOLDER OUTPUT``: train a timm network from scratch on folders of pictures.

It writes what timm's own ``train.py`` writes, with timm's own ``CheckpointSaver``: ``last.pth.tar`` and
``model_best.pth.tar``. A fifth of the pictures are held out and measure the network.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model import libraries

try:
    import timm
    import torch
    from timm.data import create_transform, resolve_data_config
    from timm.data.readers.reader_image_folder import find_images_and_targets
    from timm.optim import create_optimizer_v2
    from timm.utils import CheckpointSaver, ModelEmaV3
    from torch.optim.swa_utils import update_bn
except ModuleNotFoundError as error:
    raise SystemExit(libraries.missing() or str(error)) from error

ARCHITECTURE = "resnet10t"
HELD_OUT = 5
"""Of so many pictures one is held out."""
STATISTICS = 20
"""The statistics of batch normalisation are measured with so many batches."""

Told = Callable[[float, str], None]
"""Is told the share of the time that is over, and a word about the training."""
Transform = Callable[[Image.Image], torch.Tensor]


def _nobody(share: float, word: str) -> None:  # noqa: ARG001
    return None


@dataclass(frozen=True, slots=True)
class Trained:
    """A network that was trained, and how it did on the pictures that it has never seen."""

    checkpoint: Path
    """The file, as timm's ``train.py`` writes it."""
    classes: tuple[str, ...]
    """The names of the folders, by class number."""
    top1: float
    """Share of the pictures held out that it names rightly, 0 to 1."""
    held_out: int
    """How many pictures were held out."""


class _Pictures:
    """Pictures in memory, somewhat larger than the network's input, and their classes."""

    def __init__(self, files: list[tuple[str, int]], size: int) -> None:
        self._images = [_small(Path(file), 3 * size // 2) for file, _ in files]
        self._classes = torch.tensor([number for _, number in files])

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, numbers: list[int], transform: Transform) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.stack([transform(self._images[number]) for number in numbers])
        return images.contiguous(memory_format=torch.channels_last), self._classes[numbers]


def _small(file: Path, side: int) -> Image.Image:
    with Image.open(file) as image:
        image.draft("RGB", (side, side))
        image.thumbnail((2 * side, 2 * side))
        return image.convert("RGB")


def train(
    folder: Path,
    output: Path,
    architecture: str = ARCHITECTURE,
    *,
    seconds: float = 60.0,
    steps: int | None = None,
    size: int | None = None,
    ema: bool = False,
    seed: int = 0,
    told: Told = _nobody,
) -> Trained:
    """Train a network on the class folders in ``folder``, and write its checkpoint into ``output``.

    It is trained for so many ``seconds``, or for so many ``steps`` of 32 pictures if they are given. ``size`` is the
    side of the network's input in pixels; None takes timm's own. Every fifth picture is held out.
    """
    torch.manual_seed(seed)
    files, numbers = find_images_and_targets(str(folder))
    args = _arguments(architecture, len(numbers), folder, size, ema, seed)
    network = timm.create_model(architecture, num_classes=args.num_classes).to(memory_format=torch.channels_last)
    how = resolve_data_config(vars(args), model=network)
    args.mean, args.std, args.crop_pct, args.interpolation = (
        how[name] for name in ("mean", "std", "crop_pct", "interpolation")
    )
    held_out = _Pictures(files[::HELD_OUT], how["input_size"][-1])
    learned = _Pictures([file for place, file in enumerate(files) if place % HELD_OUT], how["input_size"][-1])
    optimizer = create_optimizer_v2(network, opt=args.opt, lr=args.lr, weight_decay=args.weight_decay)
    averaged = ModelEmaV3(network, decay=args.model_ema_decay, use_warmup=True) if ema else None
    augment = create_transform(**how, is_training=True, scale=args.scale, color_jitter=args.color_jitter)
    done = _learn(network, optimizer, averaged, learned, augment, args, _clock(seconds, steps), told)
    networks = [network] if averaged is None else [network, averaged.module]
    for one in networks:
        _settle(one, learned, augment, args.batch_size)
    top1 = _measure(networks[-1], held_out, create_transform(**how), args.batch_size)
    output.mkdir(parents=True, exist_ok=True)
    saver = CheckpointSaver(network, optimizer, args, averaged, checkpoint_dir=str(output), recovery_dir=str(output))
    saver.save_checkpoint(epoch=done * args.batch_size // len(learned), metric=100 * top1)
    classes = tuple(sorted(numbers, key=numbers.__getitem__))
    return Trained(output / "model_best.pth.tar", classes, top1, len(held_out))


def _arguments(
    architecture: str, classes: int, folder: Path, size: int | None, ema: bool, seed: int
) -> argparse.Namespace:
    """What timm's ``train.py`` would have been told, in its own words: it becomes the checkpoint's ``args``."""
    return argparse.Namespace(
        data_dir=str(folder),
        model=architecture,
        model_kwargs={},
        pretrained=False,
        num_classes=classes,
        img_size=size,
        in_chans=None,
        input_size=None,
        batch_size=32,
        opt="adamw",
        lr=0.003,
        weight_decay=0.02,
        clip_grad=2.0,
        scale=[0.5, 1.0],
        color_jitter=0.3,
        smoothing=0.1,
        mixup=0.0,
        channels_last=True,
        model_ema=ema,
        model_ema_decay=0.99,
        seed=seed,
    )


def _clock(seconds: float, steps: int | None) -> Callable[[int], float]:
    """Return a function from the number of steps that are done to the share of the training that is over."""
    if steps is not None:
        return lambda step: step / steps
    start = time.monotonic()
    return lambda _: (time.monotonic() - start) / seconds


def _learn(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: ModelEmaV3 | None,
    pictures: _Pictures,
    augment: Transform,
    args: argparse.Namespace,
    clock: Callable[[int], float],
    told: Told,
) -> int:
    """Train until the clock shows 1; return the number of steps."""
    network.train()
    step = 0
    order: list[int] = []
    while (share := clock(step)) < 1 or not step:
        if len(order) < args.batch_size:
            order += torch.randperm(len(pictures)).tolist()
        images, classes = pictures.batch(order[: args.batch_size], augment)
        del order[: args.batch_size]
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, 10 * share) * (1 + math.cos(math.pi * min(share, 1))) / 2
        loss = torch.nn.functional.cross_entropy(network(images), classes, label_smoothing=args.smoothing)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), args.clip_grad)
        optimizer.step()
        step += 1
        if ema is not None:
            ema.update(network, step)
        told(min(share, 1), f"loss {loss.item():.2f}")
    return step


def _settle(network: torch.nn.Module, pictures: _Pictures, augment: Transform, size: int) -> None:
    """Measure the statistics of batch normalisation anew: averages over so short a training lag behind the weights."""
    batches = torch.randperm(len(pictures)).split(size)[:STATISTICS]
    update_bn((pictures.batch(batch.tolist(), augment)[0] for batch in batches if len(batch) > 1), network)


def _measure(network: torch.nn.Module, pictures: _Pictures, transform: Transform, size: int) -> float:
    network.eval()
    right = 0
    with torch.inference_mode():
        for batch in torch.arange(len(pictures)).split(size):
            images, classes = pictures.batch(batch.tolist(), transform)
            right += int((network(images).argmax(dim=1) == classes).sum())
    return right / len(pictures)


def main() -> None:
    """Train, show how far it is, and print how well the network does."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description="Train a timm network from scratch on folders of pictures."
    )
    parser.add_argument("folder", type=Path, help="the pictures, in a folder for each class")
    parser.add_argument("output", type=Path, help="where the checkpoint is written")
    parser.add_argument("--architecture", default=ARCHITECTURE, metavar="NAME", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to train (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="train for so many steps of 32 pictures, however long it takes")
    parser.add_argument("--size", type=int, default=64, help="side of the input in pixels (default: %(default)s)")
    parser.add_argument("--ema", action="store_true", help="also average the weights, as train.py --model-ema does")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading the pictures", total=1.0)
        trained = train(
            options.folder,
            options.output,
            options.architecture,
            seconds=options.seconds,
            steps=options.steps,
            size=options.size,
            ema=options.ema,
            seed=options.seed,
            told=lambda share, word: progress.update(task, completed=share, description=f"training, {word}"),
        )
    print(f"classes: {', '.join(trained.classes)}")
    print(f"top-1 on {trained.held_out} pictures held out: {trained.top1:.1%}")
    print(f"checkpoint: {trained.checkpoint}")


if __name__ == "__main__":
    main()
