"""A cut module is exported by PyTorch as any other, for batches of any size, and computes the same there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import tui_pruner as tp


class Recurrent(nn.Module):
    """Reads tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(30, 8), nn.LSTM(8, 12, batch_first=True, bidirectional=True)
        self.mid, self.out = nn.Linear(24, 10), nn.Linear(10, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.relu(self.mid(self.lstm(self.embed(tokens))[0][:, -1])))


class Attentive(nn.Module):
    """Has heads that can be narrowed."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x + self.attention(x, x, x, need_weights=False)[0])


class Both(nn.Module):
    """Reads an image and a vector, and returns outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.side, self.box, self.label = nn.Conv2d(3, 12, 3), nn.Linear(5, 12), nn.Conv2d(12, 4, 1), nn.Linear(12, 3)

    def forward(self, image: Tensor, vector: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.conv(image) + self.side(vector)[:, :, None, None])
        return {"box": self.box(x), "label": self.label(x.mean((2, 3)))}


class ByName(nn.Module):
    """Takes its inputs by name alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward(self, *, rows: Tensor, mask: Tensor) -> Tensor:
        return self.out(torch.relu(self.first(rows)) * mask[:, None])


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...], Mapping[str, Tensor], list[str]]] = {
    "tokens": (Recurrent, (torch.randint(0, 30, (2, 5)),), {}, ["lstm=25%", "mid=50%"]),
    "attention": (Attentive, (torch.rand(2, 5, 16),), {}, ["attention=25%"]),
    "two inputs": (Both, (torch.rand(2, 3, 8, 8), torch.rand(2, 5)), {}, ["conv=50%"]),
    "inputs by name": (ByName, (), {"rows": torch.rand(2, 6), "mask": torch.ones(2)}, ["first=50%"]),
}


def cut_and_loaded(name: str, folder: Path) -> nn.Module:
    """A cut module as it is after it was saved."""
    build, args, kwargs, cuts = CASES[name]
    session = tp.open(build().eval(), example_inputs=args or None, kwargs=kwargs)
    session.apply(cuts)
    assert session.prove().equal
    return tp.load(session.save(folder / "small.tp"), build())


def more(given: Any) -> Any:
    """The same inputs in a batch of another size."""
    return tree_map(lambda tensor: torch.cat([tensor, tensor.flip(0), tensor[:1]]), given)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:The tensor attributes")  # of PyTorch's own LSTM
def test_exported_program_computes_what_the_cut_module_computes(name: str, tmp_path: Path):
    module, (_, args, kwargs, _) = cut_and_loaded(name, tmp_path), CASES[name]
    batch = {0: torch.export.Dim("batch")}
    dynamic = tuple(batch for _ in args) if args else dict.fromkeys(kwargs, batch)
    program = torch.export.export(module, args, dict(kwargs), dynamic_shapes=dynamic).module()
    found, wanted = (tree_leaves(one(*more(args), **more(dict(kwargs)))) for one in (program, module))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", [name for name, (_, args, _, _) in CASES.items() if args])
@pytest.mark.filterwarnings("ignore")
def test_onnx_file_computes_what_the_cut_module_computes(name: str, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    module, args = cut_and_loaded(name, tmp_path), CASES[name][1]
    file, names = tmp_path / "small.onnx", [f"given{number}" for number in range(len(args))]
    torch.onnx.export(module, args, file, input_names=names, dynamic_axes={key: {0: "batch"} for key in names}, dynamo=False)
    running = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = running.run(None, {name: tensor.numpy() for name, tensor in zip(names, more(args), strict=True)})
    torch.testing.assert_close([torch.from_numpy(one) for one in found], tree_leaves(module(*more(args))))
