"""Writing a pruned model: stock Ultralytics can use the file, and a failure leaves no file behind."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning
from torch import nn

from tests.faults.nth_call import quick_verification
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.model.copies import sharing_weights
from tui_pruner.domain.errors import OutputError, VerificationError
from tui_pruner.frameworks.ultralytics import (
    WrittenFile,
    build_from_yaml,
    check_output,
    contents,
    read_checkpoint,
    write_checkpoint,
    writing,
)
from tui_pruner.frameworks.ultralytics import contents as output
from tui_pruner.frameworks.ultralytics.contents import guard, unguard
from tui_pruner.frameworks.ultralytics.reload_check import CheckFailed, Examination, named_outputs
from tui_pruner.storage import paths

DIGITS = paths.demo_folder() / "digits.pt"
REMOVED = list(range(0, 128, 3))
PLAN = {"format": 1, "steps": [{"name": "one", "cuts": [{"layer": "model.8.m.0.cv1", "amount": "keep:85"}]}]}
KEPT = {"model.8.m.0.cv1.conv.weight": {"0": [index for index in range(128) if index not in REMOVED]}}
PROOF = {"equal": True, "relative_difference": 3e-7}
CHECKS = [
    "archive intact", "known classes only", "loads in Ultralytics", "same outputs", "same outputs when fused", "forward_split",
    "forward of training",
]  # fmt: skip


def cut_by_hand(model: nn.Module) -> nn.Module:
    """43 of the 128 inner channels of block 8's bottleneck removed."""
    pruned = sharing_weights(model)
    first, second = pruned.model[8].m[0].cv1, pruned.model[8].m[0].cv2
    torch_pruning.prune_conv_out_channels(first.conv, REMOVED)
    torch_pruning.prune_batchnorm_out_channels(first.bn, REMOVED)
    torch_pruning.prune_conv_in_channels(second.conv, REMOVED)
    return pruned


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return read_checkpoint(DIGITS)


@pytest.fixture
def pruned(source: Checkpoint) -> nn.Module:
    return cut_by_hand(source.model)


@pytest.fixture(scope="module")
def written(source: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> WrittenFile:
    path = tmp_path_factory.mktemp("written") / "pruned.pt"
    return write_checkpoint(cut_by_hand(source.model), source, path, plan=PLAN, kept=KEPT, proof=PROOF)


@pytest.fixture
def quickly_checked() -> Iterator[None]:
    """Without the check in a process of its own, which has tests of its own here."""
    with quick_verification():
        yield


def write(model: nn.Module, source: Checkpoint, path: Path, **options: Any) -> WrittenFile:
    return write_checkpoint(model, source, path, plan=PLAN, kept=KEPT, proof=PROOF, **options)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def raw(path: str | Path) -> dict[str, Any]:
    return torch.load(path, weights_only=False)


def test_file_is_in_place_only_after_every_check(written: WrittenFile) -> None:
    content = Path(written.output).read_bytes()
    assert [check.name for check in written.checks] == CHECKS
    assert all(check.ok for check in written.checks)
    assert (written.bytes, written.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert names_in(Path(written.output).parent) == ["pruned.pt"]
    assert Path(written.output).stat().st_mode & 0o777 == 0o666 & ~current_umask()


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 16), nn.BatchNorm2d(16, track_running_stats=False), nn.Identity()])
def test_fusing_error_that_stock_has_too_is_not_reported(source: Checkpoint, norm: nn.Module) -> None:
    examined = Examination({"checkpoint": "", "expected": "", "own_names": []})
    examined.model, examined.exact_image = sharing_weights(source.model), torch.rand(1, 3, 32, 32, dtype=torch.float64)
    examined.outputs = named_outputs(copy.deepcopy(examined.model).double(), examined.exact_image)
    assert "relative difference" in examined.same_outputs_when_fused()
    examined.model.model[0].bn = norm
    assert f"model.0.bn ({type(norm).__name__}) is no BatchNorm2d" in examined.same_outputs_when_fused()


def test_model_that_fails_to_fuse_fails_the_check(source: Checkpoint) -> None:
    examined = Examination({"checkpoint": "", "expected": "", "own_names": []})
    examined.model = sharing_weights(source.model)
    del examined.model.model[0].bn.running_mean
    with pytest.raises(CheckFailed):
        examined.same_outputs_when_fused()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_file_works_in_stock_ultralytics_and_train_explains_how_to_fine_tune(written: WrittenFile, tmp_path: Path) -> None:
    script = Path(__file__).with_name("stock_use.py")
    done = subprocess.run(
        [sys.executable, "-I", script, written.output, tmp_path], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["predicted"] == 1
    assert 0 <= answer["map"] <= 1
    assert answer["exported_bytes"] > written.bytes
    assert "PRUNED MODEL" in answer["train"]
    assert "t = DetectionTrainer(" in answer["train"]
    assert "t.model = YOLO('pruned.pt').model; t.train()" in answer["train"]
    assert answer["structure_kept"] == {"best.pt": True, "last.pt": True}
    assert answer["parameters"] == 184
    tuned = read_checkpoint(answer["tuned"])
    assert tuned.original_yaml["backbone"][0] == [-1, 1, "Conv", [64, 3, 2]]
    assert tuned.model.model[8].m[0].cv1.conv.out_channels == 85


def test_provenance_is_read_back_from_the_file(written: WrittenFile, source: Checkpoint) -> None:
    again = read_checkpoint(written.output)
    assert again.provenance is not None
    assert again.provenance["plan"] == PLAN
    assert again.provenance["kept"] == KEPT
    assert again.provenance["proof"] == PROOF
    assert again.provenance["source"] == {"name": "digits.pt", "sha256": source.sha256, "parameters": 3_012_798}
    assert again.original_yaml == source.original_yaml
    assert (again.family, again.classes, again.names, again.default_imgsz) == ("YOLOv8n", 10, source.names, 160)
    assert again.model.model[8].m[0].cv1.conv.out_channels == 85


@pytest.mark.usefixtures("quickly_checked")
def test_file_has_stock_classes_in_half_precision_and_no_cached_values(pruned: nn.Module, source: Checkpoint, tmp_path: Path) -> None:
    pruned(torch.zeros(1, 3, 64, 64))
    head = pruned.model[-1]
    assert head.shape is not None
    write(pruned, source, tmp_path / "out.pt")
    names = torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "out.pt")
    assert all(name.startswith(("ultralytics.", "torch.")) for name in names)
    model = raw(tmp_path / "out.pt")["model"]
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float16, torch.int64}
    assert {"anchors", "strides", "shape"}.isdisjoint(vars(model.model[-1]))
    assert model.model[-1].stride.tolist() == [8, 16, 32]
    assert not model.training
    assert [block.i for block in model.model] == list(range(23))
    assert model.model[8].np == sum(parameter.numel() for parameter in model.model[8].parameters())


def test_dictionary_has_the_keys_that_ultralytics_saves(written: WrittenFile, source: Checkpoint) -> None:
    content = raw(written.output)
    assert content["ema"] is None
    assert content["optimizer"] is None
    assert content["epoch"] == -1
    assert content["train_args"] == source.content["train_args"]
    assert {"date", "version", "license", "docs", "model", "tui_pruner"} <= set(content)


@pytest.mark.usefixtures("quickly_checked")
def test_saving_changes_neither_the_model_in_memory_nor_the_source(pruned: nn.Module, source: Checkpoint, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in pruned.state_dict().items()}
    content, modified = DIGITS.read_bytes(), DIGITS.stat().st_mtime_ns
    backbone = pruned.yaml["backbone"]
    write(pruned, source, tmp_path / "out.pt")
    assert all(torch.equal(tensor, state[name]) and tensor.dtype == state[name].dtype for name, tensor in pruned.state_dict().items())
    assert pruned.yaml["backbone"] == backbone == source.original_yaml["backbone"]
    assert (DIGITS.read_bytes(), DIGITS.stat().st_mtime_ns) == (content, modified)


def test_file_contains_no_machine_details_and_the_check_leaves_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "settings"
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(settings))
    built = build_from_yaml("yolov8n.yaml", classes=2)
    write(built.model, built, tmp_path / "out.pt")
    with zipfile.ZipFile(tmp_path / "out.pt") as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    for place in (tmp_path, Path.cwd(), Path.home(), Path(sys.prefix)):
        assert str(place).encode() not in pickled
    assert not settings.exists()


@pytest.mark.usefixtures("quickly_checked")
def test_pruned_file_can_be_pruned_again_and_keeps_its_original_architecture(
    written: WrittenFile, source: Checkpoint, tmp_path: Path
) -> None:
    first = read_checkpoint(written.output)
    write(first.model, first, tmp_path / "second.pt")
    second = read_checkpoint(tmp_path / "second.pt")
    assert second.original_yaml == source.original_yaml
    assert second.provenance is not None
    assert second.provenance["source"]["sha256"] == written.sha256


@pytest.mark.usefixtures("quickly_checked")
def test_existing_file_is_replaced_only_with_force(pruned: nn.Module, source: Checkpoint, tmp_path: Path) -> None:
    existing = tmp_path / "out.pt"
    existing.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        write(pruned, source, existing)
    assert existing.read_bytes() == b"precious"
    done = write(pruned, source, existing, force=True)
    assert existing.stat().st_size == done.bytes


@pytest.mark.usefixtures("quickly_checked")
def test_file_that_appears_during_the_check_is_not_overwritten(pruned: nn.Module, source: Checkpoint, tmp_path: Path) -> None:
    target = tmp_path / "out.pt"

    def someone_else_writes(message: str) -> None:
        if message.startswith("verifying"):
            target.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="another program"):
        write(pruned, source, target, on_progress=someone_else_writes)
    assert target.read_bytes() == b"theirs"
    assert names_in(tmp_path) == ["out.pt"]


@pytest.mark.usefixtures("quickly_checked")
def test_file_is_put_into_place_without_hard_links(
    pruned: nn.Module, source: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(writing.os, "link", no_links)
    done = write(pruned, source, tmp_path / "out.pt")
    assert (tmp_path / "out.pt").stat().st_size == done.bytes
    assert names_in(tmp_path) == ["out.pt"]


class Foreign(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * torch.sigmoid(image)


def stale_attribute(model: Any) -> None:
    model.model[2].c -= 1


def foreign_class(model: Any) -> None:
    model.model[0].act = Foreign()


@pytest.mark.parametrize(
    ("harm", "check"),
    [(stale_attribute, "forward_split"), (foreign_class, "known classes only")],
)
def test_model_that_stock_ultralytics_cannot_use_is_not_written(
    harm: Callable[[Any], None], check: str, pruned: nn.Module, source: Checkpoint, tmp_path: Path
) -> None:
    existing = tmp_path / "out.pt"
    existing.write_bytes(b"precious")
    harm(pruned)
    with pytest.raises(VerificationError, match=f"its check '{check}'") as caught:
        write(pruned, source, existing, force=True)
    assert caught.value.exit_status == 3
    assert existing.read_bytes() == b"precious"
    assert names_in(tmp_path) == ["out.pt"]


def test_byte_changed_by_the_disk_is_detected(
    pruned: nn.Module, source: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad_disk(path: Path, data: memoryview) -> None:
        content = bytearray(data)
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(writing, "write_durably", bad_disk)
    with pytest.raises(VerificationError, match="'archive intact'"):
        write(pruned, source, tmp_path / "out.pt")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("factor", [1.05, float("nan")])
def test_weights_that_differ_from_those_in_memory_are_detected(
    factor: float, pruned: nn.Module, source: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serialised = writing._serialised

    def with_one_weight_changed(dictionary: dict[str, Any]) -> memoryview:
        other = contents.for_saving(pruned, source)
        with torch.no_grad():
            other.model[8].m[0].cv2.conv.weight.mul_(factor)
        return serialised({**dictionary, "model": other})

    monkeypatch.setattr(writing, "_serialised", with_one_weight_changed)
    with pytest.raises(VerificationError, match="'same outputs' \\(relative difference"):
        write(pruned, source, tmp_path / "out.pt")
    assert names_in(tmp_path) == []


def test_fused_model_is_not_saved(pruned: Any, source: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="fused"):
        write(copy.deepcopy(pruned).fuse(verbose=False), source, tmp_path / "out.pt")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EIO, "Input/output error")]
)
def test_failed_disk_write_leaves_no_file(
    number: int, expected: str, pruned: nn.Module, source: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writing.os, "fsync", refuse)
    with pytest.raises(OutputError, match=expected) as caught:
        write(pruned, source, tmp_path / "out.pt")
    assert "\n" not in str(caught.value)
    assert names_in(tmp_path) == []


def test_interruption_leaves_no_file(pruned: nn.Module, source: Checkpoint, tmp_path: Path) -> None:
    def interrupt(message: str) -> None:
        if message.startswith("verifying"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(pruned, source, tmp_path / "out.pt", on_progress=interrupt)
    assert names_in(tmp_path) == []


def the_input(folder: Path) -> Path:
    return folder / "best.pt"


def a_link_to_the_input(folder: Path) -> Path:
    (folder / "link.pt").symlink_to(folder / "best.pt")
    return folder / "link.pt"


def a_second_name_of_the_input(folder: Path) -> Path:
    (folder / "other.pt").hardlink_to(folder / "best.pt")
    return folder / "other.pt"


def an_existing_file(folder: Path) -> Path:
    (folder / "old.pt").write_bytes(b"old")
    return folder / "old.pt"


REFUSED_PLACES: list[tuple[Callable[[Path], Path], bool, str]] = [
    (the_input, True, "is the model that is being pruned"),
    (a_link_to_the_input, True, "is the model that is being pruned"),
    (a_second_name_of_the_input, True, "is the model that is being pruned"),
    (an_existing_file, False, "exists already"),
    (lambda folder: folder / "missing" / "out.pt", False, "no folder"),
    (lambda folder: folder, True, "is a folder"),
    (lambda folder: folder / "out.onnx", False, "does not end in .pt"),
    (lambda folder: folder / "my-yolov5n.pt", False, "looked up as my-yolov5nu.pt by Ultralytics"),
    (lambda folder: folder / f"{'x' * 300}.pt", False, "name is too long"),
    (lambda folder: folder / "best.pt" / "out.pt", False, "no folder"),
]


@pytest.mark.parametrize(("place", "force", "expected"), REFUSED_PLACES)
def test_unwritable_output_is_refused_before_work_starts(place: Callable[[Path], Path], force: bool, expected: str, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"model")
    with pytest.raises(OutputError, match=expected) as caught:
        check_output(place(tmp_path), tmp_path / "best.pt", force)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    assert (tmp_path / "best.pt").read_bytes() == b"model"


def test_full_or_read_only_folder_is_refused_before_work_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "best.pt").write_bytes(b"model")
    usage = output.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(OutputError, match="no space left"):
        check_output(tmp_path / "out.pt", tmp_path / "best.pt", False)
    monkeypatch.setattr(output.os, "access", lambda *arguments: False)
    with pytest.raises(OutputError, match="read-only for you"):
        check_output(tmp_path / "out.pt", tmp_path / "best.pt", False)


def test_unreadable_output_is_refused_since_it_may_be_the_original(tmp_path, monkeypatch):
    def refused(file: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "out.pt").touch()
    stages = [{"kind": "prune", "source": {"name": "best.pt", "sha256": "0" * 64}}]
    source = SimpleNamespace(unwritable="", path="pruned.pt", provenance={"stages": stages})
    monkeypatch.setattr(contents, "fingerprint", refused)
    with pytest.raises(OutputError, match=r"out\.pt cannot be written \(no permission\): choose another folder"):
        contents.require_writable(source, tmp_path / "out.pt")


def test_usable_output_is_returned_with_links_resolved(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert check_output(tmp_path / "link" / "out.pt", "yolov8n.yaml", False) == (tmp_path / "folder" / "out.pt").resolve()


def test_only_plain_data_is_stored_in_the_provenance() -> None:
    assert contents.plain({"a": (1, np.int64(2)), 3: np.arange(2), "n": None}) == {"a": [1, 2], 3: [0, 1], "n": None}
    with pytest.raises(TypeError, match="Path"):
        contents.plain({"where": Path("somewhere")})


def test_guard_is_idempotent_and_removed_exactly() -> None:
    architecture = {"nc": 3, "backbone": [[-1, 1, "Conv", [64, 3, 2]]], "head": [[-1, 1, "Detect", ["nc"]]]}
    guarded = guard(architecture, "detect")
    assert guarded["backbone"] != architecture["backbone"]
    assert guarded["head"] == architecture["head"]
    assert unguard(guarded) == architecture == unguard(architecture)
    assert guard(guarded, "detect") == guarded


def test_values_beyond_half_precision_are_clipped_to_its_largest(source: Checkpoint) -> None:
    pruned = cut_by_hand(source.model)
    pruned.model[0].bn.running_var = torch.full_like(pruned.model[0].bn.running_var, 1e6)
    assert contents.for_saving(pruned, source).model[0].bn.running_var.unique().tolist() == [65504.0]
