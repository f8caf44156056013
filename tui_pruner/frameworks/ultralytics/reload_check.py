"""Checks a written checkpoint as another user would use it: run as a script of its own, in a process that cannot import tui_pruner.

`python -I -X utf8 reload_check.py REQUEST` reads {"checkpoint", "expected", "paths", "own_names"} from a JSON file and prints
{"checks": [{name, ok, detail}]}. `paths`: where the program that wrote the file found modules; `own_names`: what the file may import
beyond Ultralytics' own list.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SAME = 1e-5
FUSED = 1e-3
STOCK_MODULES = ("torch.", "ultralytics.", "torchvision.transforms.", "collections.", "numpy.", "pathlib.")
STOCK_NAMES = {"builtins.getattr", "builtins.set", "builtins.slice", "__builtin__.set", "__builtin__.getattr"}


class CheckFailed(Exception):
    """A check failed; the message says how."""


class Examination:
    """The checks of one checkpoint; they run in order, and later ones use what earlier ones loaded."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.checkpoint: str = request["checkpoint"]
        self.expected_file: str = request["expected"]
        self.own_names = frozenset(request["own_names"])
        self.model: Any = None
        self.image: Any = None
        self.outputs: dict[str, Any] = {}

    def archive_is_intact(self) -> str:
        """Every member's checksum is right."""
        with zipfile.ZipFile(self.checkpoint) as archive:
            damaged = archive.testzip()
            if damaged:
                raise CheckFailed(f"the checksum of {damaged} is wrong")
            return f"{len(archive.namelist())} members"

    def only_allowed_classes(self) -> str:
        """The pickle names only classes of torch and Ultralytics, and the names that its source names too.

        Without such names it is loaded with Ultralytics' own list, as the most careful user would.
        """
        from torch.serialization import get_unsafe_globals_in_checkpoint
        from ultralytics.nn import tasks

        named = get_unsafe_globals_in_checkpoint(self.checkpoint)
        own = self.own_names.intersection(named)
        foreign = sorted(name for name in named if not (name in own or name in STOCK_NAMES or name.startswith(STOCK_MODULES)))
        if foreign:
            raise CheckFailed(f"it names {', '.join(foreign)}")
        tasks.SAFE_LOAD = not own
        return f"{len(named)} classes" + (f", {len(own)} of them beyond Ultralytics' own list" if own else "")

    def loads_in_stock_ultralytics(self) -> str:
        """`YOLO(path)` gives a model that can predict."""
        from ultralytics import YOLO

        self.model = YOLO(self.checkpoint).model.float().eval()
        return type(self.model).__name__

    def same_outputs(self) -> str:
        """The outputs equal those of the model in memory after the same rounding to half precision."""
        import torch

        expected = torch.load(self.expected_file, weights_only=True)
        self.exact_image, self.image = expected["image"], expected["image"].float()
        self.outputs = named_outputs(copy.deepcopy(self.model).double(), self.exact_image)
        return compare(expected["outputs"], self.outputs, SAME)

    def same_outputs_when_fused(self) -> str:
        """With BatchNorm folded, as in prediction and export, the outputs stay the same.

        A `Conv` with another normalisation cannot be folded, before a cut as little as after it.
        """
        try:
            fused = copy.deepcopy(self.model).double().fuse(verbose=False)
        except (AttributeError, TypeError) as error:
            if odd := unusual_norm(self.model):
                return f"not folded, as before the cut: {odd} is no BatchNorm2d with statistics; stock Ultralytics predicts with fuse=False"
            raise CheckFailed(first_line(error)) from error
        return compare(self.outputs, named_outputs(fused.double(), self.exact_image), FUSED)

    def split_forwards_agree(self) -> str:
        """Every `forward_split`, which only export uses and which reads other attributes, equals the module's forward."""
        import torch

        seen = self._inputs_of_splitting_modules()
        with torch.no_grad():
            for name, (module, inputs) in seen.items():
                try:
                    compare({name: module(*inputs)}, {name: module.forward_split(*inputs)}, SAME)
                except RuntimeError as error:
                    raise CheckFailed(f"{name}: {first_line(error)}") from error
        return f"{len(seen)} modules"

    def training_forward_runs(self) -> str:
        """The forward of training runs too: some heads have branches that only training needs."""
        import torch

        model = copy.deepcopy(self.model).train()
        with torch.no_grad():
            model(images := torch.cat([self.image, self.image]))
        return f"{len(images)} images"

    def _inputs_of_splitting_modules(self) -> dict[str, tuple[Any, tuple[Any, ...]]]:
        seen: dict[str, tuple[Any, tuple[Any, ...]]] = {}
        hooks = [
            module.register_forward_pre_hook(lambda module, inputs, name=name: seen.__setitem__(name, (module, inputs)))
            for name, module in self.model.named_modules()
            if hasattr(module, "forward_split")
        ]
        named_outputs(self.model, self.image)
        for hook in hooks:
            hook.remove()
        return seen

    def checks(self) -> tuple[tuple[str, Callable[[], str]], ...]:
        """Every check with its name for display."""
        return (
            ("archive intact", self.archive_is_intact),
            ("known classes only", self.only_allowed_classes),
            ("loads in Ultralytics", self.loads_in_stock_ultralytics),
            ("same outputs", self.same_outputs),
            ("same outputs when fused", self.same_outputs_when_fused),
            ("forward_split", self.split_forwards_agree),
            ("forward of training", self.training_forward_runs),
        )


def unusual_norm(model: Any) -> str:
    """Name a normalisation in one of Ultralytics' blocks that is not what `fuse` expects; empty where there is none."""
    import torch

    for name, module in model.named_modules():
        norm = getattr(module, "bn", None)
        if norm is not None and not (isinstance(norm, torch.nn.BatchNorm2d) and norm.track_running_stats and norm.affine):
            return f"{name}.bn ({type(norm).__name__})"
    return ""


def named_outputs(model: Any, image: Any) -> dict[str, Any]:
    """The tensors that a model returns for an image, each under its place in the nested output.

    The ranked detections of an end-to-end head are left out, since equal scores may change places. What they are picked from is included.
    """
    import torch

    with torch.no_grad():
        outputs = dict(flat(model(image), ""))
    ranked = getattr(model, "end2end", False)
    return {name: tensor for name, tensor in outputs.items() if not (ranked and name.startswith(".0"))}


def flat(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every tensor in nested tuples, lists and dictionaries."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from flat(entry, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from flat(entry, f"{place}.{index}")
    elif hasattr(value, "shape"):
        yield place, value


def compare(expected: dict[str, Any], actual: dict[str, Any], tolerance: float) -> str:
    """The largest difference, relative to the largest value, over the tensors that both have."""
    common = [name for name in expected if name in actual]
    if not common:
        raise CheckFailed("no output to compare")
    worst = 0.0
    for name in common:
        one, other = expected[name], actual[name]
        if one.shape != other.shape:
            raise CheckFailed(f"output {name} has shape {tuple(other.shape)} instead of {tuple(one.shape)}")
        if one.numel():
            worst = max(worst, apart(one.double(), other.double()))
    if not worst <= tolerance:
        raise CheckFailed(f"relative difference {worst:.1e}, allowed {tolerance:.0e}")
    return f"relative difference {worst:.1e}"


def apart(one: Any, other: Any) -> float:
    """How far two tensors are apart, relative to the largest value; infinitely where one alone is not a number, or infinite."""
    both = one.isfinite() & other.isfinite()
    if not bool((both | (one == other) | (one.isnan() & other.isnan())).all()):
        return float("inf")
    return float((one[both] - other[both]).abs().max() / one[both].abs().max().clamp(min=1e-12)) if bool(both.any()) else 0.0


def first_line(error: BaseException) -> str:
    """An error in one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def examine(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the checks in order and stop at the first that fails, since later ones depend on it."""
    results = []
    for name, check in Examination(request).checks():
        try:
            results.append({"name": name, "ok": True, "detail": check()})
        except CheckFailed as failure:
            results.append({"name": name, "ok": False, "detail": str(failure)})
        except Exception as error:
            results.append({"name": name, "ok": False, "detail": first_line(error)})
        if not results[-1]["ok"]:
            break
    return results


def main() -> None:
    """Examine what the request names; output of libraries goes to stderr, only the verdict to stdout."""
    sys.modules["tui_pruner"] = None  # type: ignore[assignment]  # the file must need nothing of ours
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(Path(sys.argv[1]).read_text())
    sys.path[:] = [*request["paths"], *(path for path in sys.path if path not in request["paths"])]
    json.dump({"checks": examine(request)}, answer)
    answer.close()


if __name__ == "__main__":
    main()
