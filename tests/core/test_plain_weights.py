"""Weights that hooks of `torch.nn.utils` compute before each forward: such a file opens and computes the same with plain ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from tests.bad_files import DIGITS
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.size_check import smallest_removal
from tui_pruner.domain.errors import CheckpointError, UntrustedError
from tui_pruner.frameworks.ultralytics import read_checkpoint, write_checkpoint
from tui_pruner.frameworks.ultralytics.security.model_scan import make_plain

FIRST = ("model.1.conv", "model.5.conv")


def saved(path: Path, change: Callable[[nn.Module], Any], layers: tuple[str, ...] = FIRST) -> tuple[Path, nn.Module]:
    """The demo checkpoint with something done to some of its convolutions, and its model."""
    dictionary = torch.load(DIGITS, map_location="cpu", weights_only=False)
    model = dictionary["model"].float()
    for layer in layers:
        change(model.get_submodule(layer))
    torch.save(dictionary, path)
    return path, model


def by_length(layer: nn.Module) -> None:
    prune.ln_structured(layer, "weight", 0.5, 2, 0)


def twice(layer: nn.Module) -> None:
    by_length(layer)
    prune.l1_unstructured(layer, "weight", 0.3)


WAYS: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "rows": (by_length, "carry masks that torch.nn.utils.prune left"),
    "twice": (twice, "carry masks that torch.nn.utils.prune left"),
    "at random": (lambda layer: prune.random_unstructured(layer, "weight", 0.4), "torch.nn.utils.prune.remove(module, 'weight')"),
    "rows at random": (lambda layer: prune.random_structured(layer, "weight", 0.4, 1), "torch.nn.utils.prune.remove(module, 'weight')"),
    "a mask": (lambda layer: prune.custom_from_mask(layer, "weight", torch.ones_like(layer.weight)), "masks"),
    "none at all": (lambda layer: prune.identity(layer, "weight"), "masks"),
    "weight_norm": (weight_norm, "have their weights computed by weight_norm (model.1.conv, model.5.conv)"),
}


@pytest.mark.parametrize("way", WAYS)
def test_file_with_computed_weights_opens_and_computes_the_same_with_plain_ones(way: str, tmp_path: Path) -> None:
    change, words = WAYS[way]
    path, model = saved(tmp_path / "model.pt", change)
    checkpoint = read_checkpoint(path)
    (warning,) = (warning for warning in checkpoint.warnings if "made permanent" in warning)
    assert words in warning and "model.1.conv" in warning
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = model.eval()(image)[0], checkpoint.model(image)[0]
    assert torch.allclose(found, expected, atol=1e-5)
    assert checkpoint.model.state_dict().keys() == read_checkpoint(DIGITS).model.state_dict().keys()
    assert not any(module._forward_pre_hooks for module in checkpoint.model.modules())


def test_masked_rows_are_zero(tmp_path: Path) -> None:
    path, model = saved(tmp_path / "model.pt", by_length)
    analysis = analyse(read_checkpoint(path))
    rows = analysis.checkpoint.model.get_submodule("model.5.conv").weight.flatten(1).abs().sum(1)
    mask = model.get_submodule("model.5.conv").weight_mask[:, 0, 0, 0]
    assert int((rows == 0).sum()) == len(rows) // 2 == int((mask == 0).sum())
    assert torch.equal(rows == 0, mask == 0)


def test_stock_ultralytics_predicts_with_a_file_written_from_a_masked_one(tmp_path: Path) -> None:
    path, _ = saved(tmp_path / "model.pt", by_length)
    analysis = analyse(read_checkpoint(path))
    removal = smallest_removal(analysis.coupling, analysis.coupling.output_groups("model.5.conv"))
    pruned = cut(analysis.checkpoint.model, analysis.coupling, removal)
    proof = prove(analysis.checkpoint.model, pruned, analysis.coupling, removal)
    assert proof.equal and proof.effect > 1e-4
    plan: dict[str, Any] = {"format": 1, "steps": []}
    kept = removal.kept(analysis.coupling)
    write_checkpoint(pruned, analysis.checkpoint, tmp_path / "pruned.pt", plan=plan, kept=kept, proof={"equal": True})
    program = tmp_path / "stock_process.py"
    program.write_text(
        "import sys, torch; from ultralytics import YOLO; print(len(YOLO(sys.argv[1]).predict(torch.zeros(2, 3, 64, 64), verbose=False)))"
    )
    stock = subprocess.run([sys.executable, "-I", str(program), str(tmp_path / "pruned.pt")], capture_output=True, text=True)
    assert stock.stdout.splitlines()[-1:] == ["2"], stock


def test_every_masked_tensor_is_named(tmp_path: Path) -> None:
    def both(layer: nn.Module) -> None:
        prune.l1_unstructured(layer, "weight", 0.3)
        prune.l1_unstructured(layer, "bias", 0.3)

    path, _ = saved(tmp_path / "model.pt", both, ("model.22.cv2.0.2",))
    (warning,) = (warning for warning in read_checkpoint(path).warnings if "masks" in warning)
    assert warning == (
        "1 layer carries masks that torch.nn.utils.prune left (model.22.cv2.0.2): made permanent here and in what is written, as "
        "torch.nn.utils.prune.remove(module, 'weight') and torch.nn.utils.prune.remove(module, 'bias') does before saving"
    )


def test_many_layers_with_hooks_are_counted_and_the_first_ones_named() -> None:
    net = nn.Sequential(*(spectral_norm(nn.Conv2d(4, 4, 1)) for _ in range(5))).eval()
    image = torch.rand(2, 4, 3, 3)
    before = net(image)
    assert make_plain(net) == (
        "5 layers have their weights computed by spectral_norm (0, 1, 2, ...): made permanent here and in what is written, as "
        "torch.nn.utils.remove_spectral_norm(module, 'weight') does before saving",
    )
    assert not any(module._forward_pre_hooks or module._state_dict_hooks for module in net.modules())
    assert torch.allclose(net(image), before, atol=1e-6)
    assert make_plain(net) == ()


def test_mask_function_of_a_hostile_hook_is_never_called(tmp_path: Path) -> None:
    def hostile(layer: nn.Module) -> None:
        by_length(layer)
        (hook,) = layer._forward_pre_hooks.values()
        hook.apply_mask = nn.Conv2d

    path, _ = saved(tmp_path / "model.pt", hostile)
    with pytest.raises(UntrustedError, match=r"has a hook in model\.1\.conv, which no stock Ultralytics model has"):
        read_checkpoint(path)


def test_hook_of_another_kind_is_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path / "model.pt", lambda layer: layer.register_forward_pre_hook(nn.Identity()))
    with pytest.raises(UntrustedError, match="has a hook"):
        read_checkpoint(path)


def test_mask_of_another_shape_is_reported_as_damage(tmp_path: Path) -> None:
    def crooked(layer: nn.Module) -> None:
        by_length(layer)
        layer.weight_mask = torch.ones(5)

    path, _ = saved(tmp_path / "model.pt", crooked)
    with pytest.raises(CheckpointError, match=r"model\.pt holds no model as Ultralytics saves it"):
        read_checkpoint(path)
