"""Whole inner blocks dropped: compared with a twin made here by hand, together with cuts, in plans, in files and after a refit."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from ultralytics.nn.modules.block import Bottleneck

from tests.core.conftest import ask, proof_of
from tests.core.independent import zero_removed_slices
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.model.flops import measure
from tui_pruner.core.model.layers import sequence
from tui_pruner.core.pruning.plan import parse_plan, removal_of_step, replay
from tui_pruner.core.pruning.preview import Arithmetic
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import by_tensor, cut
from tui_pruner.core.recovery.damage import Damage
from tui_pruner.core.recovery.reconstruction import RefitSettings, reconstruct
from tui_pruner.core.search.ladders import Rules
from tui_pruner.core.search.measured_damage import curves_of, drop_trials, droppable, drops_of, trials_of, with_drops
from tui_pruner.core.search.planner import Planner
from tui_pruner.core.search.rivals import DEPTH, rivals, uniform_search
from tui_pruner.core.search.targets import parse_target
from tui_pruner.core.tracing.inner_blocks import silenced_by
from tui_pruner.domain.cuts import parse_request
from tui_pruner.domain.errors import PlanError, RequestError
from tui_pruner.frameworks.ultralytics import build_from_yaml

BLOCKS = [
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "Conv", [128, 3, 2]],
    [-1, 2, "C2f", [128, True]],
    [-1, 1, "C3k2", [256, True, 0.5]],
    [-1, 2, "C3", [256, True]],
    [-1, 2, "RepC3", [256]],
    [-1, 1, "Conv", [512, 3, 2]],
    [-1, 1, "C3k2", [512, False, 0.25]],
    [-1, 1, "A2C2f", [512, True, 4]],
    [-1, 1, "C2PSA", [512]],
]
ADDING = {
    "model.2.m.0": ["cv2"],
    "model.2.m.1": ["cv2"],
    "model.3.m.0.m.0": ["cv2"],
    "model.3.m.0.m.1": ["cv2"],
    "model.4.m.0": ["cv2"],
    "model.4.m.1": ["cv2"],
    "model.7.m.0": ["cv2"],
    "model.8.m.0.0": ["attn.proj", "mlp.1"],
    "model.8.m.0.1": ["attn.proj", "mlp.1"],
    "model.9.m.0": ["attn.proj", "ffn.1"],
}
"""The layers whose zeros make a block hand out its input."""
REPLACING = ("model.3.m.0", "model.5.m.0", "model.5.m.1")
"""The blocks that make something else of their input."""
ONE_OF_EACH = ("model.2.m.1", "model.3.m.0", "model.3.m.0.m.1", "model.4.m.0", "model.5.m.1", "model.8.m.0", "model.8.m.0.1", "model.9.m.0")


def built(folder: Path, blocks: list[list[object]], *sources: int) -> Analysis:
    file = folder / "depth.yaml"
    description = {"nc": 3, "scales": {"n": [1.0, 0.125, 1024]}, "backbone": blocks, "head": [[list(sources), 1, "Detect", ["nc"]]]}
    file.write_text(yaml.safe_dump(description))
    torch.manual_seed(0)
    return analyse(build_from_yaml(str(file)), imgsz=64)


@pytest.fixture(scope="module")
def deep(tmp_path_factory) -> Analysis:
    """A narrow model with repeats of every kind."""
    return built(tmp_path_factory.mktemp("deep"), BLOCKS, 5, 9)


@pytest.fixture(scope="module")
def shallow(tmp_path_factory) -> Analysis:
    """Two repeats and little else."""
    return built(tmp_path_factory.mktemp("shallow"), [*BLOCKS[:3], [-1, 1, "Conv", [128, 3, 2]]], 3)


def test_layers_that_silence_a_block_are_its_last_norm_or_the_fused_convolution():
    block = Bottleneck(8, 8)
    assert silenced_by(block) == ("cv2.bn.weight", "cv2.bn.bias")
    del block.cv2.bn
    block.cv2.conv = nn.Conv2d(4, 8, 3)
    assert silenced_by(block) == ("cv2.conv.weight", "cv2.conv.bias")
    block.cv2.act = nn.Sigmoid()  # which makes a half of zero
    assert silenced_by(block) == silenced_by(Bottleneck(8, 8, shortcut=False)) == silenced_by(nn.Sequential(Bottleneck(8, 8), block)) == ()
    assert silenced_by(nn.Sequential(Bottleneck(8, 8))) == ("0.cv2.bn.weight", "0.cv2.bn.bias")


def dropped(analysis: Analysis, *cuts: str, base: Removal = NOTHING) -> Removal:
    found = ask(analysis, *cuts, base=base)
    found.demand_clean()
    return base.together(found.removal)


def by_hand(model: nn.Module, removal: Removal, kept: dict[str, dict[str, list[int]]]) -> nn.Module:
    """The original with zeros for what is cut, and with what a dropped block adds at zero, or its forward left out."""
    twin = zero_removed_slices(model, kept)
    for path in removal.dropped:
        below = [name for name in ADDING if name == path or name.startswith(f"{path}.")]
        if path in REPLACING:
            twin.get_submodule(path).forward = lambda tensor: tensor  # type: ignore[assignment]
            continue
        for name in below:
            for layer in ADDING[name]:
                norm = twin.get_submodule(f"{name}.{layer}.bn")
                nn.init.zeros_(norm.weight)
                nn.init.zeros_(norm.bias)
    return twin


def predictions(network: nn.Module) -> torch.Tensor:
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network.eval()(image)[0]


@cache
def predictions_of_original(model: nn.Module) -> torch.Tensor:
    return predictions(copy.deepcopy(model).double())


def difference_and_effect(analysis: Analysis, removal: Removal) -> tuple[float, float]:
    """How far the pruned model is from the twin made by hand, and that from the original."""
    model = analysis.checkpoint.model
    pruned = predictions(copy.deepcopy(cut(model, analysis.coupling, removal)).double())
    twin = predictions(by_hand(model, removal, removal.kept(analysis.coupling)))
    original = predictions_of_original(model)
    size = float(twin.abs().max())
    return float((pruned - twin).abs().max()) / size, float((twin - original).abs().max()) / size


def test_every_droppable_block_is_found(deep):
    inner = deep.coupling.inner
    assert set(inner) == {*ADDING, *REPLACING, "model.8.m.0"}
    assert {path for path, block in inner.items() if not block.silenced} == set(REPLACING)
    assert all(block.tied == bool(block.silenced) for block in inner.values())


@pytest.mark.parametrize("path", ONE_OF_EACH)
def test_model_without_a_block_equals_the_hand_made_twin_and_has_the_predicted_size(deep, path):
    removal = dropped(deep, f"{path}=drop")
    difference, effect = difference_and_effect(deep, removal)
    assert difference < 1e-9 < 1e-3 < effect
    said = Arithmetic(deep).widths(removal).size
    skeleton = cut(deep.skeleton, deep.coupling, removal)
    assert said.parameters == sum(p.numel() for p in skeleton.parameters()) < Arithmetic(deep).whole.size.parameters
    assert said.flops == measure(skeleton, deep.image_shape, sequence(skeleton)).flops


MIXED = ("model.2.m.1=drop", "model.3.m.0.m.0=drop", "model.5.m.0=drop", "model.8.m.0.1=drop", "model.9.m.0=drop")


@pytest.mark.parametrize("order", ["drop, then cut", "cut, then drop", "at once"])
def test_drops_and_cuts_give_the_same_model_in_any_order(deep, order):
    cuts = "model.[0-46-9]*=30%"
    both = {
        "drop, then cut": lambda: dropped(deep, cuts, base=dropped(deep, *MIXED)),
        "cut, then drop": lambda: dropped(deep, *MIXED, base=dropped(deep, cuts)),
        "at once": lambda: dropped(deep, cuts, *MIXED),
    }[order]()
    difference, effect = difference_and_effect(deep, both)
    assert difference < 1e-9 < effect
    skeleton = cut(deep.skeleton, deep.coupling, both)
    assert Arithmetic(deep).widths(both).size.parameters == sum(p.numel() for p in skeleton.parameters())
    if order == "at once":
        assert proof_of(deep, both).equal


def test_glob_drops_all_droppable_blocks_and_prefers_whole_blocks_to_their_parts(deep):
    removal = dropped(deep, "model.*.m.*=drop")
    assert set(removal.dropped) == {path for path in deep.coupling.inner if path.count(".m.") == 1 and not path.startswith("model.8.m.0.")}
    proof = proof_of(deep, removal)
    assert proof.equal and proof.effect > 1e-3


def test_dropped_branch_that_adds_zero_is_proved_with_other_weights(shallow):
    model = copy.deepcopy(shallow.checkpoint.model)
    norm = model.get_submodule("model.2.m.1.cv2.bn")
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)
    idle = Analysis(**{**vars(shallow), "checkpoint": copy.copy(shallow.checkpoint)})
    object.__setattr__(idle.checkpoint, "model", model)
    proof = proof_of(idle, dropped(idle, "model.2.m.1=drop"))
    assert proof.equal and proof.effect < 1e-9


def restore_the_dropped_block(pruned: nn.Module, model: nn.Module) -> None:
    pruned.get_submodule("model.2.m")._modules["1"] = model.get_submodule("model.2.m.1")


def test_wrong_drop_is_not_proved(shallow):
    model, removal = shallow.checkpoint.model, dropped(shallow, "model.2.m.1=drop")
    pruned = cut(model, shallow.coupling, removal)
    restore_the_dropped_block(pruned, model)
    assert not prove(model, pruned, shallow.coupling, removal).equal


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("model.3=drop", "it is the only path; what can go of it is model.3.m.0, model.3.m.0.m.0, model.3.m.0.m.1"),
        ("model.6=drop", r"it is the only path; this model can do without model.2.m.0, .* and 6 more"),
        ("model.5.cv1=drop", "it is the only path; this model can do without"),
        ("model.9.m.0.attn.qkv=drop", "it is a part of model.9.m.0, which can only go as a whole: ask for model.9.m.0=drop"),
        ("model.99=drop", "no such block; this model can do without"),
        ("*.cv1=drop", "no such block; this model can do without"),
    ],
)
def test_drop_of_the_only_path_is_refused_in_one_line(deep, asked, said):
    with pytest.raises(RequestError, match=f"cannot be dropped: {said}") as error:
        dropped(deep, asked)
    assert "\n" not in str(error.value)


def test_layers_locked_by_a_drop_are_refused_with_the_reason_and_skipped_by_globs(deep):
    base = dropped(deep, "model.2.m.1=drop", "5.m.0=drop")
    for asked, said in (
        ("model.2.m.1.cv1=50%", "locked: it went with the dropped block model.2.m.1"),
        ("model.5.cv1=50%", "locked: what the dropped block model.5.m.0 read and what it wrote stay whole"),
        ("model.2.m.1=drop", "model.2.m.1 is gone already"),
    ):
        with pytest.raises(RequestError, match=said):
            dropped(deep, asked, base=base)
    with pytest.raises(RequestError, match=r"model.5.m.0 cannot be dropped after a cut .*: drop it first"):
        dropped(deep, "model.5.m.0=drop", base=dropped(deep, "model.5.cv1=50%"))
    assert "model.2.m.1.cv1" in ask(deep, "model.2.*=25%", base=base).notes[0]


def test_session_undoes_a_drop_and_its_plan_keeps_it(deep):
    session = PruningSession(deep)
    whole = session.widths.size
    session.apply([parse_request("model.2.m.1.cv1=50%")])
    cut_once = session.widths.size
    session.apply([parse_request("model.2.m.1=drop"), parse_request("model.0=25%")])
    after, plain = session.widths.size, session.plan.plain()
    assert plain["steps"][1]["cuts"][0]["drops"] == ["model.2.m.1"] and "drops" not in plain["steps"][0]["cuts"][0]
    assert replay(parse_plan(plain), deep.coupling, deep.checkpoint.sha256).dropped == {"model.2.m.1"}
    session.undo()
    assert session.widths.size == cut_once
    session.undo()
    assert session.widths.size == whole
    session.redo()
    session.redo()
    assert session.widths.size == after
    other = PruningSession(deep)
    other.load(plain)
    assert other.plan == session.plan and other.widths.size == after
    for planned in plain["steps"]:
        for one in planned["cuts"]:
            one.pop("removes"), one.pop("drops", None)
    other.load(plain)  # as a person writes it
    assert other.plan == session.plan


def test_plan_that_drops_a_needed_block_is_refused(deep):
    cuts = [{"layer": "model.6", "amount": "drop", "drops": ["model.6"]}]
    plan = {"checkpoint": "depth.yaml", "sha256": deep.checkpoint.sha256, "steps": [{"cuts": cuts}]}
    with pytest.raises(PlanError, match=r"model.6 cannot be dropped: .* can do without model.2.m.0"):
        PruningSession(deep).load(plan)


SPARSE = RefitSettings(rows=4, most=60, least=20, ridges=(1e-2,))


def test_refit_works_after_a_dropped_block(shallow):
    model, coupling = shallow.checkpoint.model, shallow.coupling
    removal = dropped(shallow, "model.2.m.0=drop", "model.2.cv2=25%")
    pruned = cut(model, coupling, removal)
    batches = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    found = reconstruct(model, pruned, by_tensor(removal.stays(coupling)), batches[:2], batches[2:], settings=SPARSE)
    fits = {fit.layer: fit for fit in found.fits}
    assert not any(layer.startswith("model.2.m.0") for layer in fits)
    behind = fits["model.2.m.1.cv1.conv"]
    assert behind.error_after < behind.error_before and fits["model.0.conv"].error_before < 1e-9
    assert isinstance(found.model.get_submodule("model.2.m.0"), nn.Identity)


def made_up_damage(planner: Planner, of_a_block: float, of_all_channels: float) -> Damage:
    """Made-up damage: one figure for each block, and a share of another for each width."""
    trials = [*trials_of(planner.analysis, planner.ladders.ladders, planner.base, "l2", (0.25, 0.75)), *drop_trials(planner)]
    left = {trial.groups: sum(planner.base.left(planner.analysis.coupling.groups[n]) for n in trial.groups) for trial in trials}
    return Damage(
        {"box": 0.0, "class": 0.0},
        [(t, {"box": of_all_channels * sum(t.lost) / left[t.groups] if t.groups else of_a_block, "class": 0.0}) for t in trials],
    )


@pytest.mark.parametrize(("of_a_block", "most"), [(0.001, 99), (0.5, 1)])
def test_target_is_met_by_dropping_blocks_if_they_cost_least(deep, of_a_block, most):
    planner = Planner(deep, rules=Rules(protected=("model.4.m.*",)))
    damage = made_up_damage(planner, of_a_block, 0.2)
    curves, drops = curves_of(planner.ladders.ladders, damage), drops_of(damage, NOTHING)
    assert set(drops.damages) == {path for path in ADDING if not path.startswith("model.4.")}
    found = with_drops(planner, [parse_target("flops=75%")], "l2", curves, drops)
    assert found is not None and found.step is not None and 0.7 < found.shares["flops"] <= 0.75
    named = [one.layer for one in found.step.cuts if one.amount == "drop"]
    assert len(named) == most or 4 <= len(named) < most
    session = PruningSession(deep)
    session.load(session.plan.model_copy(update={"steps": [found.step]}).plain())
    assert session.widths.size == found.size and session.removal.dropped == set(named)
    plans, _ = rivals(planner, [parse_target("flops=75%")], "l2", {"uniform": uniform_search}, {DEPTH: found})
    assert [plan.name for plan in plans] == ["uniform", "depth"] and plans[1].removal.dropped == set(named)


def test_planning_continues_after_dropped_blocks(deep):
    base = dropped(deep, "model.2.m.1=drop", "model.9.m.0=drop")
    planner = Planner(deep, base)
    assert not {"model.2.m.1", "model.9.m.0"} & set(droppable(planner))
    left = planner.arithmetic.widths(base).size.flops / planner.original.flops
    found = planner.plan([parse_target("flops=60%")])
    assert planner.range.most["flops"] == pytest.approx(left) and found.step is not None
    after = base.together(removal_of_step(found.step, deep.coupling))
    after.check(deep.coupling)
    assert planner.arithmetic.widths(after).size == found.size
    assert measure(cut(deep.skeleton, deep.coupling, after), deep.image_shape, sequence(deep.skeleton)).flops == found.size.flops
    damage = made_up_damage(planner, 0.01, 0.2)
    deeper = with_drops(
        planner, [parse_target("flops=60%")], "l2", curves_of(planner.ladders.ladders, damage), drops_of(damage, planner.base)
    )
    assert deeper is not None and deeper.step is not None
    base.together(removal_of_step(deeper.step, deep.coupling)).check(deep.coupling)
