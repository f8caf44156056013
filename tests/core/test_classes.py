"""Classes that are cut: the outputs of those that stay are the original's, by a twin of the test's own; names and numbers follow."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from tests.core.conftest import ask, proof_of
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.pruning.classes import class_group, kept_classes, numberings
from tui_pruner.core.pruning.preview import dry_run
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.cuts import Request, parse_request
from tui_pruner.domain.errors import PlanError, RequestError
from tui_pruner.engine.views import session_view
from tui_pruner.frameworks.ultralytics import build_from_yaml, read_checkpoint
from tui_pruner.frameworks.ultralytics.writing import cut_prove_write

CLASSES, KEPT, NEVER = 5, [1, 4], -1e6
HEADS: dict[str, list[Any]] = {
    "Detect": ["nc"],
    "v10Detect": ["nc"],
    "Segment": ["nc", 8, 16],
    "Segment26": ["nc", 8, 16],
    "Pose": ["nc", [3, 3]],
    "OBB": ["nc", 1],
    "Classify": ["nc"],
    "RTDETRDecoder": ["nc", 16, 40, 2, 2, 1, 24],
}
SETTINGS: dict[str, dict[str, Any]] = {
    "Pose": {"kpt_shape": [3, 3]},
    "Segment26": {"end2end": True, "reg_max": 1},
}
END_TO_END = frozenset({"v10Detect", "Segment26"})
SCORES = ("cv3", "semseg", "linear", "score_head")
"""What the layers that score classes have in their names."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Analysis]:
    """Builds a network of two convolutions and a head of a class, with five classes by name."""
    made: dict[str, Analysis] = {}

    def build(head: str) -> Analysis:
        if head not in made:
            rows = [[-1, 1, "Conv", [16, 3, 4]], [-1, 1, "Conv", [24, 3, 2]]]
            sources: Any = 1 if head == "Classify" else [0, 1]
            content = {"nc": CLASSES, **SETTINGS.get(head, {}), "backbone": rows, "head": [[sources, 1, head, HEADS[head]]]}
            file = tmp_path_factory.mktemp(head) / "tiny.yaml"
            file.write_text(yaml.safe_dump(content))
            made[head] = analyse(prepared(build_from_yaml(str(file)), head), imgsz=64)
        return made[head]

    return build


def prepared(checkpoint: Checkpoint, head: str) -> Checkpoint:
    """Names, and scores that are not all 1: a choice of the likeliest would be one among equals."""
    model: Any = checkpoint.model
    model.names = dict(enumerate(["cat", "dog", "cow", "owl", "bat"]))
    if head in END_TO_END:
        model.model[-1].end2end = True
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in SCORES) and parameter.shape[0] == CLASSES:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 30)
    return checkpoint


def mask_other_classes(model: nn.Module) -> nn.Module:
    """The original in float64 with classes that do not stay as unlikely as can be."""
    twin = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if any(part in name for part in SCORES) and parameter.shape[0] == CLASSES:
                for number in set(range(CLASSES)).difference(KEPT):
                    parameter[number] = NEVER if parameter.ndim == 1 else 0
    return twin


def output_tensors(head: str, output: Any, classes: list[int]) -> list[Tensor]:
    """The tensors of an output in the numbering of `classes`."""
    labels = {old: new for new, old in enumerate(classes)}
    if head == "Classify":
        return [output[0][:, classes], output[1][:, classes]]
    if head == "RTDETRDecoder":
        return [map_classes(output[0], labels), output[1][0], output[1][1][..., classes], output[1][2], output[1][3][..., classes]]
    main = output[0][0] if head.startswith("Segment") else output[0]
    count = max(classes) + 1 if classes != list(range(len(classes))) else len(classes)
    dense = [main[:, :4], main[:, [4 + k for k in classes]], main[:, 4 + (CLASSES if count > len(classes) else len(classes)) :]]
    first = [map_classes(main, labels)] if head in END_TO_END else dense
    raw = output[1].values() if head in END_TO_END else [output[1]]
    return [*first, *(part[name][:, classes] if name == "scores" else part[name] for part in raw for name in ("scores", "boxes"))]


def map_classes(detections: Tensor, labels: dict[int, int]) -> Tensor:
    """Final detections whose class is among the labels, with the new number."""
    found = detections.clone()
    found[..., 5].apply_(lambda old: labels[int(old)])
    return found


@pytest.mark.parametrize("head", HEADS)
def test_outputs_of_kept_classes_are_the_originals(built: Callable[[str], Analysis], head: str) -> None:
    analysis = built(head)
    model: Any = analysis.checkpoint.model
    found = ask(analysis, "classes=dog,4")
    pruned: Any = copy.deepcopy(cut(model, analysis.coupling, found.removal)).double().eval()
    image = torch.rand((2, 3, 128, 128), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        actual, expected = output_tensors(head, pruned(image), [0, 1]), output_tensors(head, mask_other_classes(model)(image), KEPT)
    assert [part.shape for part in actual] == [part.shape for part in expected]
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(actual, expected, strict=True))
    assert pruned.names == {0: "dog", 1: "bat"} and model.names[0] == "cat"
    assert numberings(pruned) == [{"names": ["cat", "dog", "cow", "owl", "bat"], "kept": KEPT}]
    assert getattr(pruned.model[-1], "nc", 2) == 2
    if head == "RTDETRDecoder":
        embedding = model.model[-1].denoising_class_embed.weight
        assert torch.equal(pruned.model[-1].denoising_class_embed.weight, embedding[KEPT].double())


@pytest.mark.parametrize("head", ["Detect", "Classify", "RTDETRDecoder", "Segment26"])
def test_proof_of_classes_and_channels_holds_and_fails_for_another_class(built: Callable[[str], Analysis], head: str) -> None:
    analysis = built(head)
    model, coupling = analysis.checkpoint.model, analysis.coupling
    classes = ask(analysis, "classes=dog,bat").removal
    both = classes.together(ask(analysis, "model.0=25%").removal)
    assert proof_of(analysis, classes).equal
    assert proof_of(analysis, both).equal
    group = class_group(coupling)
    assert group is not None
    wrong: Any = cut(model, coupling, Removal({**both.places, group.number: np.array([0, 2, 4])}))
    assert "classes are" in prove(model, wrong, coupling, both).reason
    wrong.names = {0: "dog", 1: "bat"}
    assert not prove(model, wrong, coupling, both).equal


def test_swapped_classes_are_not_proved(built: Callable[[str], Analysis]) -> None:
    analysis = built("Detect")
    removal = ask(analysis, "classes=dog,bat").removal
    pruned: Any = cut(analysis.checkpoint.model, analysis.coupling, removal)
    for level in pruned.model[-1].cv3:
        for name in ("weight", "bias"):
            setattr(level[-1], name, nn.Parameter(getattr(level[-1], name).detach().flip(0)))
    assert not prove(analysis.checkpoint.model, pruned, analysis.coupling, removal).equal


@pytest.mark.parametrize("head", HEADS)
def test_the_shape_of_a_heads_output_is_told_after_the_cut(head: str, built: Callable[[str], Analysis]) -> None:
    session = PruningSession(built(head))
    session.apply([parse_request("classes=dog,bat")])
    block = session.analysis.blocks[-1].path
    told = session_view(session).blocks[-1].after
    output: Any = cut(session.analysis.checkpoint.model, session.analysis.coupling, session.removal).eval()(torch.rand(1, 3, 64, 64))
    while isinstance(output, (tuple, list)):
        output = output[0]
    assert tuple(told) == session.widths.block_shape(block) == tuple(output.shape[1:])


def test_plan_with_classes_is_replayed(built: Callable[[str], Analysis]) -> None:
    session = PruningSession(built("Detect"))
    session.apply([parse_request("classes=keep:dog, BAT,3"), parse_request("model.0=25%")])
    session.apply([parse_request("classes=dog,bat")])
    again = PruningSession(session.analysis)
    again.load(session.plan.plain())
    assert kept_classes(session.analysis.coupling, again.removal) == KEPT
    assert again.widths.size == session.widths.size
    (boxes_and_classes, *_), whole = session.widths.block_shape("model.2"), session.arithmetic.whole.block_shape("model.2")
    assert (boxes_and_classes, whole[0]) == (4 + len(KEPT), 4 + CLASSES)
    assert dry_run(session.analysis, session.removal).ok
    by_hand = {**session.plan.plain(), "steps": [{"cuts": [{"layer": "classes", "amount": "dog,bat"}]}]}
    again.load(by_hand)
    assert kept_classes(session.analysis.coupling, again.removal) == KEPT


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("classes=fox", "no class 'fox' in this model; there are cat, dog"),
        ("classes=5", "no class '5'"),
        ("classes=cat,dog,cow,owl,bat", "keeps all 5 classes"),
        ("classes=", "which classes"),
    ],
)
def test_refusal_of_a_cut_of_classes_says_what_to_do(built: Callable[[str], Analysis], asked: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        PruningSession(built("Detect")).apply([parse_request(asked)])


def test_removed_class_cannot_be_kept_in_a_later_step(built: Callable[[str], Analysis]) -> None:
    session = PruningSession(built("Detect"))
    session.apply([parse_request("classes=dog,bat")])
    with pytest.raises(RequestError, match="'cat' was removed"):
        session.apply([Request("classes", "keep:cat")])
    group = class_group(session.analysis.coupling)
    assert group is not None
    with pytest.raises(PlanError, match="keep at least one"):
        Removal({group.number: np.arange(CLASSES)}).check(session.analysis.coupling)


def test_heads_that_read_text_are_refused(tmp_path: Path) -> None:
    rows = [[-1, 1, "Conv", [16, 3, 4]], [-1, 1, "Conv", [24, 3, 2]]]
    file = tmp_path / "world.yaml"
    file.write_text(yaml.safe_dump({"nc": 3, "backbone": rows, "head": [[[0, 1], 1, "SemanticSegment", ["nc"]]]}))
    with pytest.raises(RequestError, match="the classes of a SemanticSegment cannot be cut"):
        PruningSession(analyse(build_from_yaml(str(file)), imgsz=64)).apply([parse_request("classes=0")])


def test_channels_are_ranked_by_the_weights_of_kept_classes_only(built: Callable[[str], Analysis]) -> None:
    analysis = built("Classify")
    linear: Any = analysis.checkpoint.model.model[-1].linear  # type: ignore[index]
    layer = next(layer for layer in analysis.layers.values() if layer.path.endswith("conv.conv"))
    before = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[[0, 2, 3], 0] = 1e4  # only classes that go read the first channel
        linear.weight[KEPT, 1:] = 1.0
    try:
        fresh = analyse(analysis.checkpoint, imgsz=64)
        (group,) = fresh.coupling.output_groups(layer.path)
        whole = ask(fresh, f"{layer.name}=keep:{group.channels - 1}")
        some = ask(fresh, "classes=dog,bat", f"{layer.name}=keep:{group.channels - 1}")
    finally:
        with torch.no_grad():
            linear.weight.copy_(before)
    assert 0 not in whole.removal.of(group) and some.removal.of(group).tolist() == [0]


def test_written_file_works_in_stock_ultralytics_and_can_be_cut_again(built: Callable[[str], Analysis], tmp_path: Path) -> None:
    from ultralytics import YOLO

    session = PruningSession(built("Detect"))
    session.apply([parse_request("classes=dog,owl,bat")])
    cut_prove_write(session, tmp_path / "three.pt")
    stock = YOLO(str(tmp_path / "three.pt"))
    assert stock.names == {0: "dog", 1: "owl", 2: "bat"}
    (result,) = stock.predict(np.full((64, 64, 3), 90, np.uint8), imgsz=64, conf=0.0001, verbose=False)
    assert result.names == stock.names and set(result.boxes.cls.int().tolist()) <= {0, 1, 2}
    checkpoint = read_checkpoint(tmp_path / "three.pt")
    assert checkpoint.classes == 3 and checkpoint.model.yaml["nc"] == 3  # type: ignore[index]
    assert checkpoint.provenance is not None
    assert checkpoint.provenance["classes"] == [{"names": ["cat", "dog", "cow", "owl", "bat"], "kept": [1, 3, 4]}]
    analysis = analyse(checkpoint, imgsz=64)
    pruned = cut(checkpoint.model, analysis.coupling, ask(analysis, "classes=bat").removal)
    assert [one["kept"] for one in numberings(pruned)] == [[4], [2]]
