"""Wrappers of a training are removed, and the used image size is reported where the training had several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tui_pruner.domain.errors import UntrustedError
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.storage.trust import VARIABLE, fingerprint, trust


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")


Wrap = Callable[[nn.Module], nn.Module]


def in_data_parallel(model: nn.Module) -> nn.Module:
    return nn.DataParallel(model)


def averaged(model: nn.Module) -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(model)


def compiled(model: nn.Module) -> nn.Module:
    wrapped: Any = torch.compile(model, backend="eager")
    return wrapped  # type: ignore[no-any-return]


def distributed(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return nn.parallel.DistributedDataParallel(model)


@pytest.mark.parametrize(
    ("wrap", "trusted"),
    [(in_data_parallel, False), (averaged, False), (compiled, True), (distributed, True), (lambda m: compiled(in_data_parallel(m)), True)],
    ids=["DataParallel", "AveragedModel", "torch.compile", "DistributedDataParallel", "DataParallel, compiled"],
)
def test_training_wrappers_around_a_model_are_removed(wrap: Wrap, trusted: bool, demo_checkpoint: Path, tmp_path: Path):
    content = torch.load(demo_checkpoint, map_location="cpu", weights_only=False)
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        torch.save({**content, "model": wrap(content["model"].float()), "ema": None}, tmp_path / "wrapped.pt")
    finally:
        torch.distributed.destroy_process_group()
    if trusted:
        with pytest.raises(UntrustedError, match="--trust"):
            read_checkpoint(tmp_path / "wrapped.pt")
        trust([fingerprint(tmp_path / "wrapped.pt")])
    checkpoint, plain = read_checkpoint(tmp_path / "wrapped.pt"), read_checkpoint(demo_checkpoint)
    assert type(checkpoint.model) is type(plain.model) and checkpoint.trusted is trusted
    assert checkpoint.own_names == () and checkpoint.unwritable == ""
    weights = checkpoint.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in plain.model.state_dict().items())


@pytest.mark.parametrize(
    ("given", "side", "said"),
    [
        ([96, 160], 160, "trained with image sides [96, 160]: 160 is used"),
        ("96", 96, "records '96' as the side of its images: 96 is used"),
        (None, 640, "records None as the side of its images: 640 is used"),
        (160, 160, ""),
    ],
)
def test_image_size_used_is_reported_if_the_training_had_several(given: Any, side: int, said: str, demo_checkpoint: Path, tmp_path: Path):
    content = torch.load(demo_checkpoint, map_location="cpu", weights_only=False)
    torch.save({**content, "train_args": {**content["train_args"], "imgsz": given}}, tmp_path / "sides.pt")
    checkpoint = read_checkpoint(tmp_path / "sides.pt")
    assert checkpoint.default_imgsz == side
    assert any(said in line for line in checkpoint.warnings) if said else checkpoint.warnings == ()
