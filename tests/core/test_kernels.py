"""Weights that the forward computes: their channels are cut and proved, or held with a reason; never a crash, never a wrong cut."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from tests.core.kernel_examples import COMPUTED, KERNELS, LOST, MORE, Computing, Kernel
from tests.core.odd_models import Odd, convolution, proved_groups, traced
from tests.core.test_flow import Net, cut_every_group
from tui_pruner.core.model.analysis import analyse, trace_model
from tui_pruner.core.model.copies import without_weights
from tui_pruner.core.model.flops import measure, parameter_count
from tui_pruner.core.model.layers import sequence
from tui_pruner.core.pruning.importance import FROM_WEIGHTS, Ranking
from tui_pruner.core.pruning.preview import Arithmetic, dry_run
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import masked_twin
from tui_pruner.core.tracing.coupling_map import CouplingMap
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.core.tracing.size_check import smallest_removal
from tui_pruner.core.tracing.state import KERNEL_RULES
from tui_pruner.core.tracing.tracer import trace
from tui_pruner.engine.views import block_views, detail_view
from tui_pruner.frameworks.ultralytics import open_model


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def computing(example: Kernel) -> Net:
    return Net(Computing(example)).eval()


def base_name(name: str) -> str:
    return name.removesuffix("_") if name.removesuffix("_") in KERNEL_RULES else name


def check_status(coupling: CouplingMap, layer: str, reason: str) -> None:
    """A layer's outputs are free, or held for this reason."""
    groups = coupling.output_groups(layer)
    if reason == LOST:
        weights = [coupling.groups[n] for n in coupling.groups_of_axis[Axis(f"{layer}.weight", 0)]]
        assert weights and all(group.lock for group in weights)
        return
    assert groups
    if reason:
        assert any(reason in group.reason for group in groups) and not any(group.prunable for group in groups), [g.reason for g in groups]
    else:
        assert all(group.prunable for group in groups), [group.reason for group in groups]


@pytest.mark.parametrize("name", [*KERNELS, *MORE])
def test_weight_operation_keeps_channels_so_that_cuts_are_proved_or_locks_them(name):
    example = (KERNELS | MORE)[name]
    net = computing(example)
    _, coupling = trace_model(net)
    if name in KERNELS:
        seen = {base_name(operation.name) for operation in trace(without_weights(net), (1, 3, 64, 64)).operations}
        assert name in seen
        assert not coupling.unknown_operations
    check_status(coupling, "second", example.reads)
    check_status(coupling, "middle", example.writes)
    assert cut_every_group(net, coupling) >= 1 + (not example.reads)


def test_every_operation_on_weights_has_an_example():
    assert {base_name(name) for name in KERNEL_RULES} == KERNELS.keys()


MASK = torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 1])


def masked(layer: nn.Module) -> nn.Module:
    """Two of eight rows masked."""
    return prune.custom_from_mask(layer, "weight", MASK.view(-1, *[1] * (layer.weight.ndim - 1)).expand_as(layer.weight).clone())


class Squared(nn.Module):
    """A parametrization that PyTorch does not ship."""

    def forward(self, weight):
        return weight * weight.abs()


def squared(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Squared())
    return layer


OF_LAYERS = {
    "masks": (masked, "weight_orig"),
    "weight_norm": (weight_norm, "weight_v"),
    "weight_norm over columns": (lambda layer: weight_norm(layer, dim=1), "weight_v"),
    "weight_norm over everything": (lambda layer: weight_norm(layer, dim=None), "weight_v"),
    "weight_norm as a parametrization": (parametrizations.weight_norm, "parametrizations.weight.original1"),
    "spectral_norm": (spectral_norm, "weight_orig"),
    "spectral_norm as a parametrization": (parametrizations.spectral_norm, "parametrizations.weight.original"),
    "both norms": (lambda layer: parametrizations.spectral_norm(parametrizations.weight_norm(layer)), "parametrizations.weight.original1"),
    "a parametrization": (squared, "parametrizations.weight.original"),
}
LAYERS = {
    "convolution": lambda: convolution(8, 8),
    "depthwise": lambda: convolution(8, 8, groups=8),
    "in groups": lambda: convolution(8, 8, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(8, 8, 2, 2),
    "linear": lambda: nn.Linear(8, 8),
}


def applied(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return net.layer(x.movedim(1, -1)).movedim(-1, 1) if isinstance(net.layer, nn.Linear) else net.layer(x)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("how", OF_LAYERS)
def test_layer_with_a_computed_weight_is_cut_and_proved(how, layer):
    compute, parameter = OF_LAYERS[how]
    net, coupling = traced(Odd(applied, layer=compute(LAYERS[layer]())).eval().requires_grad_(False))
    assert not coupling.unknown_operations
    groups = coupling.output_groups("layer")
    assert all(group.prunable for group in (*groups, *coupling.output_groups("stem"))), [group.reason for group in groups]
    assert coupling.output_axes["layer"].parameter == f"layer.{parameter}"
    assert proved_groups(net, coupling) >= 1
    for group in groups:
        for criterion in FROM_WEIGHTS:
            assert len(Ranking(net).scores(group, criterion)) == group.channels
    pruned = cut(net, coupling, smallest_removal(coupling, [group for group in coupling.groups if group.prunable]))
    cut_layer = copy.deepcopy(pruned).layer
    sides = tuple(cut_layer.weight.shape)
    if layer == "linear":
        assert (cut_layer.out_features, cut_layer.in_features) == sides == (7, 7)
    elif layer == "in groups":
        assert (cut_layer.in_channels, cut_layer.out_channels, cut_layer.groups) == (6, 6, 2)
    else:
        assert (cut_layer.in_channels, cut_layer.out_channels) == (7, 7)
    assert (net.layer.weight.shape[0], getattr(net.layer, "in_channels", 8)) == (8, 8)


def test_weight_norm_of_the_kept_channels_equals_its_formula():
    net, coupling = traced(Odd(applied, layer=weight_norm(convolution(8, 8))).eval().requires_grad_(False))
    net.double()
    (read,), (written,) = coupling.output_groups("stem"), coupling.output_groups("layer")
    pruned = cut(net, coupling, Removal({read.number: torch.tensor([2, 5]).numpy(), written.number: torch.tensor([0]).numpy()}))
    rows, columns = [1, 2, 3, 4, 5, 6, 7], [0, 1, 3, 4, 6, 7]
    direction, length = net.layer.weight_v[rows][:, columns], net.layer.weight_g[rows]
    expected = length * direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert torch.allclose(pruned.layer.weight, expected, rtol=1e-12)
    image = torch.rand(2, 8, 5, 5, dtype=torch.float64)[:, columns]
    assert torch.allclose(pruned.layer(image), F.conv2d(image, expected, net.layer.bias[rows], padding=1), rtol=1e-12)


def test_masked_twin_does_not_divide_by_a_row_of_zeros():
    net, coupling = traced(Odd(applied, layer=weight_norm(convolution(8, 8))).eval().requires_grad_(False))
    (written,) = coupling.output_groups("layer")
    twin = masked_twin(net, coupling, Removal({written.number: torch.tensor([3]).numpy()}))
    assert coupling.spared == {Axis("layer.weight_v", 0)}
    assert torch.equal(twin.layer.weight_v, net.layer.weight_v)
    assert (twin.layer.weight_g[3], twin.layer.bias[3]) == (0, 0) and twin.out.weight[:, 3].abs().max() == 0
    assert twin(torch.rand(1, 3, 8, 8)).isfinite().all()


def test_masks_are_cut_with_the_weights_that_they_mask():
    net, coupling = traced(Odd(applied, layer=masked(convolution(8, 8))).eval().requires_grad_(False))
    (written,) = coupling.output_groups("layer")
    pruned = cut(net, coupling, Removal({written.number: torch.tensor([1]).numpy()}))
    assert pruned.layer.weight_mask[:, 0, 0, 0].tolist() == [1, 1, 1, 0, 1, 1, 1]
    assert pruned.layer.weight[3].abs().max() == 0


class Mixed(nn.Module):
    """Kernels mixed by an attention on the image, applied as one convolution in groups: dynamic convolution."""

    def __init__(self, channels: int = 8, kernels: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(kernels, channels, channels, 3, 3) * 0.1)
        self.attention = nn.Conv2d(channels, kernels, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        a = self.attention(F.adaptive_avg_pool2d(x, 1)).softmax(1).view(b, -1, 1, 1, 1, 1)
        kernel = (a * self.weight.unsqueeze(0)).sum(1).view(-1, c, 3, 3)
        return F.conv2d(x.reshape(1, -1, h, w), kernel, padding=1, groups=b).view(b, -1, h, w)


def test_image_dependent_kernels_lock_their_inputs_and_lose_rows():
    net, coupling = traced(Odd(applied, layer=Mixed()).eval())
    check_status(coupling, "stem", COMPUTED)
    check_status(coupling, "layer", "")
    check_status(coupling, "layer.attention", "softmax mixes channels")
    assert proved_groups(net, coupling) == 1


class LowRank(nn.Linear):
    """A linear layer beside an adaptation of low rank."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.down, self.up = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(8, 4))

    def forward(self, x):
        return F.linear(x, self.weight + self.up @ self.down / 2, self.bias)


def test_low_rank_update_of_a_weight_is_cut_with_it():
    net, coupling = traced(Odd(applied, layer=LowRank()).eval())
    (written,) = coupling.output_groups("layer")
    assert {(m.axis.parameter, m.axis.dim) for m in written.members} == {
        ("layer.weight", 0), ("layer.up", 0), ("layer.bias", 0), ("out.weight", 1)
    }  # fmt: skip
    assert proved_groups(net, coupling) == 2


class Side(nn.Module):
    """Two weights as one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 5), nn.Linear(8, 3)

    def forward(self, x):
        weight, bias = torch.cat((self.a.weight, self.b.weight)), torch.cat((self.a.bias, self.b.bias))
        return F.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)


def test_concatenated_weights_lose_rows_independently():
    net, coupling = traced(Odd(applied, layer=Side()).eval())
    assert [group.channels for layer in ("layer.a", "layer.b") for group in coupling.output_groups(layer)] == [5, 3]
    assert proved_groups(net, coupling) == 3


class Standardised(nn.Conv2d):
    """Every row with a mean of 0 and a deviation of 1."""

    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class Turned(nn.Conv2d):
    """A kernel that no rule follows."""

    def forward(self, x):
        w = self.weight
        return F.conv2d(x, w * w.flatten(1).triu().view_as(w), self.bias, self.stride, self.padding)


@pytest.fixture(scope="module")
def family():
    """A YOLOv8n with computed weights of many kinds."""
    torch.manual_seed(0)
    checkpoint = open_model("yolov8n.yaml")
    model = checkpoint.model
    for path, compute in {
        "model.0.conv": weight_norm, "model.2.cv1.conv": masked_unstructured, "model.4.cv2.conv": parametrizations.weight_norm,
        "model.15.cv1.conv": parametrizations.spectral_norm, "model.22.cv3.0.0.conv": spectral_norm,
    }.items():  # fmt: skip
        compute(model.get_submodule(path))
    model.get_submodule("model.7.conv").__class__ = Standardised
    model.get_submodule("model.5.conv").__class__ = Turned
    model.eval().requires_grad_(False)
    return analyse(checkpoint, 64)


def masked_unstructured(layer: nn.Module) -> nn.Module:
    return prune.random_unstructured(layer, "weight", 0.3)


def test_predicted_size_equals_the_cut_models_for_computed_weights(family):
    arithmetic = Arithmetic(family)
    assert arithmetic.whole.size.flops == family.measurement.flops
    free = [group for group in family.coupling.groups if group.prunable]
    assert len(free) > 40
    for removal in [smallest_removal(family.coupling, [group]) for group in free] + [smallest_removal(family.coupling, free)]:
        pruned = cut(family.skeleton, family.coupling, removal)
        size = arithmetic.widths(removal).size
        assert size.flops == measure(pruned, family.image_shape, sequence(pruned)).flops
        assert size.parameters == parameter_count(pruned)
    assert dry_run(family, smallest_removal(family.coupling, free)).ok


def test_layers_with_computed_weights_show_their_widths_and_lock_reasons(family):
    session = PruningSession(family)
    layers = {layer.name: layer for block in block_views(family, session.arithmetic) for layer in block.layers}
    assert (layers["model.0"].in_channels, layers["model.0"].out_channels, layers["model.0"].status) == (3, 16, "free")
    assert (layers["model.15.cv1"].in_channels, layers["model.15.cv1"].parameters) == (192, 192 * 64 + 2 * 64)
    turned, standardised = layers["model.5"], layers["model.6.cv2"]
    assert (turned.in_channels, turned.out_channels, turned.status) == (64, 128, "locked")
    assert turned.flops == 2 * 64 * 128 * 9 * 16
    assert standardised.reason == "mean mixes channels (mean in model.7.conv)"
    for name in layers:
        assert detail_view(session, name, [], "l2").current == layers[name].out_channels
