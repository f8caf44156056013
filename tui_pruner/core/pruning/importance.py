"""How important each channel of a group is: by torch-pruning's criteria, by gradients of a loss, or by scores computed from data."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock as Mutex
from typing import Any, cast

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_pruning._helpers import GroupItem
from torch_pruning.dependency import Dependency, Group, Node

from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap, Member
from tui_pruner.core.tracing.labels import Role
from tui_pruner.domain.criteria import NAMES, NEED_DATA, demand_criterion
from tui_pruner.domain.errors import DataError, RequestError

Scores = NDArray[np.float64]
ABOUT = "about"
SHA256, IMAGES, NOTES = "sha256", "images", "notes"


@dataclass(frozen=True)
class Calibration:
    """Scores of a checkpoint's channels. `axes` has an array for each criterion and axis of a producer, NaN where nothing was scored."""

    sha256: str
    images: int
    notes: tuple[str, ...]
    axes: Mapping[str, Scores]

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria that it has scores for."""
        return tuple(dict.fromkeys(name.partition("/")[0] for name in self.axes))

    def scores(self, group: ChannelGroup, criterion: str) -> Scores:
        """One score per channel of a group; `covers` must be true of it."""
        member = group.producers[0]
        return self.axes[name_of(criterion, member)][member.indices[:, 0]]

    def covers(self, coupling: CouplingMap, criteria: Iterable[str]) -> bool:
        """Whether every channel that can be removed has a score by each of the criteria."""
        return all(self._has(group, criterion) for criterion in criteria for group in coupling.groups if group.prunable)

    def to_bytes(self) -> bytes:
        """The content of the file: NumPy's .npz, without pickle."""
        stream = io.BytesIO()
        about = json.dumps({SHA256: self.sha256, IMAGES: self.images, NOTES: list(self.notes)})
        arrays: dict[str, Any] = {ABOUT: np.array(about), **self.axes}
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()

    def _has(self, group: ChannelGroup, criterion: str) -> bool:
        member = group.producers[0]
        found = self.axes.get(name_of(criterion, member))
        if found is None or found.ndim != 1 or len(found) <= int(member.indices.max()):
            return False
        return found.dtype == np.float64 and bool(np.isfinite(found[member.indices[:, 0]]).all())


def name_of(criterion: str, member: Member) -> str:
    """The name of an array in the file: "taylor/model.5.conv.weight/0"."""
    return f"{criterion}/{member.axis.parameter}/{member.axis.dim}"


def read_calibration(file: str | Path) -> Calibration:
    """Read scores from a file.

    Raises:
        DataError: it is missing or damaged, or has other content.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            axes = {name: arrays[name] for name in arrays.files if name != ABOUT}
            about = json.loads(str(arrays[ABOUT]))
        return Calibration(str(about[SHA256]), int(about[IMAGES]), tuple(map(str, about[NOTES])), axes)
    except (OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise DataError(f"the calibrated scores {file} are missing or damaged: calibrate again") from None


def calibration_for(file: str | Path, sha256: str, coupling: CouplingMap, criteria: Iterable[str] = ()) -> Calibration:
    """Read scores from a file and check that they fit a checkpoint, for these criteria or for those in the file.

    Raises:
        DataError: it is missing or damaged, belongs to another checkpoint, or lacks channels of this one.
    """
    found = read_calibration(file)
    if found.sha256 != sha256:
        raise DataError(f"the calibrated scores {file} are of another checkpoint ({found.sha256[:12]}): calibrate this one ({sha256[:12]})")
    wanted = tuple(criteria) or found.criteria
    if not wanted or not found.covers(coupling, wanted):
        raise DataError(f"the calibrated scores {file} do not cover every channel of this model: calibrate again")
    return found


Handler = Callable[..., Any]


def handler_of(module: nn.Module, role: Role | None) -> Handler | None:
    """torch-pruning's function for a module in this role, which tells its criteria what to read; None where they read nothing there.

    The inputs of a grouped convolution are left out: torch-pruning scores them by position in the whole input, or fails (`FPGMImportance`).
    """
    if role == "in" and isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1:
        return None
    if role not in ("out", "depthwise", "in") and isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
        return None  # a computed weight may depend on tensors without channels, such as the vectors of a spectral norm
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return torch_pruning.prune_batchnorm_out_channels  # type: ignore[no-any-return]
    if isinstance(module, nn.modules.conv._ConvNd):
        if role == "depthwise":
            return torch_pruning.prune_depthwise_conv_out_channels  # type: ignore[no-any-return]
        return torch_pruning.prune_conv_in_channels if role == "in" else torch_pruning.prune_conv_out_channels  # type: ignore[no-any-return]
    if isinstance(module, nn.Linear):
        return torch_pruning.prune_linear_in_channels if role == "in" else torch_pruning.prune_linear_out_channels  # type: ignore[no-any-return]
    return None


def side_of(module: nn.Module, member: Member) -> Role | None:
    """The side of a layer, input or output, that a member is on by the layer's class; a forward that transposes the weight swaps them."""
    if member.role not in ("out", "in") or not member.axis.is_weight or not isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
        return member.role
    return "out" if member.axis.dim == int(getattr(module, "transposed", False)) else "in"


def one_per_module(members: Iterable[Member]) -> list[Member]:
    """One axis for each module, of its weight where it has one: torch-pruning cuts bias and statistics with the weight."""
    best: dict[tuple[str, bool], Member] = {}
    for member in members:
        key = (member.axis.module, member.role == "in")
        if key not in best or (member.axis.is_weight and member.role is not None):
            best[key] = member
    return list(best.values())


def library_group(members: Iterable[Member], modules: dict[str, nn.Module]) -> Group:
    """A torch-pruning `Group` with all channels of these members, as far as its criteria can read them. Its root is the first producer."""
    ordered = sorted(one_per_module(members), key=lambda member: not member.produces)
    group = Group()
    root: Node | None = None
    trigger: Handler | None = None
    for member in ordered:
        module = modules[member.axis.module]
        handler = handler_of(module, side_of(module, member))
        if handler is None:
            continue
        node = Node(module, None, member.axis.module)
        root, trigger = root or node, trigger or handler
        indices = member.indices
        own, roots = indices.reshape(-1), np.repeat(np.arange(len(indices)), indices.shape[1])
        order = np.argsort(own)  # torch-pruning's gradient criteria sort `idxs`, and leave `root_idxs` behind
        item = GroupItem(dep=Dependency(trigger, handler, root, node), idxs=own[order].tolist())
        item.root_idxs = roots[order].tolist()  # where torch-pruning's graph stores them too: the constructor has no argument for them
        group.items.append(item)
    return group


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its path."""
    return dict(model.named_modules())


LibraryCriterion = Callable[[], Any]
FROM_WEIGHTS: dict[str, LibraryCriterion] = {
    "l2": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "l1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
    "bn-scale": lambda: torch_pruning.importance.BNScaleImportance(),
    "lamp": lambda: torch_pruning.importance.LAMPImportance(),
    "fpgm": lambda: torch_pruning.importance.FPGMImportance(),
}
FROM_LABELS: dict[str, LibraryCriterion] = {
    "taylor": lambda: torch_pruning.importance.GroupTaylorImportance(),
    "hessian": lambda: torch_pruning.importance.GroupHessianImportance(),
}


def library_scores(criterion: LibraryCriterion, group: ChannelGroup, modules: dict[str, nn.Module]) -> Scores:
    """One score per channel by torch-pruning; by l2 where the criterion gives no score for any channel of the group.

    Where torch-pruning knows none of the layers (parameters of custom modules), the length of each channel's slice in the producers.
    """
    readable = library_group(group.members, modules)
    if not readable.items:
        return cast(Scores, np.sum([lengths(member, modules) for member in group.producers], axis=0))
    for ranking in (criterion, FROM_WEIGHTS["l2"]):
        scores = ranking()(readable)
        if scores is not None and torch.isfinite(scores).any():
            break
    # torch-pruning makes as many scores as the first layer has rows, several for each channel of attention; the surplus is empty.
    return cast(Scores, np.nan_to_num(scores[: group.channels].double().numpy()))


def lengths(member: Member, modules: dict[str, nn.Module]) -> Scores:
    """The length of each channel's slice of a parameter."""
    path, _, name = member.axis.parameter.rpartition(".")
    rows = getattr(modules[path], name).detach().movedim(member.axis.dim, 0).flatten(1).double().pow(2).sum(1).numpy()
    return cast(Scores, np.sqrt(rows[member.indices].sum(1)))


class Ranking:
    """Scores of a model's groups, each computed once per criterion; thread-safe."""

    def __init__(self, model: nn.Module, seed: int = 0, whole: Ranking | None = None) -> None:
        self._whole = whole
        self._modules = modules_of(model)
        self._seed = seed
        self._calibrations: dict[str, Calibration] = {}
        self._scores: dict[tuple[int, str], Scores] = {}
        self._mutex = Mutex()
        self.version = 0
        """How often scores from data were replaced: rankings of two versions may differ."""

    @property
    def names(self) -> tuple[str, ...]:
        """The criteria that are available now."""
        if self._whole is not None:
            return self._whole.names
        return (*NAMES, *(name for name in NEED_DATA if name in self._calibrations))

    def of_classes(self, model: nn.Module) -> Ranking:
        """The ranking of the same channels in a model with some of the classes; scores from data are shared."""
        return Ranking(model, self._seed, self)

    def calibrate(self, calibration: Calibration) -> None:
        """Use these scores from now on, for the criteria that they are of."""
        with self._mutex:
            known = dict.fromkeys(calibration.criteria, calibration)
            self._calibrations |= known
            self.version += 1
            self._scores = {key: scores for key, scores in self._scores.items() if key[1] not in known}

    def check(self, criterion: str) -> None:
        """Refuse a criterion that does not exist, or one that needs data while there are no scores from data.

        Raises:
            RequestError: with the criteria that exist, or with what is missing.
        """
        if criterion in self.names:
            return
        if criterion in NEED_DATA:
            raise RequestError(
                f"the criterion {criterion} ranks by calibration images, which this model has not been through: "
                f"calibrate it first (--data DATA.yaml), or use {', '.join(NAMES)}"
            )
        demand_criterion(criterion)

    def scores(self, group: ChannelGroup, criterion: str = "l2") -> Scores:
        """One score per channel of the group, larger is more important.

        Raises:
            RequestError: no such criterion, or it needs data.
        """
        if self._whole is not None and criterion in NEED_DATA:
            return self._whole.scores(group, criterion)
        key = (group.number, criterion)
        known = self._scores.get(key)
        if known is None:
            self.check(criterion)
            with self._mutex:
                known = self._scores[key] = self._compute(group, criterion)
        return known

    def _compute(self, group: ChannelGroup, criterion: str) -> Scores:
        if criterion == "random":
            return np.random.default_rng((self._seed, group.number)).random(group.channels)
        if criterion in NEED_DATA:
            return self._calibrations[criterion].scores(group, criterion)
        return library_scores(FROM_WEIGHTS[criterion], group, self._modules)


Batch = dict[str, Any]
INSTEAD = "rank by a criterion that needs no data, such as l2"


@dataclass(frozen=True)
class Gradients:
    """For each parameter, over all images: the mean of the loss's gradient, and the mean of the squared gradient."""

    images: int
    mean: dict[str, Tensor]
    square: dict[str, Tensor]


def gradients(twin: nn.Module, batches: Iterable[tuple[str, Batch]], on_image: Callable[[int], None]) -> Gradients:
    """Gradients of `twin.loss` for each named batch of one image, summed up as they come; no `.grad` is left behind.

    Raises:
        DataError: a loss or a gradient that is NaN.
    """
    parameters = dict(twin.named_parameters())
    mean = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    square = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    done = 0
    for done, (image, batch) in enumerate(batches, start=1):
        for name, gradient in zip(parameters, _gradient(twin, image, batch, list(parameters.values()))):
            if gradient is not None:
                mean[name] += gradient
                square[name] += gradient.square()
        on_image(done)
    found = Gradients(done, {name: total / done for name, total in mean.items()}, {name: total / done for name, total in square.items()})
    if not all(bool(torch.isfinite(total).all()) for total in found.square.values()):
        raise DataError(f"the gradients of the loss are not finite numbers: the checkpoint's weights are too large or damaged; {INSTEAD}")
    return found


def _gradient(twin: nn.Module, image: str, batch: Batch, parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    loss = twin.loss(batch)[0].sum()  # type: ignore[operator]
    if not torch.isfinite(loss):
        raise DataError(
            f"the loss on {image} is not a number ({loss.item()}): its labels or the checkpoint's weights are broken; {INSTEAD}"
        )
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def calibrated_axes(twin: nn.Module, coupling: CouplingMap, found: Gradients) -> dict[str, Scores]:
    """The scores of all channels that can be removed, by each criterion that needs labels, in the form that `Calibration` stores.

    torch-pruning reads `.grad`: the gradient for Taylor, the mean squared gradient for Hessian. Its own `accumulate_grad` (1.6.1) keeps
    only the last sample's, since it looks parameters up by name but stores them by object.
    """
    twin = twin.cpu()
    axes: dict[str, Scores] = {}
    for criterion, values in {"taylor": found.mean, "hessian": found.square}.items():
        for name, parameter in twin.named_parameters():
            parameter.grad = values[name].to(parameter.device)
        axes |= _by_axis(criterion, twin, coupling)
    twin.zero_grad(set_to_none=True)
    return axes


def _by_axis(criterion: str, twin: nn.Module, coupling: CouplingMap) -> dict[str, Scores]:
    modules = modules_of(twin)
    scored = ((group, library_scores(FROM_LABELS[criterion], group, modules)) for group in coupling.groups if group.prunable)
    return by_axis(criterion, coupling, scored)


def by_axis(criterion: str, coupling: CouplingMap, scored: Iterable[tuple[ChannelGroup, Scores]]) -> dict[str, Scores]:
    """Scores of groups in the form that `Calibration` stores."""
    axes: dict[str, Scores] = {}
    for group, scores in scored:
        member = group.producers[0]
        axis = axes.setdefault(name_of(criterion, member), np.full(coupling.sizes[member.axis], np.nan))
        axis[member.indices[:, 0]] = scores
    return axes
