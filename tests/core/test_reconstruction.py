"""The refit on small networks whose right answer is known: exact where removed channels repeat kept ones, harmless elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tui_pruner.core.recovery.applications import Application, Applying, Parameters, observe
from tui_pruner.core.recovery.disagreement import OriginalPredictions
from tui_pruner.core.recovery.least_squares import Equations, as_matrix, as_weight, inputs_at, outputs_at, sample
from tui_pruner.core.recovery.reconstruction import Fit, RefitSettings, reconstruct, recover

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1), (2, 6, 9, 7)),
    "dilated": (lambda: nn.Conv2d(6, 8, (3, 2), dilation=2, padding=(2, 0)), (2, 6, 9, 7)),
    "grouped": (lambda: nn.Conv2d(6, 9, 3, groups=3, bias=False), (2, 6, 8, 8)),
    "depthwise": (lambda: nn.Conv2d(6, 12, 3, groups=6, padding=1), (2, 6, 8, 8)),
    "reflecting": (lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (2, 6, 8, 8)),
    "one dimension": (lambda: nn.Conv1d(6, 8, 5, stride=3, padding=2), (2, 6, 17)),
    "volume": (lambda: nn.Conv3d(4, 5, 2, stride=(1, 2, 1)), (2, 4, 4, 6, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 8, 2, stride=2), (2, 6, 5, 4)),
    "transposed, overlapping": (lambda: nn.ConvTranspose2d(6, 8, 4, stride=3, padding=1, output_padding=1, dilation=2), (2, 6, 5, 4)),
    "transposed, grouped": (lambda: nn.ConvTranspose2d(6, 8, 3, stride=2, groups=2), (2, 6, 5, 4)),
    "linear": (lambda: nn.Linear(6, 8), (5, 6)),
    "linear on tokens": (lambda: nn.Linear(6, 8), (3, 5, 6)),
    "linear without bias": (lambda: nn.Linear(6, 8, bias=False), (3, 5, 6)),
}


def applications(network: nn.Module, inputs: Tensor) -> list[Application]:
    found: list[Application] = []
    with torch.no_grad(), Applying(Parameters(network), lambda application: None, found.append):
        network(inputs)
    return found


@pytest.mark.parametrize("kind", LAYERS)
def test_layer_inputs_times_matrix_equal_the_layer_outputs(kind: str) -> None:
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    layer = make()
    (application,) = applications(layer, torch.randn(shape))
    picks = sample(application, 11, seed=1)
    given = inputs_at(application, picks) @ as_matrix(layer.weight.detach(), application.geometry)  # type: ignore[arg-type]
    wanted = outputs_at(application, picks)
    bias = layer.bias.detach() if layer.bias is not None else torch.zeros(wanted.shape[1])  # type: ignore[operator, union-attr]
    assert torch.allclose(given.transpose(0, 1).reshape(len(wanted), -1) + bias, wanted, atol=1e-5)
    assert torch.equal(as_weight(as_matrix(layer.weight, application.geometry), application.geometry), layer.weight)  # type: ignore[arg-type]


def test_equations_recover_the_weights_and_estimate_their_error() -> None:
    torch.manual_seed(0)
    inputs, weights = torch.randn(1, 400, 5), torch.randn(5, 3)
    wanted = inputs[0] @ weights + torch.tensor([1.0, -2.0, 3.0])
    equations = Equations(intercept=True)
    for rows in (slice(0, 150), slice(150, 400)):
        equations.add(inputs[:, rows], wanted[rows], wanted[rows])  # from a layer that gives nothing at all
    correction = equations.correction(1e-9)
    assert torch.allclose(correction[0, :5].float(), weights, atol=1e-4)
    assert torch.allclose(correction[0, 5].float(), torch.tensor([1.0, -2.0, 3.0]), atol=1e-4)
    assert equations.energy == pytest.approx(float((wanted - wanted.mean(0)).double().square().sum()), rel=1e-6)
    assert equations.error() == pytest.approx(float(wanted.double().square().sum()) / equations.energy, rel=1e-6)
    assert equations.error(correction) < 1e-6  # the products are in float32


class Doubled(nn.Module):
    """Channels 4 to 7 of the first layer repeat 0 to 3, so that the readers of half of them can make up for the other half."""

    def __init__(self, reader: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.reader, self.after = reader, after or nn.Identity()
        with torch.no_grad():
            self.first.weight[4:] = self.first.weight[:4] * torch.tensor([0.5, 1.0, 1.5, -2.0])[:, None, None, None]
            self.norm.running_mean.normal_()  # type: ignore[union-attr]
            self.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.after(self.reader(self.norm(self.first(images))))
        return output


def halved(network: Doubled) -> tuple[Doubled, dict[str, dict[int, np.ndarray]]]:
    """The network without channels 4 to 7, by hand, and what each parameter keeps."""
    small, rest = copy.deepcopy(network), np.arange(4)
    small.first.weight = nn.Parameter(network.first.weight[:4].detach().clone())
    for name in ("weight", "bias", "running_mean", "running_var"):
        part = getattr(network.norm, name)[:4].detach().clone()
        setattr(small.norm, name, nn.Parameter(part) if name in ("weight", "bias") else part)
    reader = network.reader[0] if isinstance(network.reader, nn.Sequential) else network.reader
    target = small.reader[0] if isinstance(small.reader, nn.Sequential) else small.reader
    dim = 0 if isinstance(reader, nn.ConvTranspose2d) else 1
    target.weight = nn.Parameter(reader.weight.index_select(dim, torch.arange(4)).detach().clone())  # type: ignore[union-attr, operator]
    name = "reader.0.weight" if isinstance(network.reader, nn.Sequential) else "reader.weight"
    return small.eval(), {"first.weight": {0: rest}, name: {dim: rest}}


def images(count: int, seed: int = 0, side: int = 10) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 3, side, side, generator=generator) for _ in range(count)]


READERS = {
    "convolution with bias": lambda: nn.Conv2d(8, 5, 3),
    "normalised": lambda: nn.Sequential(nn.Conv2d(8, 5, 3, bias=False), nn.BatchNorm2d(5)),
    "transposed": lambda: nn.ConvTranspose2d(8, 5, 2, stride=2),
}
EXACT = RefitSettings(ridges=(1e-9,))


@pytest.mark.parametrize("reader", READERS)
def test_reader_compensates_exactly_for_channels_that_repeat_others(reader: str) -> None:
    torch.manual_seed(1)
    network = Doubled(READERS[reader]()).eval()
    if reader == "transposed":  # a constant in its input is another one for each place of the kernel, which no bias makes up for
        network.norm.running_mean.zero_()  # type: ignore[union-attr]
    small, kept = halved(network)
    batches, held_out = images(3), images(1, seed=5)
    cut = OriginalPredictions(network, held_out).distance(small)["output 0"]
    found = reconstruct(network, small, kept, batches, held_out, settings=EXACT)
    assert cut > 0.1
    assert OriginalPredictions(network, held_out).distance(found.model)["output 0"] < 1e-3
    by_layer = {fit.layer: fit for fit in found.fits}
    assert by_layer["first"].error_before < 1e-10  # nothing in front of it changed
    assert torch.equal(found.model.first.weight, small.first.weight)  # type: ignore[union-attr, arg-type]
    fit = by_layer["reader.0" if reader == "normalised" else "reader"]
    assert fit.error_before > 0.01
    assert fit.error_after < 1e-5


def test_refit_changes_neither_of_the_given_networks() -> None:
    torch.manual_seed(1)
    network = Doubled(nn.Conv2d(8, 5, 3)).eval()
    small, kept = halved(network)
    before = [copy.deepcopy(one.state_dict()) for one in (network, small)]
    recover(network, small, kept, images(2), images(1, seed=5))
    for one, state in zip((network, small), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())


def test_memory_limit_for_activations_does_not_change_the_result() -> None:
    torch.manual_seed(1)
    network = Doubled(nn.Sequential(nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3))).eval()
    small, kept = halved(network)
    much, none = (
        reconstruct(network, small, kept, images(3), images(1, seed=5), settings=RefitSettings(ridges=(1e-3,), memory_limit=memory_limit))
        for memory_limit in (1 << 30, 0)
    )
    assert [fit.error_after for fit in much.fits] == pytest.approx([fit.error_after for fit in none.fits], rel=1e-6)
    for name, value in much.model.state_dict().items():
        assert torch.allclose(value, none.model.state_dict()[name], atol=1e-6)


class Twice(nn.Module):
    """One convolution that runs twice, and whose weight a second module has too."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.tied, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.tied.weight = self.shared.weight

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.last(self.tied(self.shared(self.shared(inputs).tanh())).tanh())
        return output


def test_weight_that_runs_several_times_is_fitted_to_all_uses_at_once() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), Twice()).eval()
    damaged = copy.deepcopy(network)
    with torch.no_grad():
        damaged[1].shared.weight.mul_(0.5)  # type: ignore[union-attr, operator]
    sites = [site for site in observe(network, images(1)[0]) if site.weight == "1.shared.weight"]
    assert [(site.turn, site.bias) for site in sites] == [(0, "1.shared.bias"), (1, "1.shared.bias"), (2, "1.tied.bias")]
    found = reconstruct(network, damaged, {}, images(3), images(1, seed=5), settings=EXACT)
    assert [fit.layer for fit in found.fits] == ["0", "1.shared", "1.last"]
    judge = OriginalPredictions(network, images(1, seed=5))
    assert judge.distance(found.model)["output 0"] < 0.5 * judge.distance(damaged)["output 0"]
    assert found.model[1].shared.weight is found.model[1].tied.weight  # type: ignore[index, union-attr]


def test_fit_that_does_not_help_on_held_out_images_is_discarded() -> None:
    torch.manual_seed(3)
    network = Doubled(nn.Conv2d(8, 5, 3)).eval()
    small, kept = halved(network)
    grey = [torch.zeros(4, 3, 10, 10)]  # one colour says nothing of how channels go together
    found = reconstruct(network, small, kept, grey, images(1, seed=5), settings=RefitSettings(ridges=(1e-3,)))
    judged = OriginalPredictions(network, images(1, seed=5))
    assert all(fit.error_after <= fit.error_before for fit in found.fits)
    best = recover(network, small, kept, grey, images(1, seed=5), settings=RefitSettings(ridges=(1e-3,)))
    assert best.distance[best.kept] == min(best.distance.values()) <= best.distance["cut"]
    assert judged.distance(best.model)["output 0"] == pytest.approx(best.outputs[best.kept]["output 0"], rel=1e-5)


def test_interrupted_refit_resumes_after_the_last_finished_layer() -> None:
    torch.manual_seed(4)
    network = Doubled(nn.Sequential(nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3))).eval()
    small, kept = halved(network)

    class Notebook:
        def __init__(self) -> None:
            self.known: dict[tuple[str, int], tuple[Fit, dict[str, Tensor]]] = {}

        def load(self, weight: str, first: int) -> tuple[Fit, dict[str, Tensor]] | None:
            return self.known.get((weight, first))

        def store(self, weight: str, first: int, fit: Fit, tensors: dict[str, Tensor]) -> None:
            self.known[weight, first] = fit, {name: tensor.clone() for name, tensor in tensors.items()}

    class Killed(Exception): ...

    def stop(fit: Fit, done: int, total: int) -> None:
        if done == 2:
            raise Killed

    notebook, whole = Notebook(), reconstruct(network, small, kept, images(3), images(1, seed=5))
    with pytest.raises(Killed):
        reconstruct(network, small, kept, images(3), images(1, seed=5), memory=notebook, on_layer=stop)
    assert len(notebook.known) == 2
    again = reconstruct(network, small, kept, images(3), images(1, seed=5), memory=notebook)
    assert again.fits == whole.fits
    assert all(torch.equal(value, whole.model.state_dict()[name]) for name, value in again.model.state_dict().items())


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_few_rows_give_the_same_correction_as_the_normal_equations(intercept: bool, groups: int) -> None:
    torch.manual_seed(0)
    inputs, lacking, wanted = (torch.randn(*shape, dtype=torch.float64) for shape in ((groups, 16, 50), (16, 4 * groups), (16, 4 * groups)))
    few, many = Equations(intercept), Equations(intercept)
    for rows in (slice(0, 9), slice(9, 16)):
        few.add(inputs[:, rows], lacking[rows], wanted[rows])
    many.add(inputs, lacking, wanted)
    given, by_group = many._rows()
    many._sum_up(given[:, :0], by_group[:, :0])
    assert few._few and not many._few
    for ridge in (1e-3, 1e-1):
        correction = many.correction(ridge)
        assert torch.allclose(few.correction(ridge), correction, rtol=1e-8, atol=1e-9)
        assert few.error(correction) == pytest.approx(many.error(correction), rel=1e-9)


def test_equations_switch_to_sums_for_many_rows() -> None:
    torch.manual_seed(0)
    inputs, lacking = torch.randn(1, 60, 20), torch.randn(60, 3)
    at_once, batch_by_batch = Equations(True), Equations(True)
    at_once.add(inputs, lacking, lacking)
    for rows in (slice(0, 5), slice(5, 10), slice(10, 60)):
        batch_by_batch.add(inputs[:, rows], lacking[rows], lacking[rows])
    assert torch.allclose(at_once.correction(1e-2), batch_by_batch.correction(1e-2), rtol=1e-4, atol=1e-6)
