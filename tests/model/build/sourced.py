"""Networks as owners save them, and what loading them gives."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from model.build.errors import BuildError
from model.build.sources import Source, load
from tests.model.build.told import Told


def trained(name: str = "test_resnet", **arguments: Any) -> torch.nn.Module:
    """A network whose every tensor is random, as after training: fresh ones have many zeros and ones."""
    network: torch.nn.Module = timm.create_model(name, **{"num_classes": 3, **arguments}).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.01)
    return network


def same(source: Source, network: torch.nn.Module) -> bool:
    """Whether a source's network, and the one that a worker makes from its record, compute what ``network`` does."""
    arguments = json.loads(json.dumps(source.arguments))
    again = timm.create_model(source.architecture, **arguments).eval()
    again.load_state_dict(source.network.state_dict())
    picture = torch.randn(1, arguments["in_chans"], 96, 96)
    with torch.inference_mode():
        wanted = network(picture)
        return all(torch.equal(one(picture), wanted) for one in (source.network, again))


def loaded(source: Path | str, **options: Any) -> Source:
    return load(str(source), **{"progress": Told(), **options})


def refusal(source: Path | str, **options: Any) -> str:
    with pytest.raises(BuildError) as raised:
        loaded(source, **options)
    return str(raised.value)


def saved(network: torch.nn.Module, file: Path) -> Path:
    torch.save(network.state_dict(), file)
    return file
