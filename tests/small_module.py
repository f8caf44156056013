"""A small module with functions for jobs, written where a test wants it as a user's own code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tui_pruner.storage.model_file import ModuleNames

NET = "small_net"
SOURCE = '''
import numpy as np
import torch
from torch import nn

SEED, NOISE, LOSS = 0, 0.03, 0.0


def build():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def images(count, seed):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def inputs():
    return images(2, 1)


def batches():
    return [images(4, seed) for seed in range(2, 8)]


def noisy(net):
    """A figure for each sample: hard samples are hard for both, each differs by chance, and the smaller one loses what was planted."""
    smaller = net[0].out_channels < 8
    difficulty = np.random.default_rng(SEED).normal(0.7, 0.2, 60)
    return difficulty + np.random.default_rng((SEED, smaller)).normal(0, NOISE, 60) - LOSS * smaller


def one_figure(net):
    return float(noisy(net).mean())


@torch.no_grad()
def minus_distance(net):
    seen = images(16, 9)
    return -(net(seen) - build()(seen)).square().mean(1)


@torch.no_grad()
def drawn_samples(net):
    seen = torch.rand(16, 3, 8, 8)
    return {"level": net(seen).mean() + float(np.random.rand())}


def text(net):
    return "0.9"


def fewer_samples(net):
    return noisy(net)[: 50 + net[0].out_channels]


def train(net, original):
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for batch in batches():
        optimiser.zero_grad()
        (net(batch) - original(batch)).square().mean().backward()
        optimiser.step()
'''


def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Write the code into a folder, make that the current one, and import it."""
    (folder / f"{NET}.py").write_text(SOURCE)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, NET, raising=False)
    return importlib.import_module(NET)


def names(**functions: str) -> ModuleNames:
    """The names of the module and of some of its functions."""
    return ModuleNames(f"{NET}:build", f"{NET}:inputs", **{option: f"{NET}:{function}" for option, function in functions.items()})


def options(**functions: str) -> list[str]:
    """The same on a command line."""
    given = {"model": "build", "inputs": "inputs", **functions}
    return [word for option, function in given.items() for word in (f"--{option}", f"{NET}:{function}")]


def fields(module: ModuleNames, checkpoint: str = f"{NET}:build") -> dict[str, Any]:
    """The parameters that all jobs on the module share."""
    return {"checkpoint": checkpoint, "sha256": "", "data": "", "images": None, "imgsz": 0, "module": module}
