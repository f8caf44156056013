"""A model file after reading: the model, its origin, and the stages that it went through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from tui_pruner import __version__
from tui_pruner.core.model.inputs import Inputs
from tui_pruner.core.model.layers import stride_of
from tui_pruner.domain.errors import CheckpointError, ProofError
from tui_pruner.domain.formatting import printable
from tui_pruner.storage.model_file import is_architecture

DEFAULT_IMGSZ = 640
PROVENANCE_KEY = "tui_pruner"
LARGEST_FIGURE = 1 << 16
FAMILY = re.compile(r"yolo(v?)(\d+)(p6-)?([tnsmlbxce]?)(.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was read or built; it is never modified: every plan is applied to a copy.

    `path` is what the user typed, `sha256` identifies the content (the file's bytes; for a yaml its canonical content, class count
    and seed), `model` is float32 on the CPU in eval mode, `content` is the rest of the checkpoint dictionary, `provenance` what this
    program wrote into the file, and `original_yaml` the architecture of the dense network even when the file's own is guarded.
    `own_names` are the names of modules beyond Ultralytics' own list that the file imports, and that a file made from it imports too;
    `trusted`: it was loaded without restrictions because its user trusts it; `unwritable`: why no file can be made from it.
    `inputs` are the arguments of its forward where that does not take a square image. `approximate`: normalisations across channels
    may lose some. `shared`: the model shares objects that are no tensors with a module of the user.
    """

    path: str
    sha256: str
    model: nn.Module
    content: dict[str, Any]
    provenance: dict[str, Any] | None
    original_yaml: dict[str, Any]
    warnings: tuple[str, ...] = ()
    own_names: tuple[str, ...] = ()
    trusted: bool = False
    unwritable: str = ""
    inputs: Inputs | None = None
    approximate: bool = False
    shared: bool = False

    @property
    def is_trained(self) -> bool:
        """Whether it was read from a checkpoint instead of built from an architecture."""
        return not is_architecture(self.path)

    @property
    def task(self) -> str:
        """What the model predicts: detect, segment, pose, obb, classify, ..."""
        return printable(str(getattr(self.model, "task", "detect")))

    @property
    def names(self) -> dict[int, str]:
        """The class names by index, without characters that a terminal would interpret."""
        names: Any = getattr(self.model, "names", None) or {}
        return {index: printable(str(name)) for index, name in (names.items() if isinstance(names, dict) else enumerate(names))}

    @property
    def classes(self) -> int:
        """How many classes the head predicts."""
        count = getattr(head_of(self.model), "nc", None)
        return int(count) if count else len(self.names)

    @property
    def stride(self) -> int:
        """The largest stride: input sides must be multiples of it."""
        return stride_of(self.model)

    @property
    def family(self) -> str:
        """The architecture by the name people use, as in "YOLOv8n" or "YOLO11s-seg"; the head's class where no name is recorded."""
        return printable(family_name(self.original_yaml)) or type(head_of(self.model)).__name__

    @property
    def default_imgsz(self) -> int:
        """The input side in pixels that the model was trained with, 640 where that is not recorded."""
        return image_side(self.content.get("train_args", {}))

    @property
    def recorded_data(self) -> str:
        """The data yaml that the training names; empty where it names none."""
        data = self.content.get("train_args", {}).get("data")
        return data if isinstance(data, str) else ""


def image_side(arguments: Mapping[str, Any]) -> int:
    """The image side in training arguments, the largest of several, as Ultralytics trains; 640 where it is not recorded."""
    sides = arguments.get("imgsz") or DEFAULT_IMGSZ
    return int(max(sides)) if isinstance(sides, (list, tuple)) else int(sides)


def require_presentable(checkpoint: Checkpoint) -> None:
    """Compute everything that is displayed once, so that a model that cannot be displayed is refused when it is read.

    Raises:
        ValueError: its classes, stride or image side are no sensible numbers; other exceptions for values of the wrong type.
    """
    checkpoint.names, checkpoint.family, checkpoint.task  # noqa: B018
    figures = {"classes": checkpoint.classes, "stride": checkpoint.stride, "image side": checkpoint.default_imgsz}
    for name, figure in figures.items():
        if not 0 <= figure <= LARGEST_FIGURE:
            raise ValueError(f"{name} is {figure}")


def head_of(model: nn.Module) -> nn.Module:
    """The last block of an Ultralytics model."""
    return cast("nn.Sequential", model.model)[-1]


def family_name(architecture: dict[str, Any]) -> str:
    """The family from an architecture's file name and scale; an empty string when it records no name."""
    stem = re.split(r"[\\/]", str(architecture.get("yaml_file") or ""))[-1].rsplit(".", 1)[0]
    known = FAMILY.fullmatch(stem)
    if known is None:
        return stem
    letter_v, number, _, scale, rest = known.groups()
    return f"YOLO{letter_v.lower()}{number}{scale or architecture.get('scale') or ''}{rest}"


FORMAT = 1
SPARSE = "sparse training"
"""The one stage that may come before the first cut."""


def stages_with(source: Checkpoint, kind: str, **details: Any) -> list[dict[str, Any]]:
    """The stages of a file that is made from the source: the source's, and this one with the name of the source."""
    return [*stages_of(source.provenance), {"kind": kind, "source": {"name": file_name(source), "sha256": source.sha256}, **details}]


def stages_of(provenance: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The stages that a file records, oldest first; a file from before stages were recorded was pruned once."""
    if not provenance:
        return []
    return list(provenance.get("stages") or [{"kind": "prune", "source": provenance["source"]}])


def next_stage(source: Checkpoint, kind: str, **details: Any) -> dict[str, Any]:
    """The provenance of a file with the source's structure and plan, but other weights or statistics.

    Raises:
        CheckpointError: the source was not pruned, and this stage is none that may come before.
        ProofError: the source was cut without a proof.
    """
    demand_proved(source)
    if not source.provenance and kind == SPARSE:
        return {
            "format": FORMAT,
            "version": __version__,
            "original_yaml": source.original_yaml,
            "stages": stages_with(source, kind, **details),
        }
    if not source.provenance:
        raise CheckpointError(f"{source.path} was not pruned by this program: prune it first, or use Ultralytics' own train()")
    return {**source.provenance, "stages": stages_with(source, kind, **details)}


def demand_proved(source: Checkpoint) -> None:
    """Refuse a file whose cut was written although its proof failed, as early versions did; a file trained since is accepted.

    Raises:
        ProofError: it is such a file.
    """
    stages = stages_of(source.provenance)
    proof = (source.provenance or {}).get("proof")
    if stages and stages[-1]["kind"] in ("prune", "mask") and isinstance(proof, Mapping) and proof.get("equal") is False:
        raise ProofError(f"{source.path} was cut without a proof (its twin disagreed): prune {stages[-1]['source']['name']} again")


def file_name(source: Checkpoint) -> str:
    """A file's name without its folder."""
    return source.path.replace("\\", "/").rsplit("/", 1)[-1]
