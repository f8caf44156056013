"""A checkpoint of another repository's code, with that code on the import path: traced, cut, proved and saved once it is trusted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tui_pruner as tp
from tests.cli.conftest import Call
from tests.core.independent import zero_removed_slices
from tests.generality.other_repository import forget, repository, saved
from tui_pruner.storage.trust import VARIABLE, fingerprint

IMAGE = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)),)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    with repository(tmp_path) as yolo:
        yield saved(yolo, tmp_path / "best.pt")


def test_foreign_checkpoint_is_opened_cut_and_proved_once_it_is_trusted(file: Path):
    with pytest.raises(tp.UntrustedError, match=f"best.pt is read by running what it says.*--trust {fingerprint(file)[:8]}"):
        tp.open(file, example_inputs=IMAGE)
    session = tp.open(file, example_inputs=IMAGE, trust=fingerprint(file)[:12])
    layers = session.layers()
    locked = {name for name, layer in layers.items() if layer.status == "locked"}
    assert locked == {name for name in layers if "model.13.m" in name or name.startswith("13.m")}
    before: Any = session.module.model
    session.apply([f"{name}=25%" for name, layer in layers.items() if name not in locked])
    assert session.prove().equal
    pruned: Any = session.model()
    assert all(tensor.dtype == torch.float16 for tensor in pruned.parameters())
    kept = session._steps.removal.kept(session._steps.analysis.coupling)
    image = IMAGE[0].double()
    with torch.no_grad():
        twin, small = zero_removed_slices(before, kept)(image)[0], zero_removed_slices(session._now(), {})(image)[0]
    assert torch.allclose(twin, small, atol=1e-9) and not torch.allclose(twin, zero_removed_slices(before, {})(image)[0], atol=1e-3)


def test_command_line_writes_a_foreign_model_without_pickle(file: Path, call: Call):
    module = ("--model", "best.pt", "--inputs", "entry:inputs", "--trust", fingerprint(file)[:8])
    answer = call("prune", *module, "--target", "flops=60%", "-o", "small.tp", "--json")
    assert answer.status == 0, answer.err
    assert answer.document["loads"] and answer.document["proof"]["equal"]
    assert call("prove", *module, "small.tp").status == 0


def test_file_without_a_module_or_without_its_code_is_refused_in_one_line(file: Path, call: Call, tmp_path: Path):
    torch.save({"model": nn.Linear(3, 3).state_dict()}, tmp_path / "state.pt")
    torch.save(Leaving(), tmp_path / "leaving.pt")
    for name, said in (("state", "holds no torch.nn.Module"), ("leaving", "leaving.pt raises SystemExit"), ("nowhere", "no file")):
        path = tmp_path / f"{name}.pt"
        trusted = ("--trust", fingerprint(path)) if path.exists() else ()
        answer = call("inspect", "--model", f"{name}.pt", "--inputs", "entry:inputs", *trusted)
        assert answer.status == 2 and said in answer.remarks[-1]
    for source in (tmp_path / "models").glob("*.py"):
        source.unlink()
    forget()
    answer = call("inspect", "--model", "best.pt", "--inputs", "entry:inputs", "--trust", fingerprint(file))
    assert answer.status == 2 and "put its folder on PYTHONPATH" in answer.remarks[-1]


class Leaving:
    """Ends the process that reads it."""

    def __reduce__(self) -> Any:
        return exit, (3,)
