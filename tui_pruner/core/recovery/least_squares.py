"""Ridge regression of a layer's weights from inputs and outputs at sampled positions, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tui_pruner.core.recovery.applications import Application, Convolution


def sample(application: Application, per_image: int, seed: int) -> Tensor:
    """Seeded output positions, sorted, without repetition: [n, p] flat ones of each image for a convolution, [p] rows for a product."""
    generator = torch.Generator().manual_seed(seed)
    if application.geometry is None:
        rows = len(application.inputs)
        return torch.randperm(rows, generator=generator)[:per_image].sort().values
    size = math.prod(output_size(application.inputs, application.geometry))
    images = len(application.inputs)
    return torch.stack([torch.randperm(size, generator=generator)[:per_image].sort().values for _ in range(images)])


def output_size(inputs: Tensor, geometry: Convolution) -> list[int]:
    """The spatial size of a convolution's outputs."""
    if geometry.transposed:
        return [
            (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
            for size, kernel, stride, padding, dilation, extra in zip(
                inputs.shape[2:], geometry.kernel, geometry.stride, geometry.padding, geometry.dilation, geometry.output_padding
            )
        ]
    return [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, padding, dilation in zip(
            inputs.shape[2:], geometry.kernel, geometry.stride, geometry.padding, geometry.dilation
        )
    ]


def inputs_at(application: Application, picks: Tensor) -> Tensor:
    """The inputs of the picked outputs: [groups, rows, taps * channels of a group], taps in the order of the kernel."""
    geometry = application.geometry
    picks = picks.to(application.inputs.device)
    if geometry is None:
        return application.inputs[picks][None]
    padded, stride = _padded(application.inputs, geometry)
    images, channels, *space = padded.shape
    within = [math.prod(space[axis + 1 :]) for axis in range(len(space))]
    size = output_size(application.inputs, geometry)
    base, rest = torch.zeros_like(picks), picks
    for axis in reversed(range(len(space))):
        base += rest % size[axis] * stride[axis] * within[axis]
        rest = rest // size[axis]
    taps = torch.zeros(1, dtype=torch.long, device=picks.device)
    for axis, kernel in enumerate(geometry.kernel):
        offsets = torch.arange(kernel, device=picks.device) * geometry.dilation[axis] * within[axis]
        taps = (taps[:, None] + offsets).reshape(-1)
    first = torch.arange(images, device=picks.device)[:, None, None] * math.prod(space)
    flat = padded.flatten(2).transpose(1, 2).reshape(-1, channels)
    rows = flat.index_select(0, (first + base[:, :, None] + taps).reshape(-1))
    groups = geometry.groups
    rows = rows.reshape(picks.numel(), len(taps), groups, channels // groups)
    return rows.permute(2, 0, 1, 3).reshape(groups, picks.numel(), -1)


def _padded(inputs: Tensor, geometry: Convolution) -> tuple[Tensor, tuple[int, ...]]:
    """The zero-padded inputs, and the stride; for a transposed convolution with zeros in between and a stride of 1."""
    if not geometry.transposed:
        return F.pad(inputs, [pad for padding in reversed(geometry.padding) for pad in (padding, padding)]), geometry.stride
    size = [(size - 1) * stride + 1 for size, stride in zip(inputs.shape[2:], geometry.stride)]
    spread = inputs.new_zeros([*inputs.shape[:2], *size])
    places = (slice(None), slice(None), *(slice(None, None, stride) for stride in geometry.stride))
    spread[places] = inputs
    sides = [
        (dilation * (kernel - 1) - padding, dilation * (kernel - 1) - padding + extra)
        for kernel, padding, dilation, extra in zip(geometry.kernel, geometry.padding, geometry.dilation, geometry.output_padding)
    ]
    return F.pad(spread, [pad for side in reversed(sides) for pad in side]), (1,) * len(geometry.stride)


def outputs_at(application: Application, picks: Tensor) -> Tensor:
    """The picked outputs: [rows, output channels]."""
    assert application.outputs is not None
    outputs, picks = application.outputs, picks.to(application.outputs.device)
    if application.geometry is None:
        return outputs.flatten(0, -2)[picks]
    outputs = outputs.reshape(len(picks), -1, *outputs.shape[-len(application.geometry.kernel) :]).flatten(2)
    return outputs.gather(2, picks[:, None].expand(-1, outputs.shape[1], -1)).transpose(1, 2).reshape(picks.numel(), -1)


def as_matrix(weight: Tensor, geometry: Convolution | None) -> Tensor:
    """A weight as [groups, taps * channels of a group, outputs of a group]: `inputs_at` times this are the outputs, group by group."""
    if geometry is None:
        return weight.t()[None]
    groups = geometry.groups
    if geometry.transposed:
        spatial = tuple(range(2, weight.dim()))
        weight = weight.flip(spatial).reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    else:
        weight = weight.reshape(groups, -1, *weight.shape[1:])
    return weight.flatten(3).permute(0, 3, 2, 1).reshape(groups, -1, weight.shape[1])


def as_weight(matrix: Tensor, geometry: Convolution | None) -> Tensor:
    """The inverse of `as_matrix`."""
    if geometry is None:
        return matrix[0].t()
    groups, _, outputs = matrix.shape
    weight = matrix.reshape(groups, math.prod(geometry.kernel), -1, outputs).permute(0, 3, 2, 1)
    weight = weight.reshape(groups, outputs, -1, *geometry.kernel)
    if geometry.transposed:
        return weight.transpose(1, 2).flatten(0, 1).flip(tuple(range(2, weight.dim() - 1)))
    return weight.flatten(0, 1)


@dataclass
class Equations:
    """Normal equations for a correction to a layer, from its inputs to the error of its outputs, summed batch by batch.

    `intercept` adds a constant input. `energy` is the sum of squares of the wanted outputs about their mean. While there are fewer rows
    than half the inputs, the rows are kept: the same correction then comes from a system with one unknown for each row.
    """

    intercept: bool
    rows: int = 0
    gram: Tensor = field(default_factory=lambda: torch.zeros(0))
    cross: Tensor = field(default_factory=lambda: torch.zeros(0))
    lacking: float = 0.0
    _sums: Tensor = field(default_factory=lambda: torch.zeros(0))
    _squares: float = 0.0
    _few: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, inputs: Tensor, residual: Tensor, wanted: Tensor) -> None:
        """Add rows: inputs [groups, rows, features], residual and wanted outputs [rows, outputs]."""
        groups, rows, _ = inputs.shape
        if self.intercept:
            inputs = torch.cat([inputs, inputs.new_ones(groups, rows, 1)], 2)
        by_group = residual.reshape(rows, groups, -1).permute(1, 0, 2)
        if 2 * (self.rows + rows) <= inputs.shape[2]:
            self._few.append((_double(inputs), _double(by_group)))
        else:
            self._sum_up(inputs, by_group)
        self._sums = _double(wanted.sum(0)) + (self._sums if self.rows else 0)
        self.lacking += float(_double(residual).square().sum())
        self._squares += float(_double(wanted).square().sum())
        self.rows += rows

    def _sum_up(self, inputs: Tensor, residual: Tensor) -> None:
        """Add these rows, and those that were kept until now, to the normal equations."""
        for given, lacking in (*self._few, (inputs, residual)):
            self.gram = _double(products(given, given)) + (self.gram if len(self.gram) else 0)
            self.cross = _double(products(given, lacking)) + (self.cross if len(self.cross) else 0)
        self._few = []

    def _rows(self) -> tuple[Tensor, Tensor]:
        """The kept inputs and errors of the outputs, while there are few: [groups, rows, ...]."""
        self._few = [(torch.cat([given for given, _ in self._few], 1), torch.cat([lacking for _, lacking in self._few], 1))]
        return self._few[0]

    @property
    def energy(self) -> float:
        """The sum of squares of the wanted outputs about their means."""
        return self._squares - float(self._sums.square().sum()) / max(self.rows, 1)

    def correction(self, ridge: float) -> Tensor:
        """[groups, features, outputs]: the least-squares correction, regularised by `ridge` times the mean diagonal.

        Raises:
            torch.linalg.LinAlgError: the equations have no finite solution.
        """
        if self._few:
            return self._by_rows(ridge)
        system = self.gram.clone()
        diagonal = system.diagonal(dim1=1, dim2=2)
        features = diagonal[:, :-1] if self.intercept else diagonal
        hold = (ridge * features.mean(1, keepdim=True)).clamp_min(torch.finfo(torch.float64).tiny)
        features += hold
        if self.intercept:
            diagonal[:, -1] += 1e-6 * self.rows
        factor = torch.linalg.cholesky(system)
        return torch.cholesky_solve(self.cross, factor)

    def _by_rows(self, ridge: float) -> Tensor:
        """The same correction with few rows: by the identity (X'X + D)^-1 X' = D^-1 X' (X D^-1 X' + I)^-1."""
        inputs, lacking = self._rows()
        diagonal = inputs.square().sum(1)
        features = diagonal[:, :-1] if self.intercept else diagonal
        hold = (ridge * features.mean(1, keepdim=True)).clamp_min(torch.finfo(torch.float64).tiny).expand_as(diagonal).clone()
        if self.intercept:
            hold[:, -1] = 1e-6 * self.rows
        scaled = inputs / hold[:, None]
        system = scaled @ inputs.transpose(1, 2)
        system.diagonal(dim1=1, dim2=2).add_(1.0)
        return scaled.transpose(1, 2) @ torch.cholesky_solve(lacking, torch.linalg.cholesky(system))

    def error(self, correction: Tensor | None = None) -> float:
        """The relative squared error that remains: of the outputs, over their energy."""
        lacking = self.lacking
        if correction is not None and self._few:
            inputs, wanted = self._rows()
            given = inputs @ correction
            lacking += float((given * (given - 2 * wanted)).sum())
        elif correction is not None:
            lacking += float((correction * (self.gram @ correction - 2 * self.cross)).sum())
        return max(lacking, 0.0) / max(self.energy, torch.finfo(torch.float64).tiny)


def products(left: Tensor, right: Tensor) -> Tensor:
    """[groups, rows, a] and [groups, rows, b] to [groups, a, b]; one product for a single group is faster than a batch of one."""
    return (left[0].t() @ right[0])[None] if len(left) == 1 else left.transpose(1, 2) @ right


def _double(tensor: Tensor) -> Tensor:
    """In float64, on the CPU where the device has no float64."""
    return tensor.double() if tensor.device.type != "mps" else tensor.cpu().double()


def best_correction(fit: Equations, judge: Equations, ridges: Sequence[float]) -> tuple[Tensor | None, float]:
    """The correction with the least error on held-out rows, and its ridge; None where none lowers the error."""
    best: tuple[Tensor | None, float] = (None, 0.0)
    least = judge.error()
    for ridge in ridges:
        try:
            correction = fit.correction(ridge)
        except RuntimeError:  # torch.linalg.LinAlgError is a RuntimeError
            continue
        if bool(correction.isfinite().all()) and (error := judge.error(correction)) < least:
            best, least = (correction, ridge), error
    return best
