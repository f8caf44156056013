"""Detectors, whose forward selects boxes by value: torchvision's are traced directly, others through a function of the user."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection as theirs
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign, nms

import tui_pruner as tp
from tests.core.independent import zero_removed_slices
from tui_pruner.frameworks.plain.adapters import by_regions, dense

SIDE = 64
SIZES: dict[str, Any] = {"min_size": SIDE, "max_size": SIDE}
EVERY: dict[str, Any] = {"score_thresh": 0.0, "detections_per_img": 20, "topk_candidates": 20}
REGIONS: dict[str, Any] = {"box_score_thresh": 0.0, "box_detections_per_img": 10}


def pyramid(widths: tuple[int, int] = (12, 16), out: int = 32) -> nn.Module:
    """Two feature maps with as many channels, and a third that is pooled."""
    layers = nn.Sequential(nn.Conv2d(3, widths[0], 3, 4, 1), nn.ReLU(), nn.Conv2d(*widths, 3, 2, 1), nn.ReLU())
    return BackboneWithFPN(layers, {"1": "0", "3": "1"}, list(widths), out)


def anchors(levels: int = 3) -> AnchorGenerator:
    return AnchorGenerator(tuple((8 * 2**level,) for level in range(levels)), ((1.0,),) * levels)


def rcnn(kind: Callable[..., nn.Module], **more: Any) -> nn.Module:
    pool = functools.partial(MultiScaleRoIAlign, ["0", "1"], sampling_ratio=2)
    heads = {"box_head": TwoMLPHead(32 * 9, 24), "box_predictor": FastRCNNPredictor(24, 3), "box_roi_pool": pool(output_size=3)}
    heads |= {"rpn_anchor_generator": anchors(), **{name: make(pool) for name, make in more.items()}}
    return kind(pyramid(), **heads, **SIZES, **REGIONS)


def ssd() -> nn.Module:
    backbone, boxes = pyramid(), DefaultBoxGenerator([[2]] * 3)
    head = theirs.ssd.SSDHead([32] * 3, boxes.num_anchors_per_location(), 3)
    return theirs.ssd.SSD(backbone, boxes, (SIDE, SIDE), 3, head=head, **EVERY)


DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "RetinaNet": lambda: theirs.RetinaNet(pyramid(), 3, anchor_generator=anchors(), **SIZES, **EVERY),
    "FCOS": lambda: theirs.FCOS(pyramid(), 3, anchor_generator=anchors(), **SIZES, **EVERY),
    "SSD": ssd,
    "Faster R-CNN": lambda: rcnn(theirs.FasterRCNN),
    "Mask R-CNN": lambda: rcnn(
        theirs.MaskRCNN,
        mask_roi_pool=lambda pool: pool(output_size=4),
        mask_head=lambda _: MaskRCNNHeads(32, [16, 16], 1),
        mask_predictor=lambda _: MaskRCNNPredictor(16, 16, 3),
    ),
    "Keypoint R-CNN": lambda: rcnn(
        theirs.KeypointRCNN,
        keypoint_roi_pool=lambda pool: pool(output_size=4),
        keypoint_head=lambda _: KeypointRCNNHeads(32, [16, 16]),
        keypoint_predictor=lambda _: KeypointRCNNPredictor(16, 4),
    ),
}
LEAST = {"FCOS": 0.2}
"""What can be cut of the channels; all elsewhere. FCOS has group norms in its heads."""


def detected(network: nn.Module, image: Tensor) -> list[Tensor]:
    """What a detector's own forward finds."""
    with torch.no_grad():
        (found,) = network([image[0]])
    return [found[name] for name in sorted(found)]


def prepared(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = DETECTORS[name]().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:  # torchvision draws its heads so small that a cut would hardly move them
                nn.init.kaiming_normal_(parameter)
    return net


@pytest.mark.parametrize("name", DETECTORS)
def test_torchvision_detector_is_cut_up_to_its_heads_and_detects_the_same_as_its_twin(name):
    net, image = prepared(name), torch.rand(1, 3, SIDE, SIDE)
    session = tp.open(net, example_inputs=([image[0]],))
    assert any("followed to its heads" in note for note in session.notes) and not any("never reads" in note for note in session.notes)
    written = [group for group in session.groups() if group.layers and "predictions" not in group.reason]
    free = sum(group.channels for group in written if group.prunable)
    assert free >= LEAST.get(name, 1.0) * sum(group.channels for group in written), [group.reason for group in written]
    session.target("params=70%")
    proof = session.prove()
    assert proof.equal and proof.effect > 1e-3
    pruned, twin = session.model().double(), zero_removed_slices(net, session.kept())
    mine, wanted, before = (detected(one, image.double()) for one in (pruned, twin, net.double()))
    assert wanted[0].shape[0] > 0 and [a.shape for a in mine] == [b.shape for b in wanted]
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(mine, wanted))
    assert any(a.shape != b.shape or not torch.allclose(a, b) for a, b in zip(before, wanted))


def test_detector_is_refitted_on_lists_of_images_and_loaded_again(tmp_path):
    net = prepared("RetinaNet")
    session = tp.open(net, example_inputs=(torch.rand(2, 3, SIDE, SIDE),))
    session.target("params=70%")
    session.reconstruct([([torch.rand(3, SIDE, SIDE)] * 2, ["labels"]), torch.rand(2, 3, SIDE, SIDE)])
    session.save(tmp_path / "small.tp")
    again, image = tp.load(tmp_path / "small.tp", prepared("RetinaNet")), torch.rand(1, 3, SIDE, SIDE)
    assert all(torch.equal(a, b) for a, b in zip(detected(again, image), detected(session.model(), image)))


def test_images_of_several_sizes_are_refused_in_one_sentence():
    with pytest.raises(tp.RequestError, match="images of one size"):
        tp.open(prepared("RetinaNet"), example_inputs=([torch.rand(3, 64, 64), torch.rand(3, 64, 32)],))


class Finding(nn.Module):
    """A detector of one's own: the boxes that are left depend on scores."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 12, 3, 2), nn.ReLU())
        self.scores, self.boxes = nn.Conv2d(12, 1, 1), nn.Conv2d(12, 4, 1)

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)
        return self.scores(features), self.boxes(features)

    def forward(self, x: Tensor) -> Tensor:
        scores, boxes = self.raw(x)
        corners = boxes.flatten(2).transpose(1, 2)[0]
        corners = torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:].abs()), 1)
        return corners[nms(corners, scores.flatten(), 0.5)]


def test_custom_detector_is_traced_through_a_function():
    torch.manual_seed(0)
    net, image = Finding().eval(), torch.rand(1, 3, 32, 32)
    with pytest.raises(tp.TraceError):
        tp.open(net, example_inputs=(image,))
    session = tp.open(net, example_inputs=(image,), forward=lambda module, x: module.raw(x))
    session.apply(["trunk.0=50%", "trunk.3=50%"])
    session.reconstruct([torch.rand(2, 3, 32, 32)])
    assert session.prove().equal
    assert session.model().trunk[0].out_channels == 8
    session.undo()
    session.apply(["trunk.0=50%", "trunk.3=50%"])
    with torch.no_grad():
        mine, wanted = (one.double()(image.double()) for one in (session.model(), zero_removed_slices(net, session.kept())))
    assert len(wanted) > 1 and torch.allclose(mine, wanted, rtol=1e-9, atol=1e-9)


def test_rt_detr_of_transformers_is_traced_unchanged():
    transformers = pytest.importorskip("transformers")
    trunk = transformers.RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1] * 4, layer_type="basic", out_features=["stage2", "stage3", "stage4"]
    )
    own: dict[str, Any] = {"anchor_image_size": None, "num_queries": 8, "decoder_layers": 1, "num_labels": 3}
    ways = dict.fromkeys(("encoder_hidden_dim", "d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 32)
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4)
    layers = {"encoder_in_channels": [24, 32, 48], "decoder_in_channels": [32] * 3}
    settings = transformers.RTDetrConfig(backbone_config=trunk, use_pretrained_backbone=False, **own, **ways, **heads, **layers)
    torch.manual_seed(0)
    net, image = transformers.RTDetrForObjectDetection(settings).eval(), torch.rand(1, 3, SIDE, SIDE)
    session = tp.open(net, example_inputs=(image,))
    free = [group.layers[0] for group in session.groups() if group.prunable]
    assert len(free) >= 20
    for layer in (free[0], "model.decoder.layers.0.fc1"):
        session.apply([f"{layer}=50%"])
    assert session.prove().equal
    with torch.no_grad():
        mine, wanted = (one.double()(image.double()) for one in (session.model(), zero_removed_slices(net, session.kept())))
    assert all(torch.allclose(mine[name], wanted[name], rtol=1e-9, atol=1e-9) for name in ("logits", "pred_boxes"))


def test_plan_written_by_hand_is_applied_through_the_same_function():
    net, image = Finding().eval(), torch.rand(1, 3, 32, 32)
    follow = Finding.raw
    plan = tp.open(net, example_inputs=(image,), forward=follow)
    plan.apply(["trunk.0=50%"])
    by_hand = {name: value for name, value in plan.plan().items() if name != "kept"}
    cut = tp.apply_plan(net, by_hand, example_inputs=(image,), forward=follow)
    assert cut.trunk[0].out_channels == 8


def test_forward_that_is_not_a_function_is_refused():
    with pytest.raises(tp.RequestError, match="forward is a str"):
        tp.open(Finding(), example_inputs=(torch.rand(1, 3, 32, 32),), forward="raw")  # type: ignore[arg-type]


def test_region_detectors_are_traced_in_all_parts_and_dense_ones_to_their_head():
    image = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        regions, anchored = by_regions(prepared("Keypoint R-CNN"), image), dense(prepared("RetinaNet"), image)
    assert regions.keys() == {"proposals", "boxes", "keypoint"} and regions["keypoint"].shape[:2] == (4, 4)
    assert anchored.keys() == {"cls_logits", "bbox_regression"}
