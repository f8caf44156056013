"""Files that older versions of Ultralytics saved: what stock Ultralytics loads today is loaded, with nothing of it trusted."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from torch import nn
from ultralytics.data import augment
from ultralytics.utils.loss import v8DetectionLoss

from tests.faults.archives import PICKLE, members_of, write_archive
from tests.jobs.narrow import SIDE, narrow, save_whole
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.cuts import parse_request
from tui_pruner.domain.errors import CheckpointError
from tui_pruner.frameworks.ultralytics import read_checkpoint, write_checkpoint

OLD_PACKAGES = {b"ultralytics.utils": b"ultralytics.yolo.utils", b"ultralytics.data": b"ultralytics.yolo.data"}


def load_type(name: str) -> None:
    """Stands for dill's function of that name, which is never called here."""


class LikeDill(pickle.Pickler):
    """Names Python's own types as dill does."""

    def reducer_override(self, value: Any) -> Any:
        return (load_type, (value.__name__,)) if value in (set, dict, int, type(len)) else NotImplemented


@contextmanager
def dill_in_name() -> Iterator[Any]:
    """A module for pickling whose files say that dill saved them."""
    package, module = ModuleType("dill"), ModuleType("dill._dill")
    module._load_type = load_type  # type: ignore[attr-defined]
    load_type.__module__, load_type.__qualname__ = "dill._dill", "_load_type"
    sys.modules |= {"dill": package, "dill._dill": module}
    try:
        yield SimpleNamespace(__name__="pickle", Pickler=LikeDill, dump=pickle.dump)
    finally:
        del sys.modules["dill"], sys.modules["dill._dill"]


def save_with_dill(content: dict[str, Any], file: Path) -> Path:
    with dill_in_name() as like_dill:
        torch.save(content, file, pickle_module=cast("Any", like_dill))
    return file


def save_under_old_names(content: dict[str, Any], file: Path) -> Path:
    """As Ultralytics before 8.0.136, whose packages were below `ultralytics.yolo`."""
    torch.save(content, file)
    members = members_of(file)
    for today, then in OLD_PACKAGES.items():
        members[PICKLE] = members[PICKLE].replace(b"c" + today, b"c" + then)
    write_archive(file, members)
    return file


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return narrow(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return narrow(tmp_path_factory.mktemp("classifier"), "yolov8-cls", classes=4)


def content_of(checkpoint: Checkpoint, **more: Any) -> dict[str, Any]:
    return {"model": checkpoint.model, "train_args": {"imgsz": SIDE}, **more}


def same_outputs(one: nn.Module, other: nn.Module) -> bool:
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        given, wanted = one.eval()(image), other.eval()(image)
    first = [value[0] if isinstance(value, tuple) else value for value in (given, wanted)]
    return torch.equal(*first)


def written(checkpoint: Checkpoint, file: Path, request: str) -> Checkpoint:
    analysis = analyse(checkpoint, imgsz=SIDE)
    session = PruningSession(analysis)
    session.apply([parse_request(request)])
    pruned = cut(checkpoint.model, analysis.coupling, session.removal)
    plan, kept = session.plan.plain(), session.removal.kept(analysis.coupling)
    write_checkpoint(pruned, checkpoint, file, plan=plan, kept=kept, proof={"equal": True})
    return read_checkpoint(file)


def test_file_saved_with_dill_is_loaded_without_dill(detector: Checkpoint, tmp_path: Path):
    assert "dill" not in sys.modules
    file = save_with_dill(content_of(detector, kinds={"plain": [int, dict]}), tmp_path / "dill.pt")
    assert b"cdill._dill\n_load_type" in members_of(file)[PICKLE]
    checkpoint = read_checkpoint(file)
    assert not checkpoint.trusted and checkpoint.own_names == () and checkpoint.content["kinds"] == {"plain": [int, dict]}
    assert checkpoint.model.model[0].conv._non_persistent_buffers_set == set()
    assert same_outputs(checkpoint.model, detector.model)
    names = torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "dill.pt")
    assert "dill._dill._load_type" in names, "what was let through for one file is not let through for all"
    pruned = written(checkpoint, tmp_path / "pruned.pt", "model.4.cv2=50%")
    assert pruned.model.model[4].cv2.conv.out_channels == checkpoint.model.model[4].cv2.conv.out_channels // 2


def test_other_types_of_dill_are_refused(detector: Checkpoint, tmp_path: Path):
    save_with_dill(content_of(detector, kind=type(len)), tmp_path / "function.pt")
    with pytest.raises(CheckpointError, match=r"calls dill\._dill\._load_type with what no stock model gives it"):
        read_checkpoint(tmp_path / "function.pt")


@pytest.mark.parametrize("save", [lambda content, file: torch.save(content, file), save_under_old_names], ids=["8.0.200", "8.0.100"])
def test_classifier_of_8_0_is_loaded_and_written_with_its_transforms(save: Any, classifier: Checkpoint, tmp_path: Path):
    model: Any = classifier.model
    model.transforms = T.Compose([augment.CenterCrop(SIDE), augment.ToTensor()])
    save(content_of(classifier), tmp_path / "old.pt")
    checkpoint = read_checkpoint(tmp_path / "old.pt")
    assert not checkpoint.trusted and checkpoint.warnings == ()
    crop, to_tensor = checkpoint.model.transforms.transforms
    assert (type(crop), crop.h, type(to_tensor)) == (augment.CenterCrop, SIDE, augment.ToTensor)
    assert same_outputs(checkpoint.model, model)
    pruned = written(checkpoint, tmp_path / "pruned.pt", "model.4.cv2=50%")
    assert [type(one) for one in pruned.model.transforms.transforms] == [augment.CenterCrop, augment.ToTensor]
    assert pruned.provenance is not None and "trusted" not in pruned.provenance


def test_stopped_training_of_8_0_is_loaded_with_its_loss(detector: Checkpoint, tmp_path: Path):
    model: Any = detector.model
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    loss = v8DetectionLoss(model)
    loss.hyp = {}
    model.args = {}
    model.criterion = loss
    save_under_old_names(content_of(detector, epoch=3, optimizer={}), tmp_path / "last.pt")
    del model.criterion
    assert b"cultralytics.yolo.utils.loss\nv8DetectionLoss" in members_of(tmp_path / "last.pt")[PICKLE]
    checkpoint = read_checkpoint(tmp_path / "last.pt")
    assert any("epoch 4" in line for line in checkpoint.warnings)
    assert not hasattr(checkpoint.model, "criterion") or checkpoint.model.criterion is None
    assert same_outputs(checkpoint.model, detector.model)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_])
def test_numpy_values_of_any_type_are_read(kind: Any, demo_checkpoint: Path, tmp_path: Path):
    content = torch.load(demo_checkpoint, map_location="cpu", weights_only=False)
    torch.save({**content, "train_metrics": {"fitness": kind(1)}}, tmp_path / "figures.pt")
    found = read_checkpoint(tmp_path / "figures.pt").content["train_metrics"]["fitness"]
    assert found == kind(1) and type(found) is kind


def test_names_that_only_resemble_old_ones_are_refused(detector: Checkpoint, tmp_path: Path):
    model: Any = detector.model
    model.extra = augment.RandomFlip()
    torch.save(content_of(detector), tmp_path / "flip.pt")
    del model.extra
    with pytest.raises(CheckpointError, match=r"names ultralytics\.data\.augment\.RandomFlip, which Ultralytics' own files do not"):
        read_checkpoint(tmp_path / "flip.pt")
    save_whole(detector, tmp_path / "good.pt")
    assert read_checkpoint(tmp_path / "good.pt").warnings == ()
