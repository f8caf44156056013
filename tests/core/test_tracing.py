"""A trace follows the forward as it runs: which module, which outputs, which paths; and it leaves nothing behind."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from tests.core.odd_models import Odd, convolution, proved_groups, traced
from tests.core.test_resolve import linked
from tui_pruner.core.model.analysis import smallest_input, trace_model
from tui_pruner.core.model.copies import without_weights
from tui_pruner.core.model.layers import sequence
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.coupling import couple
from tui_pruner.core.tracing.coupling_map import CouplingMap, locked_by_links
from tui_pruner.core.tracing.labels import Axis, FlowRecord, LinkedLabels
from tui_pruner.core.tracing.size_check import smallest_removal
from tui_pruner.core.tracing.tracer import trace
from tui_pruner.domain.deadlines import TimeUp
from tui_pruner.domain.errors import TraceError
from tui_pruner.frameworks.ultralytics import build_from_yaml


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def free(coupling: CouplingMap, layer: str) -> bool:
    return all(group.prunable for group in coupling.output_groups(layer))


def test_channels_added_to_the_image_are_locked():
    class Sharpened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.change, self.out = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1)

        def forward(self, image: Tensor) -> Tensor:
            return self.out(image + self.change(image))

    _, coupling = traced(Sharpened().eval())
    assert coupling.output_groups("change")[0].reason == "reads the image"


def test_failure_without_a_message_is_reported_by_its_class():
    def refuse(net: nn.Module, x: Tensor) -> Tensor:
        raise NotImplementedError

    with pytest.raises(TraceError, match="the forward stopped in Odd: NotImplementedError"):
        trace_model(Odd(refuse).eval())


def test_forward_that_exceeds_the_time_limit_is_refused_with_its_location():
    def late(net: nn.Module, x: Tensor) -> Tensor:
        raise TimeUp

    with pytest.raises(TraceError, match="the forward of Odd had not ended after 120 seconds, in Odd"):
        trace_model(Odd(late).eval())


def test_norm_of_another_width_is_refused_with_both_widths():
    def normalised(net: nn.Module, x: Tensor) -> Tensor:
        values = net.norm.weight, net.norm.bias, net.norm.running_mean, net.norm.running_var
        return torch.ops.aten._native_batch_norm_legit_no_training(x, *values, 0.1, 1e-3)[0]

    with pytest.raises(TraceError, match="_native_batch_norm_legit_no_training joins 7 with 8 channels at dimension 1"):
        trace_model(Odd(normalised, norm=nn.BatchNorm2d(7)).eval())


def test_trace_keeps_no_reference_to_the_model():
    skeleton = without_weights(Odd(lambda net, x: x).eval())
    trace(skeleton, (1, 3, 64, 64))
    alive = weakref.ref(skeleton)
    del skeleton
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("head", ["Detect", "v10Detect"])
def test_features_passed_through_by_a_head_are_not_predictions(head, tmp_path):
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [[1], 1, head, ["nc"]]]
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"nc": 3, "backbone": rows[:-1], "head": rows[-1:]}))
    model = build_from_yaml(str(path)).model
    _, coupling = trace_model(model)
    assert free(coupling, "model.0.conv") and free(coupling, "model.1.conv")
    widths = {path: len(groups) for path, groups in coupling.block_outputs.items()}
    assert widths == {"model.0": 16, "model.1": 32}
    (last,) = coupling.output_groups("model.1.conv")
    assert set(coupling.block_outputs["model.1"].tolist()) == {last.number}


@pytest.mark.parametrize("family", ["yolov10n", "yolo26n-seg"])
def test_features_detached_by_a_head_in_training_are_not_predictions(family):
    model = build_from_yaml(f"{family}.yaml", classes=3).model
    coupling = trace_model(model)[1]
    fed = [f"model.{number}" for number in model.model[-1].f]
    assert all(any(coupling.groups[group].prunable for group in coupling.block_outputs[path].tolist()) for path in fed)


class Detaching(nn.Module):
    """A module of no known class that hands its input out, apart from its gradient: anyone who reads that reads a prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x.detach()


def test_outputs_of_an_unknown_last_module_are_predictions():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Detaching()).eval()
    skeleton = without_weights(net)
    coupling = couple(trace(skeleton, (1, 3, 64, 64), [("1", skeleton[1])]))
    assert not free(coupling, "0")
    assert not free(coupling, "1.conv")


class Trained(nn.Module):
    """Reads its input in training by a head of its own, or in another way."""

    def __init__(self, aside: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = convolution(8, 8)
        if aside is not None:
            self.aside = aside

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if not self.training:
            return y
        return y + self.aside(y) if hasattr(self, "aside") else y.softmax(1)


def test_channels_read_by_a_head_of_training_are_coupled_to_it():
    net, coupling = traced(Odd(lambda net, x: net.body_of(x), body_of=Trained(nn.Conv2d(8, 8, 1))).eval())
    (group,) = coupling.output_groups("body_of.conv")
    assert "body_of.aside" in {member.axis.module for member in group.members}
    assert proved_groups(net, coupling) >= 2


def test_training_paths_are_not_traced_if_evaluation_reads_every_parameter():
    net, coupling = traced(Odd(lambda net, x: net.body_of(x), body_of=Trained()).eval())
    assert free(coupling, "body_of.conv")
    assert proved_groups(net, coupling) == 2


def test_norms_stay_in_evaluation_mode_on_training_paths():
    aside = nn.Sequential(nn.MaxPool2d(64), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    _, coupling = traced(Odd(lambda net, x: net.body_of(x), body_of=Trained(aside)).eval())
    (group,) = coupling.output_groups("body_of.aside.1")
    assert "body_of.aside.2" in {member.axis.module for member in group.members}


class Demanding(nn.Module):
    """Insists on targets in training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.aside = convolution(8, 8), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise ValueError("in training, targets should be passed")
        return self.conv(x)


def test_training_head_that_the_image_is_too_small_for_locks_its_inputs():
    aside = nn.Sequential(nn.AvgPool2d(65, stride=3), nn.Conv2d(8, 8, 1))
    net, coupling = traced(Odd(lambda net, x: net.body_of(x), body_of=Trained(aside)).eval())
    said = "a feature map of [64, 64] is too small for pooling by [65, 65]"
    assert coupling.output_groups("body_of.conv")[0].reason == (
        f"is read in training only, where it stops: {said} (training in body_of.aside)"
    )
    assert coupling.remarks == (
        f"the forward of training cannot be followed, as it stops in body_of.aside ({said}): what it reads stays as it is",
    )
    assert free(coupling, "stem") and proved_groups(net, coupling) == 1


def test_forward_that_fails_in_training_mode_is_cut_with_a_remark():
    net, coupling = traced(Odd(lambda net, x: net.body_of(x), body_of=Demanding()).eval())
    assert coupling.remarks == (
        "the forward of training cannot be followed, as it stops in body_of (in training, targets should be passed): "
        "layers that only training runs may not fit the pruned model",
    )
    assert proved_groups(net, coupling) == 2


@pytest.mark.parametrize(
    ("net", "part"),
    [
        (lambda script: Odd(lambda net, x: net.part(x), part=script), "part is TorchScript"),
        (lambda script: script, "the model is TorchScript"),
    ],
    ids=["a part", "all of it"],
)
def test_torchscript_module_is_refused_with_its_location(net, part):
    with pytest.raises(TraceError, match=rf"^{part}, whose operations cannot be followed: give the model from before torch.jit$"):
        trace_model(net(torch.jit.trace(nn.Conv2d(8, 8, 1), torch.rand(1, 8, 4, 4))))


def test_module_generated_by_torch_fx_is_cut_and_proved():
    net = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))).eval()
    net, coupling = traced(net)
    assert free(coupling, "0") and proved_groups(net, coupling) == 1
    assert cut(net, coupling, smallest_removal(coupling, coupling.output_groups("0"))).get_submodule("2").in_channels == 7


@pytest.mark.parametrize(
    "decide",
    [lambda x: x.mean().item(), lambda x: float(x.sum()), lambda x: x.amax((0, 2, 3)).tolist()[0], lambda x: len(x.nonzero()),
     lambda x: x.numpy().mean(), lambda x: len(x.unique()), lambda x: x[x > 0].mean(), lambda x: x.cpu().mean()],
    ids=["item", "float", "tolist", "nonzero", "numpy", "unique", "a mask", "cpu"],
)  # fmt: skip
def test_forward_that_reads_a_value_is_refused_in_one_line(decide):
    with pytest.raises(TraceError) as caught:
        trace_model(Odd(lambda net, x: x * decide(x)).eval())
    assert str(caught.value).startswith(
        "Odd decides by a computed value, which a trace of the shapes does not have: such a forward cannot be"
    )
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_missing_key_in_a_forward_is_reported_as_key_error():
    with pytest.raises(TraceError, match="the forward stopped in Odd: KeyError: 'scale'"):
        trace_model(Odd(lambda net, x: x * {}["scale"]).eval())


def test_kernel_sizes_are_not_channels():
    _, coupling = traced(Odd(lambda net, x: x).eval())
    assert {axis.dim for axis in coupling.sizes if axis.parameter == "stem.weight"} == {0, 1}


@pytest.mark.parametrize("constant", [lambda net, x: net.scale, lambda net, x: x.new_ones(1).exp()], ids=["a number", "a constant"])
def test_operation_without_a_rule_is_ignored_if_no_channel_enters_it(constant):
    net, coupling = traced(Odd(lambda net, x: x * torch.tan(constant(net, x)), scale=nn.Parameter(torch.tensor(0.5))).eval())
    assert not coupling.unknown_operations
    assert proved_groups(net, coupling) == 1


def test_operation_without_a_rule_locks_only_the_channels_that_enter_it():
    def convolved(net: nn.Module, x: Tensor) -> Tensor:
        return F.conv2d(net.before(x), torch.tan(net.odd.weight), padding=1)

    _, coupling = traced(Odd(convolved, before=convolution(8, 8), odd=convolution(8, 8)).eval())
    assert free(coupling, "stem")
    assert coupling.output_groups("before")[0].reason.startswith("is convolved with a weight that is computed")


def test_parameters_are_classified_by_their_role():
    _, coupling = traced(Odd(lambda net, x: net.norm(net.deep(x)), norm=nn.BatchNorm2d(8), deep=convolution(8, 8, groups=8)).eval())
    found = {(axis.parameter, axis.dim): role for axis, role in coupling.roles.items()}
    assert found == {
        ("stem.weight", 0): "out", ("stem.weight", 1): "in", ("stem.bias", 0): "scale", ("deep.weight", 0): "depthwise",
        ("deep.bias", 0): "scale", ("norm.weight", 0): "norm", ("norm.bias", 0): "norm", ("norm.running_mean", 0): "norm",
        ("norm.running_var", 0): "norm", ("out.weight", 0): "out", ("out.weight", 1): "in", ("out.bias", 0): "scale",
    }  # fmt: skip


def test_integers_can_be_stacked_with_a_feature_map():
    net, coupling = traced(Odd(lambda net, x: torch.stack((x, x.argmax(3, keepdim=True).expand_as(x))).sum(0)).eval())
    assert proved_groups(net, coupling) == 1


class Viewing(nn.Module):
    """One view names its width, the next asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = convolution(8, 8), convolution(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).view(x.shape[0], 8, -1).unflatten(2, x.shape[2:])
        z = self.second(y)
        return z.view(z.shape[0], z.shape[1], -1).unflatten(2, x.shape[2:])


def test_view_with_a_fixed_width_does_not_lock_one_that_asks_for_it():
    net, coupling = traced(Odd(lambda net, x: net.views(x), views=Viewing()).eval())
    assert coupling.output_groups("views.first")[0].reason.startswith("the forward names this width")
    assert free(coupling, "views.second")
    assert proved_groups(net, coupling) == 2


def test_block_outputs_are_recorded_only_on_request():
    model = build_from_yaml("yolov8n.yaml").model
    skeleton = without_weights(model)
    assert not trace(skeleton, smallest_input(model)).block_outputs
    assert len(trace(skeleton, smallest_input(model), sequence(skeleton)).block_outputs) == 22


def test_only_forwards_that_may_fix_a_width_are_tried():
    model = build_from_yaml("yolov8n.yaml").model
    record = trace(without_weights(model), smallest_input(model))
    assert {entry.place[0] for entry in record.sized} == {"Detect", "DFL"}  # C2f splits by an attribute that its adapter rewrites


def test_linked_channels_are_distinguished_from_those_read_by_another_layer():
    record = FlowRecord()
    written, read = record.source.for_axis(Axis("first.weight", 0), 6), record.source.for_axis(Axis("last.weight", 1), 2)
    operation = record.note("chunk", "").index
    record.links.append(LinkedLabels(operation, (written[:2], written[2:4])))
    record.unify(operation, written[4:], read)
    groups = couple(record).groups
    assert [[member.indices.reshape(-1).tolist() for member in group.members] for group in groups] == [[[0, 1]], [[2, 3]], [[4, 5], [0, 1]]]


def test_lock_spreads_along_links_until_every_part_can_lose_channels():
    coupling = linked([8] * 5, ((1,), (2,)), ((0,), (1,)), ((0, 3), (4,)), locked=(0,))
    held = locked_by_links(list(coupling.groups), coupling.links)
    assert [group.prunable for group in held] == [False, False, False, True, True]
    assert held[2].reason == "must stay as wide as another part, which is locked (split in net)"


def test_module_outside_the_networks_tree_is_not_reported_as_a_location():
    hidden = nn.Sequential(nn.ReLU(), nn.Identity())

    class Borrowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, image: Tensor) -> Tensor:
            return self.second(hidden(self.first(image)))

    model = Borrowing().eval()
    _, coupling = traced(model)
    assert free(coupling, "first") and proved_groups(model, coupling) == 1


def test_single_channel_is_a_group_that_the_next_layer_reads():
    class Squeezing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.one, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1), nn.Conv2d(1, 4, 1)

        def forward(self, image: Tensor) -> Tensor:
            return self.last(self.one(self.first(image)))

    _, coupling = traced(Squeezing().eval())
    (group,) = coupling.output_groups("one")
    axes = (Axis("one.weight", 0), Axis("one.bias", 0), Axis("last.weight", 1))
    assert {member.axis: member.indices.tolist() for member in group.members} == {axis: [[0]] for axis in axes}
    assert group.lock is None and len(coupling.output_groups("first")) == 1
