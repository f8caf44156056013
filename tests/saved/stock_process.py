"""A pruned file used by stock Ultralytics alone: load, predict, export, train(), fine-tune, load again.

Run as `python -I stock_process.py REQUEST`; REQUEST is a JSON file {file, expected, data, folder, side}. The last printed line is a JSON
document.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from scipy.optimize import linear_sum_assignment
from ultralytics import YOLO

sys.modules["tui_pruner"] = None  # type: ignore[assignment]

WRONG_OPTIMISATIONS = ["Pad_Fusion"]
"""onnxruntime moves zeros around an image into the max pooling behind, which pads with minus infinity; YOLOv3-tiny has that."""
TRAINING = {"epochs": 1, "batch": 4, "workers": 0, "plots": False, "device": "cpu", "seed": 0}


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors of a nested structure, in their order."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def difference(wanted: list[torch.Tensor], given: list[torch.Tensor]) -> float:
    """The largest difference of two lists of tensors of the same shapes, relative to the largest value of its tensor."""
    shapes = [tuple(one.shape) for one in wanted], [tuple(one.shape) for one in given]
    assert shapes[0] == shapes[1] and wanted, shapes
    each = [(one.float() - other.float()).abs().max() / one.float().abs().max() for one, other in zip(wanted, given)]
    return float(torch.stack(each).max())  # one that is not a number makes all none


def structure(file: str | Path) -> dict[str, list[int]]:
    """The shape of every parameter and buffer of a file's model."""
    return {name: list(tensor.shape) for name, tensor in YOLO(file).model.state_dict().items()}


def parameters(file: str | Path) -> int:
    """How many weights a file's model has."""
    return sum(parameter.numel() for parameter in YOLO(file).model.parameters())


def own_outputs(file: str | Path, image: torch.Tensor) -> list[torch.Tensor]:
    """What the file's model gives."""
    with torch.no_grad():
        return tensors(YOLO(file).model.float().eval()(image))


def export_difference(file: Path, side: int, wanted: dict[str, Any]) -> float:
    """How far what an export computes is from what the model in memory gave."""
    exported = YOLO(file).export(imgsz=side, **wanted["options"])
    given = RUN[Path(exported).suffix](exported, wanted["image"])
    if wanted["ranked"]:
        given = [in_order(*pair) if pair[0].ndim == 3 else pair[1] for pair in zip(wanted["outputs"], given, strict=True)]
    return difference(wanted["outputs"], given)


def in_order(wanted: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Ranked detections [1, n, figures] in the order of others: nearly equal scores may have changed places."""
    distances = torch.cdist(wanted[0], given[0], compute_mode="donot_use_mm_for_euclid_dist")
    return given[:, linear_sum_assignment(distances.numpy())[1]]


def run_torchscript(exported: str, image: torch.Tensor) -> list[torch.Tensor]:
    """What a TorchScript file gives."""
    with torch.no_grad():
        return tensors(torch.jit.load(exported)(image))


def run_onnx(exported: str, image: torch.Tensor) -> list[torch.Tensor]:
    """What onnxruntime computes from an ONNX file."""
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"], disabled_optimizers=WRONG_OPTIMISATIONS)
    return [torch.from_numpy(output) for output in session.run(None, {session.get_inputs()[0].name: image.numpy()})]


RUN = {".torchscript": run_torchscript, ".onnx": run_onnx}


def refusal(file: Path, data: str, folder: str, side: int) -> str:
    """What `train()` says."""
    try:
        YOLO(file).train(data=data, imgsz=side, project=folder, name="one-line", **TRAINING)
    except KeyError as error:
        return str(error)
    return "trained"


def trainer_named_in(sentence: str) -> Any:
    """The trainer that the refusal names as the way out."""
    module, name = re.search(r"from ([\w.]+) import (\w+)", sentence).groups()  # type: ignore[union-attr]
    return getattr(importlib.import_module(module), name)


def fine_tuned(trainer_class: Any, file: Path, data: str, folder: str, side: int) -> Any:
    """The three lines; the trainer after its training."""
    trainer = trainer_class(overrides={"model": str(file), "data": data, "imgsz": side, "project": folder, "name": "tuned", **TRAINING})
    trainer.model = YOLO(file).model
    trainer.train()
    return trainer


def moved(file: Path, tuned: Path) -> bool:
    """Whether training changed weights."""
    before, after = YOLO(file).model.float().state_dict(), YOLO(tuned).model.float().state_dict()
    return any(not torch.equal(before[name], after[name]) for name in before)


def predicted(file: Path, side: int) -> int:
    """How many results `predict` gives for one picture."""
    return len(YOLO(file).predict(np.full((side, side, 3), 114, np.uint8), imgsz=side, verbose=False))


def walk(file: Path, expected: str, data: str, folder: str, side: int) -> dict[str, Any]:
    """The whole walk."""
    wanted = torch.load(expected, weights_only=True)
    sentence = refusal(file, data, folder, side)
    return {
        "loaded_as": type(YOLO(file)).__name__,
        "predicted": predicted(file, side),
        "predict_difference": difference(wanted["outputs"], own_outputs(file, wanted["image"])),
        "export_differences": {name: export_difference(file, side, export) for name, export in wanted["exports"].items()},
        "refusal": sentence,
        "trainer_is_its_own": trainer_named_in(sentence) is YOLO(file)._smart_load("trainer"),
        "parameters": parameters(file),
        "tuned": after_training(fine_tuned(trainer_named_in(sentence), file, data, folder, side), file, wanted["image"]),
    }


def after_training(trainer: Any, file: Path, image: torch.Tensor) -> dict[str, Any]:
    """What a fine-tuning left of a file."""
    best, last = (Path(trainer.save_dir) / "weights" / name for name in ("best.pt", "last.pt"))
    pictures = trainer.train_loader.dataset
    return {
        "trained_on": [len(pictures), sum(len(label["cls"]) for label in getattr(pictures, "labels", []))],
        "losses": {name: float(loss) for name, loss in trainer.tloss.items()},
        "moved": moved(file, last),
        "parameters": [parameters(best), parameters(last)],
        "structure_kept": structure(best) == structure(last) == structure(file),
        "outputs": [list(output.shape) for output in own_outputs(best, image)],
    }


def main(request: str) -> None:
    """Walk, and print what came of it."""
    started = time.monotonic()
    answer = walk(**{**(asked := json.loads(Path(request).read_text())), "file": Path(asked["file"])})
    print(json.dumps({**answer, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main(sys.argv[1])
