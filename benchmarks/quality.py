"""`python -m benchmarks.quality`: the same checkpoint, the same operations left, the same training; torch-pruning's pruner and ours.

Everything that chooses (the scan, the best of their recipes) looks at training images only; the validation images judge.
Half an hour for each share on two cores; writes `docs/quality.md`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer

from benchmarks.peer import operations, pruned, recipes, unfolded
from tests.bench.report import machine
from tui_pruner.core.analysis import Analysis, analyse
from tui_pruner.core.budget.planning import Planner
from tui_pruner.core.budget.targets import Target
from tui_pruner.core.checkpoint import open_model
from tui_pruner.core.session import Session
from tui_pruner.core.surgery import cut
from tui_pruner.engine.job_messages import RecalibrationParameters, ScanParameters, ValidationParameters
from tui_pruner.jobs.dataset import TRAINING, read_data
from tui_pruner.jobs.recalibrate import recalibrated
from tui_pruner.jobs.scan import run_scan
from tui_pruner.jobs.scan_lookup import known_sensitivity
from tui_pruner.jobs.validate import measure

ROOT = Path(__file__).parent.parent
METRIC = "metrics/mAP50-95(B)"
CHOOSING, UNLABELLED = 64, 256
STAGES = ("after the cut", "recalibrated", "fine-tuned")
Figures = dict[str, Any]


class Keeps(DetectionTrainer):  # type: ignore[misc]
    """Ultralytics' trainer on a network at hand."""

    network: nn.Module

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """The network itself."""
        return copy.deepcopy(self.network)


class Bench:
    """The checkpoint, its data, and how everything is measured."""

    def __init__(self, model: str, data: str, epochs: int, folder: Path) -> None:
        self.data, self.epochs, self.folder = data, epochs, folder
        self.checkpoint = open_model(model)
        self.imgsz = self.checkpoint.default_imgsz
        self.image = torch.rand(1, 3, self.imgsz, self.imgsz)
        self.training = folder / "training.yaml"
        content = yaml.safe_load(Path(data).read_text())
        root = str(Path(data).absolute().parent)
        self.training.write_text(yaml.safe_dump({**content, "path": root, "val": content["train"]}))
        self.all_images = folder / "all.yaml"
        self.all_images.write_text(yaml.safe_dump({**content, "path": root}))

    @property
    def subject(self) -> dict[str, Any]:
        """The fields that all jobs share."""
        return {"checkpoint": self.checkpoint.path, "sha256": self.checkpoint.sha256, "imgsz": self.imgsz, "device": "cpu"}

    def metric(self, model: nn.Module, choosing: bool = False) -> float:
        """mAP50-95 on all validation images, or on some training images where it chooses."""
        images = CHOOSING if choosing else None
        wanted = ValidationParameters(data=str(self.training if choosing else self.all_images), images=images, **self.subject)
        data = read_data(wanted.data).subset(images, wanted.seed)
        return measure(model, data, wanted, lambda _: None).metrics[METRIC]

    def recalibrated(self, model: nn.Module) -> nn.Module:
        """With normalisation measured again on training images."""
        wanted = RecalibrationParameters(data=str(self.all_images), images=UNLABELLED, output="", **self.subject)
        data = read_data(wanted.data, TRAINING).subset(wanted.images, wanted.seed)
        return recalibrated(model, data, wanted, lambda _: None).model

    def finetuned(self, model: nn.Module, seed: int) -> float:
        """The metric of the best epoch's weights."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            trainer = Keeps(
                overrides={
                    "model": "kept.yaml", "data": str(self.all_images), "epochs": self.epochs, "imgsz": self.imgsz, "batch": 16,
                    "device": "cpu", "workers": 0, "seed": seed, "project": folder, "plots": False, "verbose": False,
                }
            )  # fmt: skip
            trainer.network = copy.deepcopy(model).train()
            for parameter in trainer.network.parameters():
                parameter.requires_grad_(True)
            trainer.model = trainer.network
            trainer.train()
            weights = torch.load(trainer.best, map_location="cpu", weights_only=False)
        return self.metric((weights.get("ema") or weights["model"]).float().eval())


def ours(bench: Bench, shares: Sequence[float]) -> dict[float, tuple[nn.Module, str]]:
    """Models cut by a scan of training images to each share of the operations."""
    analysis = analyse(bench.checkpoint, bench.imgsz)
    wanted = ScanParameters(data=str(bench.training), images=CHOOSING, **bench.subject)
    run_scan(wanted, lambda _: None)
    scan = known_sensitivity(analysis, wanted)
    assert scan is not None
    return {share: (planned(analysis, share, scan), f"scan of {CHOOSING} images") for share in shares}


def planned(analysis: Analysis, share: float, scan: Any) -> nn.Module:
    """The cut that a plan for a share of the operations makes."""
    session = Session(analysis)
    planner = Planner(analysis, session.removal)
    found = planner.plan([Target("flops", share=share)], "l2", planner.priced_by(scan, "l2"))
    if found.step is None:
        raise SystemExit(found.stopped)
    session.load(session.plan.model_copy(update={"steps": [found.step]}).plain())
    return cut(analysis.checkpoint.model, analysis.coupling, session.removal)


def theirs(bench: Bench, shares: Sequence[float], tell: Any) -> dict[float, tuple[nn.Module, str]]:
    """The best of their recipes for each share, by what recalibrated models find on training images."""
    model = unfolded(bench.checkpoint.model)
    gradients(bench, model)
    best: dict[float, tuple[nn.Module, str]] = {}
    for share in shares:
        marks: dict[str, float] = {}
        for recipe in recipes():
            found = pruned(model, bench.image, recipe, share)
            if found is None or abs(found[1] - share) > 0.015:
                tell(f"torch-pruning {share:.0%} {recipe.words}: does not come to it")
                continue
            marks[recipe.words] = bench.metric(bench.recalibrated(found[0]), choosing=True)
            tell(f"torch-pruning {share:.0%} {recipe.words}: {found[1]:.3f} left, {marks[recipe.words]:.3f} on training images")
            if marks[recipe.words] == max(marks.values()):
                best[share] = found[0], recipe.words
    return best


def gradients(bench: Bench, model: nn.Module) -> None:
    """Give a model the gradients of the loss on training images, for their Taylor criterion."""
    trainer = Keeps(
        overrides={"model": "kept.yaml", "data": str(bench.all_images), "imgsz": bench.imgsz, "device": "cpu", "plots": False,
                   "project": str(bench.folder), "name": "gradients", "exist_ok": True}
    )  # fmt: skip
    trainer.model = trainer.network = model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    trainer.set_model_attributes()
    images = read_data(bench.all_images, TRAINING).subset(CHOOSING, 0).images
    loader = trainer.get_dataloader(str(images[0].parent), batch_size=16, rank=-1, mode="val")
    for batch, _ in zip(loader, range(CHOOSING // 16), strict=False):
        loss, _ = model(trainer.preprocess_batch(batch))
        loss.sum().backward()
    model.eval()


def figures(bench: Bench, model: nn.Module, seeds: Sequence[int], tell: Any, name: str) -> Figures:
    """One model at its three stages."""
    again = bench.recalibrated(model)
    found: Figures = {
        "left": operations(model, bench.image) / operations(bench.checkpoint.model, bench.image),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "after the cut": bench.metric(model),
        "recalibrated": bench.metric(again),
        "fine-tuned": [],
    }
    for seed in seeds:
        found["fine-tuned"].append(bench.finetuned(again, seed))
        tell(f"{name}: {found}")
    return found


def document(original: float, rows: Mapping[str, Figures], epochs: int, seeds: int) -> str:
    """The page."""
    lines = [
        "# The same size, the same training: torch-pruning's pruner and ours",
        "",
        f"`python -m benchmarks.quality` on the bundled checkpoint (YOLOv8n on digits, mAP50-95 {original:.3f} on all validation images).",
        f"Operations are counted by torch-pruning for both. Fine-tuning is Ultralytics' trainer for {epochs} epochs from the recalibrated",
        f"model, {seeds} seeds: mean and range. What chooses (our scan, the best of their {len(list(recipes()))} recipes) saw training",
        "images only. Theirs: MetaPruner with C2f unfolded as in its YOLOv8 example, criterion, sharing and head as named.",
        "",
        f"| operations left | by | parameters | {' | '.join(STAGES)} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        tuned = row["fine-tuned"]
        spread = f"{statistics.mean(tuned):.3f} ({min(tuned):.3f} to {max(tuned):.3f})"
        stages = f"{row['after the cut']:.3f} | {row['recalibrated']:.3f} | {spread}"
        lines.append(f"| {row['left']:.1%} | {name} | {row['parameters'] / 1e6:.2f}M | {stages} |")
    return "\n".join([*lines, "", machine(), ""])


def main() -> None:
    """Compare, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=str(ROOT / "assets/demo/digits.pt"))
    parser.add_argument("--data", default=str(ROOT / "assets/demo/digits.yaml"))
    parser.add_argument("--shares", type=float, nargs="+", default=[0.7, 0.5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs/quality.md")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(wanted.model, wanted.data, wanted.epochs, Path(folder))
        original = bench.metric(bench.checkpoint.model)
        found = {"tui-pruner": ours(bench, wanted.shares), "torch-pruning": theirs(bench, wanted.shares, tell)}
        rows: dict[str, Figures] = {}
        for share in wanted.shares:
            for program, models in found.items():
                if share in models:
                    model, how = models[share]
                    rows[f"{program} ({how}), {share:.0%}"] = figures(bench, model, range(wanted.seeds), tell, f"{program} {share:.0%}")
    wanted.output.write_text(document(original, rows, wanted.epochs, wanted.seeds))
    print(wanted.output.read_text())


def tell(text: str) -> None:
    """A line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
