"""The plan: an ordered list of steps, each a list of cuts with the exact channels that they remove. Plain data, as YAML or JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.tracing.coupling_map import CouplingMap, Indices
from tui_pruner.core.tracing.inner_blocks import demand_droppable, outermost
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.domain.cuts import CLASSES, Request
from tui_pruner.domain.errors import OutputError, PlanError
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.yaml import read_plan_file

FORMAT = 1


class Cut(BaseModel):
    """What was asked for, and which output channels of which parameters it removes (indices of the original checkpoint)."""

    model_config = ConfigDict(extra="forbid")

    layer: str = Field(description="A module path such as model.6.m.0.cv1, a block number, a section, a glob, or classes.")
    amount: str = Field(
        description="What to remove (30%, 0.3, heads:1), what to keep (keep:205, of classes keep:person,car), or drop for an inner block."
    )
    criterion: str = Field(default="l2", description="Which channels go first; taylor and hessian need data when no channels are given.")
    round_to: int = Field(default=1, ge=1, description="Keep a multiple of this many channels.")
    removes: dict[str, dict[int, list[int]]] = Field(
        default={},
        description="Parameter, dimension, indices: the channels that go. Leave it out to have them chosen when the plan is opened.",
    )
    drops: list[str] = Field(
        default=[], description="The inner blocks that go as a whole. Leave it out to have them looked up when the plan is opened."
    )

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        if not self.drops:  # so that plans without drops look as before
            plain.pop("drops", None)
        return plain


class Step(BaseModel):
    """Cuts that were applied together."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", description="What people call it.")
    cuts: list[Cut]

    @property
    def unsettled(self) -> bool:
        """Whether a cut has an amount but no channels yet, as in a plan written by hand."""
        return bool(self.cuts) and not any(cut.removes or cut.drops for cut in self.cuts)

    def requests(self) -> list[Request]:
        """The requests that its cuts stand for."""
        return [Request(cut.layer, cut.amount, cut.criterion, cut.round_to) for cut in self.cuts]


class Plan(BaseModel):
    """All steps from the checkpoint to the pruned model. The checkpoint is identified by its SHA-256."""

    model_config = ConfigDict(extra="forbid")

    format: int = Field(default=FORMAT, description=f"The version of this format: {FORMAT}.")
    checkpoint: str = Field(description="The checkpoint's file name.")
    sha256: str = Field(description="The checkpoint's SHA-256: a plan is good for that file alone.")
    path: str = Field(
        default="", description="A hint where the checkpoint is, seen from the plan's folder or as it was typed; its SHA-256 decides."
    )
    steps: list[Step] = []
    kept: dict[str, dict[int, str]] = Field(
        default={},
        description="Parameter or buffer, dimension, positions that stay (0-3,5): for a module, so that it can be cut without a trace.",
    )
    widths: dict[str, int] = Field(
        default={},
        description="Attribute of a module that holds a width (blocks.0.attn.head_dim, mixer.split[1]), and what it holds after the cuts.",
    )

    scaled: dict[str, dict[str, float]] = Field(
        default={},
        description="Parameter of a query, rows after the cuts (0-3,5) and what they are multiplied by, where attention has no scale.",
    )

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        for name in ("kept", "widths", "scaled", "path"):  # so that plans without such fields look as before
            if not plain.get(name):
                plain.pop(name, None)
        return plain

    def plain(self) -> dict[str, Any]:
        """As dictionaries, lists, strings and numbers; without the path hint, since where a file lies changes no result."""
        return self.model_dump(mode="json", exclude={"path"})

    def check_checkpoint(self, sha256: str) -> None:
        """Refuse a plan that was made for a checkpoint with another SHA-256.

        Raises:
            PlanError: it was.
        """
        if self.sha256 != sha256:
            raise PlanError(f"the plan was made for {self.checkpoint} ({self.sha256[:12]}), not for this checkpoint ({sha256[:12]})")


def parse_plan(content: object, where: str = "the plan") -> Plan:
    """Parse a plan from plain data.

    Raises:
        PlanError: it is not a plan; the message names the field.
    """
    if not isinstance(content, dict):
        raise PlanError(f"{where} is not a plan: it must be a mapping with checkpoint, sha256 and steps")
    try:
        plan = Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise PlanError(f"{where}: {place}: {first['msg'].lower()}") from None
    if plan.format != FORMAT:
        raise PlanError(f"{where} has format {plan.format}; this version reads format {FORMAT}")
    return plan


def read_plan(path: str | Path) -> Plan:
    """Read a plan from a YAML file.

    Raises:
        PlanError: missing, too large, not YAML, or not a plan.
    """
    return parse_plan(read_plan_file(path), str(path))


def removal_of_cut(cut: Cut, coupling: CouplingMap) -> Removal:
    """The channels that a cut removes, in terms of groups, and the blocks that it drops.

    Raises:
        PlanError: a parameter, an index or a block that this model does not have, or classes where the cut is of a layer.
    """
    for path in cut.drops:
        demand_droppable(coupling, path)
    places: dict[int, list[int]] = {}
    for parameter, dims in cut.removes.items():
        for dim, indices in dims.items():
            group, place = positions_on(coupling, Axis(parameter, dim))
            outside = next((index for index in indices if not 0 <= index < len(group)), None)
            if outside is not None:
                raise PlanError(f"the plan removes channel {outside} of {parameter}, which has {len(group)}")
            for index in indices:
                places.setdefault(int(group[index]), []).append(int(place[index]))
    if coupling.classes is not None and coupling.classes in places and cut.layer != CLASSES:
        locked = coupling.groups[coupling.classes]
        raise PlanError(f"the plan cuts {locked.members[0].axis.module} by {cut.layer}, which is locked but for {CLASSES}: {locked.reason}")
    return Removal({number: np.unique(found) for number, found in places.items()}, outermost(cut.drops))


def positions_on(coupling: CouplingMap, axis: Axis) -> tuple[Indices, Indices]:
    """For each index of an axis, the number of its group and its place in the group."""
    if axis not in coupling.sizes:
        raise PlanError(f"the plan cuts {axis.parameter}, which this model does not have")
    group = np.full(coupling.sizes[axis], -1, dtype=np.int64)
    place = np.zeros(coupling.sizes[axis], dtype=np.int64)
    for number in coupling.groups_of_axis.get(axis, ()):
        indices = coupling.groups[number].member(axis).indices
        group[indices] = number
        place[indices] = np.arange(len(indices))[:, None]
    return group, place


def removes_of(removal: Removal, coupling: CouplingMap) -> dict[str, dict[int, list[int]]]:
    """A removal as indices of each group's first producer, as a plan stores it."""
    removes: dict[str, dict[int, list[int]]] = {}
    for number, places in sorted(removal.places.items()):
        root = next(iter(coupling.groups[number].producers), coupling.groups[number].members[0])
        indices = removes.setdefault(root.axis.parameter, {}).setdefault(root.axis.dim, [])
        indices.extend(int(i) for i in np.sort(root.indices[places].reshape(-1)))
        indices.sort()
    return removes


def removal_of_step(step: Step, coupling: CouplingMap) -> Removal:
    """Everything that a step removes."""
    removal = NOTHING
    for cut in step.cuts:
        removal = removal.together(removal_of_cut(cut, coupling))
    return removal


def replay(plan: Plan, coupling: CouplingMap, sha256: str) -> Removal:
    """Everything that a plan removes, checked against the model.

    Raises:
        PlanError: made for another checkpoint, impossible on this one, or without the channels that it removes.
    """
    plan.check_checkpoint(sha256)
    removal = NOTHING
    for number, step in enumerate(plan.steps, start=1):
        if step.unsettled:
            raise PlanError(f"step {number} of the plan does not say which channels it removes: open the plan and save it first")
        removal = removal.together(removal_of_step(step, coupling))
    removal.check(coupling)
    return removal


def dump_yaml(plan: Plan) -> str:
    """A plan as YAML that people can read: every list of channels on one line."""
    return yaml.dump(_inline(plan.model_dump(mode="json")), Dumper=_Dumper, sort_keys=False, width=1_000_000)


def path_hint(file: Path, checkpoint: str, typed: bool) -> str:
    """Where a checkpoint is, for a plan in `file`: relative to the plan's folder where both have folders in common, else as it was `typed`.

    Empty where the name alone suffices, or where only an absolute path that was not typed would do.
    """
    folder, there = Path(os.path.normpath(file.absolute())).parent, Path(os.path.normpath(Path(checkpoint).absolute()))
    apart = os.path.commonpath([folder, there]) == there.anchor
    hint = (checkpoint if typed else "") if apart else os.path.relpath(there, folder)
    return "" if hint == there.name else hint


def save_plan(file: Path, plan: Plan, checkpoint: str = "", typed: bool = False) -> None:
    """Write a plan as YAML, completely or not at all; with a hint where its checkpoint is, `typed` if the user typed that path.

    Raises:
        OutputError: it cannot be written.
    """
    if checkpoint and Path(checkpoint).is_file():
        plan = plan.model_copy(update={"path": path_hint(file, checkpoint, typed)})
    try:
        replace_file(file, dump_yaml(plan).encode())
    except OSError as error:
        raise OutputError(f"the plan {file} cannot be written: {error.strerror or error}") from None


class _Inline(list[Any]):
    """A list that YAML shows on one line."""


class _Dumper(yaml.SafeDumper):
    """A dumper that knows inline lists."""


_Dumper.add_representer(_Inline, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True))


def _inline(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _inline(item) for key, item in value.items()}
    if isinstance(value, list):
        return _Inline(value) if value and all(isinstance(item, int) for item in value) else [_inline(item) for item in value]
    return value


PART = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
LARGEST = 1 << 24


def as_ranges(positions: Sequence[int]) -> str:
    """Ascending positions as text: "0-15, 20"."""
    found: list[list[int]] = []
    for position in positions:
        if found and position == found[-1][1] + 1:
            found[-1][1] = position
        else:
            found.append([position, position])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def from_ranges(text: str) -> NDArray[np.int64]:
    """Parse the text of `as_ranges`.

    Raises:
        ValueError: other text, not ascending, or an absurd number of positions.
    """
    parts: list[NDArray[np.int64]] = []
    after = 0
    for part in text.split(","):
        match = PART.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if first < after or last < first or last > LARGEST:
            raise ValueError(f"{part.strip()!r} is not an ascending range of positions")
        parts.append(np.arange(first, last + 1, dtype=np.int64))
        after = last + 1
    return np.concatenate(parts)


def positions_at(key: str, text: str) -> Indices:
    """The positions that a plan has under a key.

    Raises:
        PlanError: they are not written as ranges.
    """
    try:
        return from_ranges(text)
    except ValueError as error:
        raise PlanError(f"the plan's {key}: {error}") from None
