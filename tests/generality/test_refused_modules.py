"""What cannot be opened is refused in one sentence that says what to do, and nothing else happens."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import tui_pruner as tp
from tests.generality.modules import Between, image
from tui_pruner.core.model import inputs
from tui_pruner.domain.errors import ProgramEnd, user_code


def small(**options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6, **options), nn.ReLU(), nn.Linear(6, 2, **options))


def sparse() -> nn.Module:
    net = small()
    net[0].weight = nn.Parameter(net[0].weight.detach().to_sparse())
    return net


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(small(), {nn.Linear})


class Leaving(BaseException):
    """No error, by its class."""


def ending(error: BaseException) -> Callable[[Any, Any], Any]:
    def between(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        raise error

    return between


def hooked(net: nn.Module) -> nn.Module:
    net.register_forward_hook(lambda *_: sys.exit())
    return net


def cpu_made(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    found = torch.zeros(x.shape)
    found[:, :, 1:] = x[:, :, :-1]
    return found


VECTOR = torch.rand(2, 5)
REFUSED: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "no module": (lambda: 3, VECTOR, "a int is not a torch.nn.Module"),
    "a state": (lambda: small().state_dict(), VECTOR, "is not a torch.nn.Module"),
    "no inputs": (small, None, "give example_inputs"),
    "no tensor": (small, ("x",), "example_inputs have no tensor"),
    "inputs without values": (small, (VECTOR.to("meta"),), "example_inputs have no values"),
    "no sample": (small, (VECTOR[:0],), "example_inputs are empty"),
    "inputs of another width": (small, (torch.rand(2, 4),), "cannot|mat1"),
    "more inputs than it reads": (small, (VECTOR, VECTOR), "the forward stopped in Sequential: .*positional argument"),
    "whole numbers in place of real ones": (
        lambda: Between(lambda net, x: x), (torch.ones(1, 3, 8, 8, dtype=torch.long),), "stopped in first",
    ),
    "TorchScript": (lambda: torch.jit.script(small()), (VECTOR,), "the module is TorchScript"),
    "a part that is TorchScript": (lambda: nn.Sequential(torch.jit.script(small())), (VECTOR,), "0 is TorchScript"),
    "compiled": (lambda: torch.compile(small()), (VECTOR,), "wrapped in OptimizedModule: .* _orig_mod"),
    "wrapped": (lambda: nn.DataParallel(small()), (VECTOR,), "wrapped in DataParallel: .* module"),
    "on the meta device": (lambda: small(device="meta"), (VECTOR,), "0.weight is on the meta device"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(6), nn.Linear(6, 2)), (VECTOR,), "0.weight is not initialised yet"),
    "sparse": (sparse, (VECTOR,), "0.weight is sparse"),
    "quantised": (quantised, (VECTOR,), "0 is quantised"),
    "no parameters": (lambda: nn.ReLU(), (VECTOR,), "has no parameters"),
    "no layers": (lambda: nn.Sequential(nn.BatchNorm1d(5)), (VECTOR,), "no layer whose channels could be cut"),
    "a forward that decides by a value": (
        lambda: Between(lambda net, x: x if x.mean() > 0 else -x), image(),
        r"Between decides by a computed value.*; line \d+ of test_refused_modules.py: .*x.mean\(\) > 0",
    ),
    "a forward that asks for a value": (lambda: Between(lambda net, x: x * x.max().item()), image(), "decides by a computed value"),
    "a forward that counts what is not zero": (
        lambda: Between(lambda net, x: x * len(x.nonzero())), image(), "decides by a computed value",
    ),
    "a forward that raises": (lambda: Between(lambda net, x: {}["scale"]), image(), "the forward stopped in Between: KeyError: 'scale'"),
    "a forward that ends the program": (
        lambda: Between(ending(SystemExit(3))), image(), "the forward stopped in Between: the forward of Between raises SystemExit 3",
    ),
    "a forward that interrupts": (lambda: Between(ending(KeyboardInterrupt())), image(), "Between raises KeyboardInterrupt, which"),
    "a forward that raises what is no error": (lambda: Between(ending(Leaving("now"))), image(), "Between raises Leaving now, which"),
    "a hook that ends the program": (lambda: hooked(small()), (VECTOR,), "Sequential raises SystemExit, which would end this program"),
    "numbers by the time": (
        lambda: Between(lambda net, x: x * (1 + time.perf_counter())), image(), "computes with other numbers from run to run.*mul by",
    ),
    "features in a tensor on the CPU": (
        lambda: Between(cpu_made), image(), "writes features into a tensor that it makes on the CPU",
    ),
    "nothing out": (lambda: Empty(), image(), "no tensor is found"),
}  # fmt: skip


class Empty(nn.Module):
    """Returns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> None:
        self.first(x)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_module_is_refused_in_one_sentence(name):
    build, inputs, said = REFUSED[name]
    net = build()
    with pytest.raises(tp.PrunerError, match=said) as caught:
        tp.open(net, example_inputs=inputs)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_file_accepts_no_example_inputs():
    with pytest.raises(tp.RequestError, match="is a file, whose images are known"):
        tp.open("yolov8n.yaml", example_inputs=image())


def test_inputs_that_the_module_cannot_read_are_to_blame_for_a_failed_proof():
    net = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    session = tp.open(net, example_inputs=(torch.tensor([[3, 9]]),))
    session.apply(["1=50%"])
    with pytest.raises(tp.ProofError, match="the model itself does not run: index out of range in self; give inputs that the model reads"):
        session.model()


def test_files_trust_and_compressions_are_refused_for_a_module():
    with pytest.raises(tp.RequestError, match="trust is for a file"):
        tp.open(small(), example_inputs=(VECTOR,), trust="12345678")
    with pytest.raises(tp.RequestError, match="not for a Sequential: call target, reconstruct and save"):
        tp.compress(small(), data=[VECTOR], target="flops=50%", folder="out")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own.net:build", "is the name of a function: call it"),
        ("small.tp/model.safetensors", r"has weights alone: .* load\(folder, module\)"),
    ],
)
def test_name_of_no_checkpoint_is_refused_with_what_to_give(name: str, said: str):
    for given in ({}, {"example_inputs": image()}):
        with pytest.raises(tp.RequestError, match=said):
            tp.open(name, **given)


def test_module_with_only_an_output_layer_is_opened_with_all_layers_locked():
    session = tp.open(nn.Sequential(nn.Linear(5, 2)), example_inputs=(VECTOR,))
    with pytest.raises(tp.RequestError, match="feeds the model's predictions"):
        session.apply(["0=30%"])


def test_invalid_batches_are_refused():
    session = tp.open(small().eval(), example_inputs=(VECTOR,))
    with pytest.raises(tp.RequestError, match="apply a step first"):
        session.reconstruct([VECTOR])
    session.apply(["0=30%"])
    for wrong, said in (([], "no batch"), (["x"], "a batch is a str"), ([("x",)], "no tensor"), (3, "cannot be gone through")):
        with pytest.raises(tp.RequestError, match=said):
            session.reconstruct(wrong)
    with pytest.raises(tp.RequestError, match="no batch"):
        session.front(["flops=50%"], [])
    with pytest.raises(tp.RequestError, match="a latency is found by timing"):
        session.front(["latency=50%"], [VECTOR])
    assert [point.plan is None for point in session.front(["flops=50%", "flops=0.1%"], [VECTOR])] == [False, True]


def test_tensor_or_dict_alone_is_one_batch():
    batch = torch.rand(32, 5, generator=torch.Generator().manual_seed(0))
    session = tp.open(small().eval(), example_inputs=(VECTOR,))
    session.apply(["0=30%"])
    wanted = session.reconstruct([batch]).distance
    assert [session.reconstruct(given).distance for given in (batch, {"input": batch}, iter([batch]))] == [wanted] * 3


def test_functions_and_batches_that_exit_the_program_are_refused():
    def leaving(*_: Any) -> Any:
        raise SystemExit

    def one_batch() -> Iterator[Any]:
        yield VECTOR
        raise Leaving

    session = tp.open(small().eval(), example_inputs=(VECTOR,), evaluate=leaving, loss=leaving)
    said = "raises (SystemExit|Leaving), which would end this program: have it return"
    session.apply(["0=30%"])
    for use in (
        session.evaluate,
        lambda: session.target("flops=50%", data=[VECTOR], criterion="taylor"),
        lambda: session.target("flops=50%", data=one_batch()),
        lambda: session.reconstruct(one_batch()),
    ):
        with pytest.raises(ProgramEnd, match=said):
            use()
    assert session.prove().equal


def test_forward_that_exits_below_some_width_locks_that_width():
    def between(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return x if x.shape[1] == 16 else sys.exit("too narrow")

    session = tp.open(Between(between), example_inputs=image())
    with pytest.raises(tp.RequestError, match="locked"):
        session.apply(["first=30%"])


def test_ctrl_c_in_user_code_is_raised_as_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt), user_code("the forward"):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(ProgramEnd), user_code("the forward"):
        ending(KeyboardInterrupt())(small(), VECTOR)


def test_second_ctrl_c_in_asyncio_is_raised_as_keyboard_interrupt():
    async def computing() -> None:
        signal.raise_signal(signal.SIGINT)  # asyncio's handler only cancels the task at the first one
        with user_code("the forward"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(computing())


WRONG_CALLS: dict[str, tuple[Callable[[tp.Session], Any], str]] = {
    "a cut that is no text": (lambda session: session.apply([3]), "are texts, not int"),
    "no cuts at all": (lambda session: session.preview(None), "are texts, not NoneType"),
    "no target": (lambda session: session.target(), "which target"),
    "a target that is a number": (lambda session: session.target(0.7), "are texts, not float"),
    "batches of another width": (lambda session: session.reconstruct([torch.rand(8, 4)]), "does not run on these batches .*mat1"),
    "a target on such batches": (lambda session: session.target("flops=50%", data=[torch.rand(8, 4)]), "does not run on these batches"),
    "batches that are no numbers": (
        lambda session: session.reconstruct([torch.full((8, 5), float("nan"))]), "0 reads or gives NaN or infinity on these images",
    ),
    "a target on batches that are no numbers": (
        lambda session: session.target("flops=50%", data=[torch.full((8, 5), float("nan"))]), "0 reads NaN or infinity on these images",
    ),
    "a target on few that are no numbers": (
        lambda session: session.target("flops=50%", data=[torch.full((1, 5), float("inf"))]), "0 reads NaN or infinity on these images",
    ),
    "a criterion without its data": (
        lambda session: session.target("flops=50%", criterion="obs"), "call target with this criterion and data=",
    ),
    "batches without an end": (lambda session: session.reconstruct(itertools.repeat(VECTOR)), "do not end .*islice"),
    "a loader without an end": (lambda session: session.reconstruct(DataLoader(Endless(), 2)), "do not end .*islice"),
    "held out batches without an end": (lambda session: session.reconstruct([VECTOR], itertools.repeat(VECTOR)), "do not end"),
    "batches in another layout": (lambda session: session.reconstruct([VECTOR.to_sparse()]), "not run on these batches .{0,170}: give"),
}  # fmt: skip


class Endless(IterableDataset[torch.Tensor]):
    """Rows without an end."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return itertools.repeat(VECTOR[0])


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_invalid_call_raises_a_request_error_and_changes_nothing(case: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inputs, "MOST_BATCHES", 64)
    call, words = WRONG_CALLS[case]
    session = tp.open(small(), example_inputs=VECTOR)
    session.apply("0=keep:4")
    with pytest.raises(tp.RequestError, match=words):
        call(session)
    assert [step.cuts[0].amount for step in session.steps] == ["keep:4"]
    assert session.prove().equal


def test_targets_can_be_given_as_a_list():
    module = small()
    one, other = (tp.open(module, example_inputs=VECTOR) for _ in range(2))
    assert one.target("flops=80%", "params=80%") == other.target(["flops=80%", "params=80%"])
