"""Export: Ultralytics' file is compared with the network before it takes its place; what differs is not written."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
import torch

from tests.jobs.narrow import SIDE, narrow, save, save_whole, short
from tests.odd_names import odd_path
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.domain.errors import DataError, JobError, OutputError, RequestError
from tui_pruner.engine.job_messages import ExportParameters, ExportResult
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.jobs import export
from tui_pruner.jobs.export import difference, distance, in_order, put, run_export


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A short detector with two classes, a quarter of its channels cut."""
    folder = tmp_path_factory.mktemp("narrow")
    return save(short(folder), folder / "pruned.pt")


def export_parameters(checkpoint: Checkpoint, **changes: object) -> ExportParameters:
    base = ExportParameters(checkpoint=checkpoint.path, sha256=checkpoint.sha256, imgsz=SIDE)
    return base.model_copy(update=changes)


def run_the_export(checkpoint: Checkpoint, **changes: object) -> ExportResult:
    return run_export(export_parameters(checkpoint, **changes), lambda progress: None)


@pytest.mark.parametrize(
    ("name", "suffix", "temporary"), [("onnx", ".onnx", "späces here".encode()), ("torchscript", ".torchscript", b"no utf-8 \xe9")]
)
def test_export_equals_the_model_on_the_users_images(pruned, scenes, tmp_path, monkeypatch, name, suffix, temporary):
    """Whatever the folder of temporary files is called, through which the file comes."""
    (folder := odd_path(tmp_path, temporary)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = sorted(scenes.parent.rglob("*"))
    result = run_the_export(pruned, format=name, output=str(tmp_path / f"out{suffix}"), data=str(scenes), images=3)
    assert result.equal and result.output == str(tmp_path / f"out{suffix}")
    assert 0 <= result.relative_difference < 1e-4
    assert (result.images, result.drawn, result.notes) == (3, False, [])
    assert result.bytes == Path(result.output).stat().st_size > 100_000
    assert result.source_bytes == Path(pruned.path).stat().st_size
    assert sorted(scenes.parent.rglob("*")) == before and list(folder.iterdir()) == []
    assert sorted(path.name for path in Path(pruned.path).parent.iterdir()) == ["pruned.pt", "short.yaml"]


def test_export_with_different_outputs_is_not_written(pruned, monkeypatch):
    def off_by_a_hundredth(file, device):
        for note, run in export.run_torchscript(file):
            yield note, lambda image, run=run: [one * 1.01 for one in run(image)]

    monkeypatch.setitem(export.RUNTIMES, "torchscript", off_by_a_hundredth)
    result = run_the_export(pruned, format="torchscript", imgsz=40)
    assert result.equal is False and result.output is None
    assert result.relative_difference == pytest.approx(0.01, rel=1e-2)
    assert (result.images, result.drawn) == (4, True)
    assert result.notes == ["image side 40 rounded up to 64, a multiple of the stride"]
    assert not Path(pruned.path).with_suffix(".torchscript").exists()


PAD_FUSION = "right only without onnxruntime's Pad_Fusion: create sessions with disabled_optimizers=['Pad_Fusion']"


def test_wrong_optimisation_of_the_runtime_is_named(pruned, tmp_path, monkeypatch):
    """Injected, since newer runtimes have it right."""

    def wrong_as_it_comes(file, device):
        (said, run), *others = export.run_onnx(file)
        yield said, lambda image: [one * 1.01 for one in run(image)]
        yield from others

    monkeypatch.setitem(export.RUNTIMES, "onnx", wrong_as_it_comes)
    result = run_the_export(pruned, format="onnx", output=str(tmp_path / "tiny.onnx"))
    assert result.equal and result.output == str(tmp_path / "tiny.onnx")
    assert result.notes == [PAD_FUSION]


def test_export_names_runtimes_that_compute_it_wrong(tmp_path):
    """onnxruntime up to 1.31 moves the zeros around YOLOv3-tiny's last map into the pooling behind; 1.32 does not."""
    import onnxruntime

    tiny = read_checkpoint(save_whole(narrow(tmp_path, "yolov3-tiny"), tmp_path / "tiny.pt"))
    result = run_the_export(tiny, format="onnx")
    assert result.equal and result.output == str(tmp_path / "tiny.onnx")
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).numpy()
    outputs = []
    for disabled in ([], ["Pad_Fusion"]):
        session = onnxruntime.InferenceSession(result.output, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)
        outputs.append(torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image})[0]))
    wrong = not torch.allclose(*outputs, atol=1e-3 * float(outputs[1].abs().max()))
    assert result.notes == ([PAD_FUSION] if wrong else [])


def test_missing_runtime_leaves_the_export_uncompared_and_is_reported(pruned, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = run_the_export(pruned, format="onnx", output=str(tmp_path / "out.onnx"))
    assert result.equal is None and result.max_abs_difference is None
    assert Path(result.output).is_file()
    assert result.notes == ["not compared: the runtime of onnx is not installed"]


def test_missing_package_of_the_exporter_is_named(pruned, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(JobError, match="export to onnx needs the package onnx: pip install onnx"):
        run_the_export(pruned, format="onnx", output=str(tmp_path / "out.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_impossible_export_is_refused_in_one_line(pruned, tmp_path):
    with pytest.raises(RequestError, match=r"^no format 'onxx': Ultralytics exports to torchscript, onnx, openvino"):
        run_the_export(pruned, format="onxx")
    with pytest.raises(RequestError, match="cannot be exported to engine here: ") as caught:
        run_the_export(pruned, format="engine")
    assert "\n" not in str(caught.value)
    (tmp_path / "there.onnx").touch()
    with pytest.raises(OutputError, match=r"there\.onnx exists already: choose another name with -o or give --force"):
        run_the_export(pruned, output=str(tmp_path / "there.onnx"))
    with pytest.raises(OutputError, match=r"no folder .*none, create it first"):
        run_the_export(pruned, output=str(tmp_path / "none" / "out.onnx"))


def test_exported_folder_is_replaced_as_a_whole(tmp_path):
    for name, content in (("old", "before"), ("new", "after")):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(content)
    (tmp_path / "old" / "metadata.yaml").touch()
    put(tmp_path / "new", tmp_path / "old", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new"]


def test_other_folders_and_the_model_itself_are_never_replaced(pruned, tmp_path):
    (tmp_path / "mine.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is a folder of other files"):
        run_the_export(pruned, output=str(tmp_path), force=True)
    assert (tmp_path / "mine.txt").read_text() == "years of work"
    (tmp_path / "link.pt").symlink_to(pruned.path)
    with pytest.raises(OutputError, match="is the model that is exported"):
        run_the_export(pruned, output=str(tmp_path / "link.pt"), force=True)


def test_complete_exported_folder_of_any_format_can_be_replaced(tmp_path):
    for number, names in enumerate(export.EXPORTED):
        folder = tmp_path / str(number)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        assert export.is_export(folder)
        (folder / names[0]).unlink()
        (folder / "other").touch()
        assert not export.is_export(folder)


def test_comparison_without_readable_images_is_an_error(pruned, scenes, tmp_path):
    for image in (scenes.parent / "images/val").iterdir():
        image.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 3 images can be read: nothing can be compared"):
        run_the_export(pruned, data=str(scenes), images=3, output=str(tmp_path / "out.onnx"))
    assert not (tmp_path / "out.onnx").exists()


def test_difference_is_that_of_the_worst_output_and_nan_counts_as_infinite():
    assert distance(torch.tensor([4.0, -8.0]), torch.tensor([4.0, -7.0])) == export.Difference(1.0, 0.125)
    assert distance(torch.tensor([1.0]), torch.tensor([float("nan")])).relative == float("inf")


def test_comparison_ignores_the_order_of_ranked_detections():
    wanted = torch.tensor([[[1.0, 0.9], [5.0, 0.8999], [9.0, 0.1]]])
    given = wanted[:, [1, 0, 2]]
    assert torch.equal(in_order(wanted, given), wanted)


def test_outputs_of_another_shape_are_refused(pruned):
    with pytest.raises(JobError, match="gives outputs of shapes"):
        difference(pruned.model, "onnx", lambda image: [image], [torch.rand(1, 3, SIDE, SIDE)])
