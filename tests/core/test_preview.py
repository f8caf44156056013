"""Predicted sizes equal those of the pruned model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.core.conftest import ask
from tests.core.test_families import narrowed
from tui_pruner.core.model.copies import without_weights
from tui_pruner.core.model.flops import measure, parameter_count
from tui_pruner.core.model.layers import sequence
from tui_pruner.core.pruning.preview import Arithmetic, dry_run
from tui_pruner.core.pruning.removal import NOTHING
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.labels import along, nothing
from tui_pruner.core.tracing.rules.contraction import work_labels
from tui_pruner.domain.cuts import parse_request
from tui_pruner.engine.views import detail_view, preview_view


@pytest.mark.parametrize("cuts", [[], ["5=50%"], ["model.4.cv2=30%", "6=20%"], ["*=40%"], ["model.22.*=60%", "model.0=keep:3"]])
def test_predicted_parameters_flops_and_shapes_equal_the_pruned_models(nano, cuts):
    removal = ask(nano, *cuts).removal
    widths = Arithmetic(nano).widths(removal)
    pruned = cut(nano.checkpoint.model, nano.coupling, removal)
    skeleton = without_weights(pruned)
    measured = measure(skeleton, nano.image_shape, sequence(skeleton))
    assert widths.size.parameters == parameter_count(pruned)
    assert widths.size.flops == measured.flops
    assert {block.path: widths.block_shape(block.path) for block in nano.blocks} == measured.output_shapes


def test_flops_at_640_equal_those_published_by_ultralytics():
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.frameworks.ultralytics import build_from_yaml

    full = analyse(build_from_yaml("yolov8n.yaml", classes=80), imgsz=640)
    assert full.measurement.flops / 1e9 == pytest.approx(8.7, abs=0.1)  # Ultralytics' table: 8.7 B for the fused model


def test_dry_run_agrees_and_copies_no_weight(nano):
    report = dry_run(nano, ask(nano, "*=30%").removal)
    assert report.ok
    assert all(parameter.is_meta for parameter in nano.skeleton.parameters())


def test_dry_run_reports_pytorchs_message_for_a_broken_cut(nano):
    from dataclasses import replace

    removal = ask(nano, "5=30%").removal
    (number,) = removal.places
    group = nano.coupling.groups[number]
    crippled = replace(group, members=tuple(member for member in group.members if member.role != "in"))
    groups = tuple(crippled if g.number == number else g for g in nano.coupling.groups)
    report = dry_run(replace(nano, coupling=replace(nano.coupling, groups=groups)), removal)
    assert not report.ok
    assert report.error.startswith("model.6.cv1.conv: ")


def test_detail_lists_all_affected_layers_with_the_reason(nano):
    detail = detail_view(PruningSession(nano), "model.6.m.0.cv2", [parse_request("model.6.m.0.cv2=30%")], "l2")
    along = {(member.layer, member.role): (member.before, member.after, member.because) for member in detail.members}
    assert along["model.6.m.1.cv2", "out"] == (64, 45, "added in model.6.m.1")
    assert along["model.6.cv1", "out"] == (128, 90, "added in model.6.m.0")
    assert along["model.6.cv1", "linked"] == (128, 90, "keeps as many as the other part (split in model.6)")
    assert along["model.6.cv2", "in"][:2] == (256, 180)
    assert (detail.before, detail.after, detail.status) == (64, 45, "coupled")
    assert detail.curve == sorted(detail.curve) and detail.curve[-1] == 1.0
    assert detail.cut_at == pytest.approx(19 / 64)


def test_smaller_widths_save_what_their_previews_do(nano):
    session = PruningSession(nano)
    apart = detail_view(session, "model.6.cv1", [parse_request("5=30%")], "l2")
    assert [found.keeps for found in apart.widths] == [112, 96, 80, 64, 48, 32]
    for found in apart.widths[1::2]:
        cut = preview_view(session, [parse_request(f"model.6.cv1=keep:{found.keeps}")])
        saved = cut.before.parameters - cut.after.parameters, cut.before.flops - cut.after.flops
        assert (found.parameters, found.flops) == saved and cut.layers["model.6.cv1"].out_after == found.keeps
    assert detail_view(session, "model.22.cv2.0.2", [], "l2").widths == []


def test_preview_without_cuts_has_the_size_of_the_checkpoint(nano):
    assert Arithmetic(nano).widths(NOTHING).size.parameters == 3_012_213


@pytest.mark.parametrize("name", ["yolo12n", "rtdetr-l"])
def test_flops_of_activation_products_follow_the_cut_channels(name, tmp_path):
    analysis = narrowed(name, tmp_path)
    assert any(factor.size for product in analysis.coupling.products for factor in product.factors)
    for cuts in (["*=40%"], ["*=15%"]):
        removal = ask(analysis, *cuts).removal
        widths = Arithmetic(analysis).widths(removal)
        pruned = cut(analysis.skeleton, analysis.coupling, removal)
        measured = measure(pruned, analysis.image_shape, sequence(pruned))
        assert widths.size.flops == measured.flops
        assert sum(widths.work_inside(block.path) for block in analysis.blocks) == pytest.approx(measured.flops, abs=len(analysis.blocks))


FOUR = np.arange(1, 5)


@pytest.mark.parametrize(
    ("left", "right", "work"),
    [
        (along(FOUR, 2, (2, 6, 4)), along(FOUR + 4, 1, (2, 4, 5)), [1, 2, 3, 4]),
        (torch.arange(1, 9).view(2, 1, 4).expand(2, 6, 4), nothing((2, 4, 5)), [1, 2, 3, 4, 5, 6, 7, 8]),
        (along(FOUR, 1, (2, 4, 6)), nothing((2, 6, 5)), [1, 2, 3, 4]),
        (nothing((2, 5, 6)), along(FOUR, 2, (2, 6, 4)), [1, 2, 3, 4]),
        (nothing((2, 5, 6)), nothing((2, 6, 4)), []),
    ],
    ids=["what is summed", "what is summed in each head", "rows", "columns", "no channels"],
)
def test_flops_of_a_product_follow_its_summed_or_else_its_kept_channels(left, right, work):
    assert work_labels(left, right).tolist() == work


def test_every_layer_and_block_has_its_predicted_size_after_a_cut(nano):
    removal = ask(nano, "*=40%").removal
    widths, pruned = Arithmetic(nano).widths(removal), cut(nano.skeleton, nano.coupling, removal)
    for block in nano.blocks:
        own = pruned.get_submodule(block.path)
        assert widths.parameters_inside(block.path) == sum(one.numel() for one in own.parameters()), block.path
    for layer in nano.layers.values():
        name, _, _ = layer.path.rpartition(".")
        module = pruned.get_submodule(name if layer.name == name else layer.path)
        assert widths.parameters_of_layers[layer.name] == sum(one.numel() for one in module.parameters()), layer.name
    assert sum(widths.flops_of_paths.values()) == pytest.approx(widths.size.flops, abs=len(widths.flops_of_paths))
