"""A cut module is saved without pickle and loaded strictly into a freshly built one, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import tui_pruner as tp
from tests.generality.modules import CASES, Case
from tui_pruner.core.pruning.plan import as_ranges, from_ranges
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.cuts import parse_request
from tui_pruner.frameworks.plain.module_file import PLAN, WEIGHTS, same_state
from tui_pruner.frameworks.plain.named_module import NamedModule
from tui_pruner.storage.model_file import ModuleNames

TIED = "all arguments by name"
PLAIN = "a Sequential called model"


STAGED = """
import torch
from torch import nn

def build():
    return nn.Sequential(*(nn.Conv2d(a, b, 3) for a, b in ((3, 16), (16, 16), (16, 4))))

def inputs():
    return torch.rand(1, 3, 12, 12)
"""


def seeded(case: Case, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return case.build().eval()


def cut(name: str) -> tuple[tp.ModuleSession, Case]:
    case = CASES[name]
    session = tp.open(seeded(case), example_inputs=case.args, kwargs=case.kwargs)
    session.apply([f"{layer}=30%" for layer in case.cut])
    return session, case


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.cut])
def test_saved_module_is_loaded_exactly_into_a_newly_built_one(name, tmp_path):
    session, case = cut(name)
    folder = session.save(tmp_path / "small.tp")
    assert {file.name for file in folder.iterdir()} == {"plan.yaml", "model.safetensors", "about.json"}
    fresh = seeded(case, seed=1)
    before = {key: tensor.clone() for key, tensor in fresh.state_dict().items()}
    small = tp.load(folder, fresh)
    assert same_state(small, session.model())
    assert all(torch.equal(tensor, fresh.state_dict()[key]) for key, tensor in before.items())
    again = tp.apply_plan(seeded(case), folder / "plan.yaml")
    assert same_state(again, session.model())


def test_refitted_module_is_saved():
    session, case = cut(PLAIN)
    session.reconstruct([torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(n)) for n in range(3)])
    assert not same_state(session.model(), tp.apply_plan(seeded(case), session.plan()))


def test_refitted_module_is_loaded_as_fitted(tmp_path):
    session, case = cut(PLAIN)
    session.reconstruct([torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(n)) for n in range(3)])
    small = tp.load(session.save(tmp_path / "small.tp"), seeded(case, seed=2))
    assert same_state(small, session.model())
    assert json.loads((tmp_path / "small.tp" / "about.json").read_text())["refit"] == session._refit.kept


def test_what_was_cut_in_stages_is_loaded_through_the_folders_beside_it(tmp_path, monkeypatch):
    (tmp_path / "staged_net.py").write_text(STAGED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder, module = None, None
    for place, layer in (("first.tp", "0=50%"), ("second.tp", "1=50%"), ("third.tp", "0=50%")):
        module = NamedModule(ModuleNames("staged_net:build", "staged_net:inputs", folder=folder))
        steps = PruningSession(module.analysis())
        steps.apply([parse_request(layer, "l2", 1)])
        module.save(steps, steps.steps, place, force=False)
        folder = place
    assert module is not None
    fresh = module._made()
    assert [part.out_channels for part in tp.load("third.tp", fresh)] == [4, 8, 4]
    assert [part.out_channels for part in fresh] == [16, 16, 4]
    shutil.rmtree("first.tp")
    with pytest.raises(tp.PrunerError, match=r"second.tp was cut from what first.tp has, which is not beside it"):
        tp.load("third.tp", fresh)


def test_weight_with_two_owners_is_saved_once_and_stays_shared(tmp_path):
    session, case = cut(TIED)
    small = tp.load(session.save(tmp_path / "small.tp"), seeded(case, seed=1))
    assert small.scores.weight is small.table.weight
    meta = seeded(case).to("meta")
    meta.scores.weight = meta.table.weight
    filled = tp.load(tmp_path / "small.tp", meta)
    assert same_state(filled, small) and filled.scores.weight is filled.table.weight


def test_plan_is_replayed_by_a_session_and_refused_for_other_modules(tmp_path):
    session, case = cut(PLAIN)
    folder = session.save(tmp_path / "small.tp")
    other = tp.open(seeded(case, seed=3), example_inputs=case.args)
    other.load(folder / "plan.yaml")
    assert other.kept() == session.kept() and other.prove().equal
    with pytest.raises(tp.PlanError, match=r"was made for tests\.generality\.modules\.Sequential \(structure [0-9a-f]{12}\), not for this"):
        tp.load(folder, seeded(CASES["dense connections"]))
    wider = seeded(case)
    wider.head = nn.Conv2d(8, 5, 1)
    with pytest.raises(tp.PlanError, match="build the module with the same arguments"):
        tp.apply_plan(wider, folder)


def test_plan_by_hand_needs_the_example_inputs(tmp_path):
    session, case = cut(PLAIN)
    plan = session.plan()
    bare = {**plan, "steps": [{"cuts": [{"layer": "model.1", "amount": "keep:5"}]}]}
    del bare["kept"]
    with pytest.raises(tp.PlanError, match="give example_inputs"):
        tp.apply_plan(seeded(case), bare)
    assert tp.apply_plan(seeded(case), bare, example_inputs=case.args).model[1].out_channels == 5


def test_dropped_block_is_dropped_again_on_loading(tmp_path):
    class Repeat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.relu(self.body(x))

    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(Repeat(), Repeat()), nn.Conv2d(8, 4, 1)).eval()

    session = tp.open(build(), example_inputs=(torch.rand(1, 3, 12, 12),))
    session.apply(["1.1=drop", "0=25%"])
    assert session.prove().equal
    small = tp.load(session.save(tmp_path / "small.tp"), build())
    assert isinstance(small[1][1], nn.Identity) and same_state(small, session.model())


def damaged(folder: Path) -> None:
    plan = (folder / PLAN).read_text()
    (folder / PLAN).write_text(plan.partition("kept:")[0] + "kept:\n  model.1.weight:\n    '0': 3-900\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "has no model.safetensors"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"\x80\x02x"), "cannot be read"),
        (lambda folder: (folder / PLAN).write_text("format: 1"), "plan"),
        (lambda folder: damaged(folder), "ascending range|position"),
        (
            lambda folder: (folder / PLAN).write_text((folder / PLAN).read_text().split("kept:")[0]),
            "does not say what each parameter keeps",
        ),
    ],
)
def test_damaged_folder_is_refused(damage: Callable[[Path], object], said, tmp_path):
    session, case = cut(PLAIN)
    folder = session.save(tmp_path / "small.tp")
    damage(folder)
    with pytest.raises(tp.PrunerError, match=said) as caught:
        tp.load(folder, seeded(case))
    assert "\n" not in str(caught.value)


def test_weights_of_another_module_are_refused(tmp_path):
    session, case = cut(PLAIN)
    session.save(tmp_path / "one.tp")
    session.apply(["model.1=20%"])
    session.save(tmp_path / "two.tp")
    (tmp_path / "one.tp" / WEIGHTS).write_bytes((tmp_path / "two.tp" / WEIGHTS).read_bytes())
    with pytest.raises(tp.CheckpointError, match="they do not belong together"):
        tp.load(tmp_path / "one.tp", seeded(case))


def test_module_made_in_inference_mode_can_be_trained(tmp_path):
    session, case = cut(PLAIN)
    with torch.inference_mode():
        session.reconstruct([case.args])
        made = session.model()
        loaded = tp.load(session.save(tmp_path / "small.tp"), seeded(case))
    for model in (made, loaded):
        model(*case.args).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_module_without_values_is_filled_or_refused(tmp_path):
    def build(persistent: bool) -> nn.Module:
        net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
        net[1].register_buffer("noise", torch.rand(3), persistent)
        return net

    for persistent in (True, False):
        session = tp.open(build(persistent), example_inputs=(torch.rand(1, 3, 4, 4),))
        session.apply(["0=50%"])
        folder = session.save(tmp_path / f"{persistent}.tp")
        with torch.device("meta"):
            empty = build(persistent)
        if persistent:
            assert same_state(tp.load(folder, empty), session.model())
        else:
            with pytest.raises(tp.CheckpointError, match=r"1\.noise is in no state, so .* has no values for it"):
                tp.load(folder, empty)


def test_output_folder_is_checked_before_it_is_written(tmp_path):
    session, _ = cut(PLAIN)
    whole = tp.open(seeded(CASES[PLAIN]), example_inputs=CASES[PLAIN].args)
    with pytest.raises(tp.OutputError, match="nothing was cut"):
        whole.save(tmp_path / "whole.tp")
    with pytest.raises(tp.OutputError, match="no folder"):
        session.save(tmp_path / "nowhere" / "small.tp")
    session.save(tmp_path / "small.tp")
    with pytest.raises(tp.OutputError, match="exists already"):
        session.save(tmp_path / "small.tp")
    session.apply(["model.1=20%"])
    assert same_state(tp.load(session.save(tmp_path / "small.tp", force=True), seeded(CASES[PLAIN])), session.model())
    (tmp_path / "small.tp" / "notes.txt").write_text("mine")
    with pytest.raises(tp.OutputError, match="holds other files"):
        session.save(tmp_path / "small.tp", force=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small.tp"]


def test_positions_are_written_as_ranges():
    assert as_ranges([0, 1, 2, 5, 8, 9]) == "0-2,5,8-9"
    assert from_ranges("0-2,5,8-9").tolist() == [0, 1, 2, 5, 8, 9]
    for wrong in ("", "3-1", "1,1", "-2", "a", "0-99999999"):
        with pytest.raises(ValueError, match="ascending range"):
            from_ranges(wrong)
